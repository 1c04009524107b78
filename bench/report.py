"""The Markdown report of results that compare.py wrote:  report.py bench/results/MACHINE.json"""
import importlib
import json
import os
import sys


def ratio(q):
    """Quartiles [q1, median, q3] as "median (q1 - q3)"."""
    return f"{q[1]:.2f} ({q[0]:.2f} – {q[2]:.2f})" if q else "–"


def seconds(s):
    return f"{s:.3f} s" if s >= 1 else f"{1e3 * s:.3g} ms"


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(r) + " |" for r in rows] + [""]


def header(results):
    m = results["machine"]
    lines = [f"# fdm and its peers on {m['cpu']}, {m['cores']} cores", "",
             f"`make bench{' BENCH_ARGS=--quick' if results['quick'] else ''}`, {m['date']}, {results['threads']} threads, "
             f"load average at the start {m['load_average'][0]:.1f}.", "",
             f"CPU: {m['cpu']} (family, model, stepping {', '.join(str(v) for v in m['family_model_stepping'])}), "
             f"{m['cores']} cores, {' '.join(m['flags'])}; caches "
             + ", ".join(f"{k} {v}" for k, v in m["caches"].items()) + f"; {m['memory_gb']} GB; Linux {m['kernel']}.", ""]
    lines += ["Found: " + "; ".join(f"{k} {v}" for k, v in results["found"].items()) + ".", ""]
    if results["missing"]:
        lines += ["Not found, so not compared: " + "; ".join(f"{k} ({v})" for k, v in results["missing"].items()) + ".", ""]
    return lines + [
        "Contenders are processes that stay alive and take turns, each round starting with another.  `time / fdm` is the median "
        "over rounds (quartiles in brackets) of the contender's time over fdm's in the same round: above 1, fdm is faster.  "
        "`of peak` is what the direct algorithm's operations in that time are of the FMA peak measured right before in the "
        "same round (an algorithm with fewer multiplications can exceed 100 %).  RMS errors are those of F_x against PyTorch "
        "in f64 on the same inputs.", ""]


def race_table(e):
    bases = [r["key"] for r in e["rows"] if r["family"] == "fdm"]
    has_error = any(r.get("rms_error") is not None for r in e["rows"])
    head = ["contender", "median", "best", "images/s", "of peak"] + [f"time / {b}" for b in bases] + ["peak RSS"]
    rows = []
    for r in e["rows"]:
        row = [r["key"], seconds(r["seconds"]["median"]), seconds(r["best"]), f"{r['images_per_second']:.3g}",
               f"{100 * r['of_peak'][1]:.0f} % ({100 * r['of_peak'][0]:.0f} – {100 * r['of_peak'][2]:.0f})"]
        row += [ratio(r["ratios"].get(b)) for b in bases] + [f"{r['peak_rss_mb']:.0f} MB"]
        if has_error:
            row.append(f"{r['rms_error']:.3e}" if r.get("rms_error") is not None else "–")
        rows.append(row)
    return table(head + (["RMS error"] if has_error else []), rows)


def left_out(e):
    if not e.get("left_out"):
        return []
    return ["Left out: " + "; ".join(f"{k}: {v}" for k, v in e["left_out"].items()) + ".", ""]


def race(e):
    lines = [f"## {e['title']}", ""]
    if not e["rows"]:
        return lines + left_out(e)
    lines += [f"{e['rounds']} rounds, {e['flops'] * 1e-9:.1f} GFLOP; FMA peak {e['peak_gflops'][1]:.0f} GFLOP/s "
              f"({e['peak_gflops'][0]:.0f} – {e['peak_gflops'][2]:.0f}), triad {e['triad_gbs'][1]:.1f} GB/s "
              f"({e['triad_gbs'][0]:.1f} – {e['triad_gbs'][2]:.1f}); load average {e['load_average'][0]:.1f}; {e['date']}.", ""]
    return lines + race_table(e) + left_out(e)


def parts(experiments):
    """Layers and matrix products, one line each: of peak, and the ratio to fdm."""
    lines = ["## Single layers and matrix products", "",
             "Per cent of the peak, and in brackets time / fdm's (the first of its modes).", ""]
    keys = list(dict.fromkeys(r["key"] for e in experiments for r in e["rows"]))
    rows = []
    for e in experiments:
        found = {r["key"]: r for r in e["rows"]}
        base = next((r["key"] for r in e["rows"] if r["family"] == "fdm"), None)
        cells = []
        for k in keys:
            r = found.get(k)
            q = r and r["ratios"].get(base)
            cells.append("" if not r else f"{100 * r['of_peak'][1]:.0f} %" + (f" ({q[1]:.2f})" if q else ""))
        rows.append([e["title"]] + cells)
    return lines + table([""] + keys, rows)


def gradients(e):
    rows = [[r["key"], f"{r['rms_relative']:.2e}", f"{r['largest']:.2e}", f"`{r['where']}`"] for r in e["gradients"]]
    return [f"## {e['title']}", "", "RMS error over all parameters relative to the RMS gradient, and the largest error of any "
            "element over its parameter's largest element.", ""] + table(["", "RMS", "largest", "where"], rows)


def spread(s, factor=1.0, digits=1):
    return f"{factor * s['median']:.{digits}f} ({factor * s['q1']:.{digits}f} – {factor * s['q3']:.{digits}f})"


def profile(e):
    b = e["fdm_bench"]
    lines = ["## Layers and profile (`fdm bench`)", "",
             f"{b['machine']['isa']}, {b['machine']['threads']} threads, {b['rounds']} rounds.  FMA peak "
             f"{spread(b['peak_gflops']['all_threads'])} GFLOP/s, one thread {b['peak_gflops']['one_thread']['median']:.1f}; triad "
             f"{spread(b['triad_gbs']['all_threads'])} GB/s, one thread {b['triad_gbs']['one_thread']['median']:.1f}.", ""]
    rows = [[c["name"], c["pass"], seconds(c["seconds"]["median"]),
             f"{c['speed']:.1f} {'GB/s' if c['limit'] == 'memory' else 'GFLOP/s'}", spread(c["of_limit"], 100) + " %",
             f"{c['direct_gflops']:.1f}" if c["executed_flops"] < c["flops"] else ""] for c in b["layers"]]
    lines += table(["layer", "", "median", "speed", "of peak or triad", "as direct, GFLOP/s"], rows)
    peak = b["peak_gflops"]["all_threads"]["median"]
    for c in b["network"] + b["train"]:
        total = sum(c["times"]) / len(c["times"])
        named = sum(k["seconds"] for k in c["profile"])
        lines += [f"{c['name']}, {c['pass']}, N = {c['n']}: {seconds(c['seconds']['median'])}, {c['images_per_second']:.3g} "
                  f"images/s, {spread(c['of_limit'], 100)} % of the peak, {c['peak_bytes'] * 1e-6:.0f} MB.", ""]
        rows = [[k["kind"], f"{k['calls']:.0f}", seconds(k["seconds"]), f"{100 * k['seconds'] / total:.1f} %",
                 f"{k['flops'] / k['seconds'] * 1e-9:.1f}" if k["flops"] else "",
                 f"{100 * k['flops'] / k['seconds'] * 1e-9 / peak:.0f} %" if k["flops"] else ""]
                for k in c["profile"] if k["seconds"] > 0]
        rows.append(["the rest", "", seconds(total - named), f"{100 * (total - named) / total:.1f} %", "", ""])
        convolutions = sum(k["seconds"] for k in c["profile"] if "convolution" in k["kind"])
        rows.append(["**convolutions**", "", seconds(convolutions), f"{100 * convolutions / total:.1f} %", "", ""])
        lines += table(["", "calls", "time", "share", "GFLOP/s", "of peak"], rows)
    return lines


def text(results, images):
    """`images`: experiment id -> picture file, relative to the report."""
    lines = header(results)
    small = [e for e in results["experiments"] if e.get("part") and e["rows"]]
    for e in results["experiments"]:
        if e.get("part"):
            continue
        lines += profile(e) if "fdm_bench" in e else gradients(e) if "gradients" in e else race(e)
        if e["id"] in images:
            lines += [f"![{e['title']}]({images[e['id']]})", ""]
    if small:
        lines += parts(small)
        if "parts" in images:
            lines += [f"![Single layers]({images['parts']})", ""]
    if not images:
        lines += ["No pictures: matplotlib was not found.", ""]
    return "\n".join(lines)


def pictures(module, *what):
    """What module.draw(*what) draws, by name: nothing where matplotlib is missing."""
    try:
        return importlib.import_module(module).draw(*what)
    except ImportError:
        return {}


def write(path):
    with open(path, encoding="utf-8") as f:
        results = json.load(f)
    base = path[:-len(".json")]
    images = pictures("plots", results, base)
    with open(base + ".md", "w", encoding="utf-8") as f:
        f.write(text(results, images))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(write(sys.argv[1]))
