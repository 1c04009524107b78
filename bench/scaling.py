"""How the cost of a forward pass grows: with threads, batch, resolution and width; and an estimate for many cores.

    make bench-scaling            or    python3 bench/scaling.py --build build [--quick]

Needs nothing but fdm (`fdm bench --serve`, initial weights).  In each series the members take turns round by round; the
exponent p of time ~ FLOPs^p is fitted in every round.  Writes bench/results/MACHINE-scaling.json and .md.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contenders
import machine
import peers
import report
import roofline
from contenders import say


def series(args):
    """(name, unit, [(value, extra options)]); the network is the CIFAR-10 one but for what varies."""
    threads = sorted({t for t in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, args.threads) if t <= args.threads})
    batches = [1, 2, 4, 8] if args.quick else [1, 2, 4, 8, 16, 32]
    sizes = [16, 32] if args.quick else [16, 32, 64]
    widths = [32, 64, 128] if args.quick else [32, 64, 96, 128, 160, 192]
    n = str(args.batch)
    all_threads = ["--threads", str(args.threads)]

    def config(**changes):
        return ["--batch", n, *all_threads, "--config", json.dumps(changes)]

    yield "threads", "threads", [(t, ["--threads", str(t), "--batch", n]) for t in threads]
    yield "batch", "N", [(b, ["--batch", str(b), *all_threads]) for b in batches]
    yield "resolution", "pixels along a side", [(r, config(img_resolution=r)) for r in sizes]
    yield "width", "M", [(m, config(model_channels=m)) for m in widths]


def measure(args, clock, name, unit, members):
    """One series: rows of {value, flops, seconds quartiles, of_peak}."""
    say(f"{name}: {', '.join(str(v) for v, _ in members)}")
    fdm = os.path.join(args.build, "fdm")
    specs = [contenders.Spec(str(v), [fdm, "bench", "--serve", "--network", *options, *args.fdm_option], "fdm")
             for v, options in members]
    left_out = {}
    started = contenders.start(specs, args.threads, left_out)
    flops = {c.key: float(c.ask("flops")[0]) for c in started}
    contenders.alternate(started, args.rounds, clock, args.pause)
    rows = []
    for c in started:
        q = contenders.quartiles(c.times)
        share = [flops[c.key] / t / p * 1e-9 for t, p in zip(c.times, c.peaks)]
        rows.append({"value": int(c.key), "flops": flops[c.key], "seconds": q, "times": c.times,
                     "of_peak": contenders.quartiles(share)})
        c.close()
    return {"name": name, "unit": unit, "rows": rows, "left_out": left_out}


def slope(x, y):
    """Of y over x by least squares."""
    mx, my = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def exponent(rows):
    """p of seconds ~ FLOPs^p: quartiles over the rounds of each round's fit; None where the FLOPs do not vary."""
    if len({r["flops"] for r in rows}) < 2:
        return None
    x = [math.log(r["flops"]) for r in rows]
    return contenders.quartiles([slope(x, [math.log(t) for t in times]) for times in zip(*(r["times"] for r in rows))])


def series_lines(s):
    lines = [f"## {s['name'].capitalize()}", ""]
    first = s["rows"][0]
    head = [s["unit"], "GFLOP", "time, median (quartiles)", "ms per GFLOP", "against the first", "of peak"]
    body = []
    for r in s["rows"]:
        per = 1e3 * r["seconds"][1] / r["flops"] * 1e9
        if s["name"] == "threads":
            ratio = [a / b for a, b in zip(first["times"], r["times"])]
            against = f"{report.ratio(contenders.quartiles(ratio))} × the speed"
        else:
            ratio = [b / a * first["flops"] / r["flops"] for a, b in zip(first["times"], r["times"])]
            against = f"{report.ratio(contenders.quartiles(ratio))} × the time per FLOP"
        body.append([str(r["value"]), f"{r['flops'] * 1e-9:.1f}",
                     f"{report.seconds(r['seconds'][1])} ({report.seconds(r['seconds'][0])} – {report.seconds(r['seconds'][2])})",
                     f"{per:.2f}", against, f"{100 * r['of_peak'][1]:.0f} %"])
    lines += report.table(head, body) + report.left_out(s)
    p = exponent(s["rows"])
    if p is not None:
        lines += [f"time ~ FLOPs^p with p = {report.ratio(p)}; 1: as the FLOPs.", ""]
    return lines


def draw(results, base):
    """One picture: time over FLOPs for the series where FLOPs vary, speed-up over threads; None without matplotlib."""
    try:
        import plots
    except ImportError:
        return None
    figure, (left, right) = plots.pyplot.subplots(1, 2, figsize=(8, 3.4))
    for s in results["series"]:
        if s["name"] == "threads":
            speed = [s["rows"][0]["seconds"][1] / r["seconds"][1] for r in s["rows"]]
            right.plot([r["value"] for r in s["rows"]], speed, "o-", label="measured")
            right.plot([s["rows"][0]["value"], s["rows"][-1]["value"]], [1, s["rows"][-1]["value"]], ":", label="ideal")
        else:
            left.loglog([r["flops"] * 1e-9 for r in s["rows"]], [r["seconds"][1] for r in s["rows"]], "o-",
                        label=f"{s['name']}, FLOPs^{exponent(s['rows'])[1]:.2f}")
    left.set_xlabel("GFLOP of a forward pass")
    left.set_ylabel("seconds")
    left.legend()
    right.set_xlabel("threads")
    right.set_ylabel("speed-up")
    right.legend()
    return plots.save(figure, base, "scaling")


def estimates(args, a):
    """Profiles at N = 1 and at the batch, and what follows from them."""
    results, raw = [], []
    for n, wanted in ((1, [1]), (args.batch, [8, 64, 512])):
        command = [os.path.join(args.build, "fdm"), "bench", "--network", "--json", "-q", "--threads", str(args.threads),
                   "--batch", str(n), "--rounds", str(args.rounds), *args.fdm_option]
        bench = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        raw.append(bench)
        results += [(f"N = {n}, {args.threads} threads", roofline.estimate(bench, a, w)) for w in wanted]
        if n == 1:
            results.append(("the same, weights from memory", roofline.estimate(bench, {**a, "cache_mb": 0.0}, 1)))
    return results, raw


def text(results, picture):
    m = results["machine"]
    lines = [f"# How the cost grows on {m['cpu']}, {m['cores']} cores", "",
             f"`make bench-scaling`, {m['date']}, load average {m['load_average'][0]:.1f}, {' '.join(m['flags'])}; "
             f"{results['fdm']}; {results['rounds']} alternating rounds; the forward pass of the CIFAR-10 ddpmpp network but for "
             f"what varies, N = {results['batch']}, {results['threads']} threads.  Ratios are medians (quartiles) over rounds.", ""]
    if picture:
        lines += [f"![Time over FLOPs, speed-up over threads]({picture})", ""]
    for s in results["series"]:
        lines += series_lines(s)
    return "\n".join(lines + roofline.report(results["estimates"], results["assumptions"]))


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--out", help="without suffix (default: bench/results/MACHINE-scaling)")
    parser.add_argument("--fdm-option", action="append", default=[], help="passed on to fdm bench, as --fdm-option=--isa=avx2")
    for name, value in roofline.assumptions().items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help="of the estimate (%(default)s)")
    args = parser.parse_args()
    args.batch = args.batch or (2 if args.quick else 8)
    args.rounds = args.rounds or (3 if args.quick else 9)
    return args


def main():
    args = options()
    this = machine.describe()
    out = args.out or os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", this["slug"] + "-scaling")
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    clock = contenders.Contender(peers.clock_spec(peers.Peers(args.build, args.threads)), args.threads, 60)
    if clock.failure:
        raise SystemExit(f"fdm bench: {clock.failure}")
    assumed = roofline.assumptions(**{k: getattr(args, k) for k in roofline.assumptions()})
    results = {"machine": this, "threads": args.threads, "batch": args.batch, "rounds": args.rounds, "assumptions": assumed,
               "fdm": " ".join(peers.output([os.path.join(args.build, "fdm"), "--version"]).split())}
    results["series"] = [measure(args, clock, *s) for s in series(args)]
    clock.close()
    results["estimates"], results["profiles"] = estimates(args, assumed)
    with open(out + ".json", "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
    with open(out + ".md", "w", encoding="utf-8") as f:
        f.write(text(results, draw(results, out)))
    print(f"{out}.json, {out}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
