"""What to expect of training on 1 to 256 machines, from kernels measured on this one (cluster.py says how).

    make bench-cluster            or    python3 bench/cluster_model.py --build build

Times a training step of three networks on one thread (fdm bench; give it a core of its own: chrt -f 10 taskset -c 1 ...), and
writes bench/results/cluster-model.json and .md.  --from FILE.json reuses the times of an earlier run; what cluster_check.py
measured (bench/results/cluster-check.json) is shown beside its predictions, if it is there.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import cluster
import machine
import report

# name, what it is, changes to the CIFAR-10 network, batch, images to time at once, images of a whole training run
CASES = [
    ("CIFAR-10", "the published network", {}, 512, 4, 200e6),
    ("emoji32", "`--cbase 32 --cres 1,2,2 --num_blocks 2`, 32x32", {"model_channels": 32, "channel_mult": [1, 2, 2], "num_blocks": 2},
     64, 16, 1e6),
    ("faces16", "`--cbase 32 --cres 1,2 --num_blocks 1 --attn_resolutions 8`, 16x16",
     {"img_resolution": 16, "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}, 32, 16, 1e5),
]
WEAK = 32  # images a node and update where the batch grows with the nodes
ENOUGH = 0.5  # of one node's images per second and node: below, it has stopped scaling
GROUPS = [("arithmetic", ["arithmetic"]), ("imbalance", ["imbalance"]), ("memory", ["weights", "maps", "merging", "update"]),
          ("barriers", ["barriers"]), ("serial", ["serial", "packing", "data"]), ("messages", ["messages", "agreeing"]),
          ("waiting", ["waiting"])]


def profile(build, changes, n, rounds):
    done = subprocess.run(cluster.bench_command(build, changes, n, rounds), stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    return cluster.needed(json.loads(done.stdout))


def node_counts(most, batch):
    return [2 ** i for i in range(most.bit_length()) if 2 ** i <= min(most, batch)]


def predict(results, a, most):
    """results["predictions"]: one for each case, network and kind of scaling."""
    for case in results["cases"]:
        for name, network in cluster.NETWORKS.items():
            for kind in ("strong", "weak"):
                rows = []
                for nodes in node_counts(most, case["batch"] if kind == "strong" else most):
                    batch = case["batch"] if kind == "strong" else WEAK * nodes
                    u = cluster.best_update(case["bench"], a, network, nodes, batch)
                    rows.append({"nodes": nodes, **u})
                for r in rows:
                    r["efficiency"] = r["images_per_second"] / rows[0]["images_per_second"] / r["nodes"]
                yield {"case": case["name"], "network": name, "scaling": kind, "rows": rows}


def grouped(row):
    return {name: sum(row["by"][k] for k in parts) for name, parts in GROUPS}


def stops(p):
    """In words: how far it scales, and what the time beyond goes to."""
    good = [r for r in p["rows"] if r["efficiency"] >= ENOUGH]
    last = good[-1]
    many = f"{last['nodes']} node{'s' if last['nodes'] > 1 else ''}"
    text = f"to {many}: {last['images_per_second']:.0f} images/s, {100 * last['efficiency']:.0f} % a node of what one alone makes"
    if last is p["rows"][-1]:
        return text + " (the most that was looked at)"
    after = p["rows"][len(good)]
    cost, before = grouped(after), grouped(last)
    grown = max((k for k in cost if k != "arithmetic"), key=lambda k: cost[k] / after["seconds"] - before[k] / last["seconds"])
    return (f"{text}; with {after['nodes']} {100 * after['efficiency']:.0f} %, and what has grown most is `{grown}`, "
            f"{100 * cost[grown] / after['seconds']:.0f} % of the time")


def table_of(p, images):
    head = ["nodes", "ranks a node", "images a rank", "ms an update", "images/s", "efficiency", "days for the whole run"]
    body = []
    for r in p["rows"]:
        cost = grouped(r)
        body.append([str(r["nodes"]), str(r["per_node"]), str(r["n"] * r["rounds"]), f"{1e3 * r['seconds']:.4g}",
                     f"{r['images_per_second']:.0f}", f"{100 * r['efficiency']:.0f} %",
                     f"{images / r['images_per_second'] / 86400:.3g}"]
                    + [f"{100 * cost[k] / r['seconds']:.0f} %" for k, _ in GROUPS])
    return report.table(head + [k for k, _ in GROUPS], body)


def draw(results, base):
    """Images per second over nodes; None without matplotlib."""
    try:
        import plots
    except ImportError:
        return None
    figure, panels = plots.pyplot.subplots(1, len(results["cases"]), figsize=(10, 3.2))
    for axes, case in zip(panels, results["cases"]):
        mine = [p for p in results["predictions"] if p["case"] == case["name"]]
        for p in mine:
            axes.loglog([r["nodes"] for r in p["rows"]], [r["images_per_second"] for r in p["rows"]],
                        "o-" if p["scaling"] == "strong" else ".--", markersize=3,
                        color="#2a6f97" if "Infini" in p["network"] else "#e07a5f",
                        label=f"{p['network'].split(',')[0]}, {p['scaling']}")
        alone, nodes = mine[0]["rows"][0]["images_per_second"], [r["nodes"] for r in mine[1]["rows"]]
        axes.loglog(nodes, [n * alone for n in nodes], ":", color="#999999", label="as many times one node")
        axes.set_title(case["name"])
        axes.set_xlabel("nodes of 64 cores")
    panels[0].set_ylabel("training, images/s")
    panels[0].legend(fontsize=6)
    return plots.save(figure, base, "cluster")


def assumed(a):
    import roofline
    networks = [f"{name}: {n['latency_us']:g} us a message, {100 * n['share']:.0f} % of {n['gbit']:g} Gbit/s"
                for name, n in cluster.NETWORKS.items()]
    return roofline.describe(a) + networks + [
        f"between ranks of a node: {cluster.MEMORY['latency_us']:g} us, {cluster.MEMORY['gbit']:g} Gbit/s",
        f"a thread adds arrays at {a['adding']:g} GB/s; the system lets it sleep {a['slack_us']:g} us too long",
        f"times of a rank's update spread by {100 * a['jitter']:g} % (standard deviation), no rank slower than the others for long",
        "a network without contention beyond a node's own link (full bisection)", "reading data costs nothing (the loader is a thread of its own)"]


def text(results, picture):
    m, lines = results["machine"], []
    lines += ["# Training on several machines: what to expect", "",
              f"`make bench-cluster`, kernels of {m['cpu']} ({' '.join(m['flags'])}), one thread, {results['date']}; {results['fdm']}.  "
              "The model is in `bench/cluster.py`, which says what it adds up; nothing in it is fitted to a run over several ranks.", ""]
    if picture:
        lines += [f"![Images per second over nodes]({picture})", ""]
    lines += ["## Where it stops", "", "It stops where a node does less than half of what one alone does.  Strong: the batch stays as "
              f"it is; weak: {WEAK} images a node and update, so the batch grows.", ""]
    body = [[p["case"], p["network"], p["scaling"], stops(p)] for p in results["predictions"]]
    lines += report.table(["network", "links", "scaling", "how far"], body)
    lines += check_lines(results)
    lines += ["## Assumed", ""] + [f"- {t}" for t in assumed(results["assumptions"])] + [""]
    lines += ["## Tables", "", "`ranks a node`: the fastest of 1, 2, 4, 8, 16.  Shares of the time: `imbalance`, cores that wait because "
              "a layer has no whole number of turns for all; `memory`, weights, maps, sums of rounds and the optimiser; `messages`, "
              "what the backward pass does not hide; `waiting`, for the slowest rank.", ""]
    for case in results["cases"]:
        lines += [f"### {case['name']}: {case['what']}, {case['parameters'] / 1e6:.3g} M parameters, batch {case['batch']}", ""]
        for p in results["predictions"]:
            if p["case"] == case["name"]:
                lines += [f"{p['network']}, {p['scaling']} scaling {stops(p)}.", ""] + table_of(p, case["images"])
    return "\n".join(lines) + "\n"


def check_lines(results):
    checks = results.get("check")
    if not checks:
        return ["## Checked", "", "Not yet: `bench/cluster_check.py`, as root.", ""]
    body = [[c["case"] + (" *" if c.get("note") else ""), str(c["ranks"]), c["rate"] or "–", c["delay"], str(c["batch"]), f"{c['eager_kb']} KB", f"{1e3 * c['predicted']:.0f}", f"{1e3 * c['measured'][1]:.0f} "
             f"({1e3 * c['measured'][0]:.0f} – {1e3 * c['measured'][2]:.0f})", f"{c['predicted'] / c['measured'][1] - 1:+.0%}"] for c in checks["rows"]]
    errors = [abs(c["predicted"] / c["measured"][1] - 1) for c in checks["rows"]]
    notes = ["\\* " + c["note"] + "." for c in checks["rows"] if c.get("note")]
    return ["## Checked", "", checks["how"], ""] + report.table(
        ["network", "ranks", "rate", "delay", "batch", "eager limit", "ms an update, predicted", "measured, median (quartiles)", "error"], body) + [
        f"The largest error is {100 * max(errors):.0f} %, the mean {100 * statistics.fmean(errors):.0f} %.  " + "  ".join(notes), ""]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nodes", type=int, default=256, help="the most (%(default)s)")
    parser.add_argument("--from", dest="earlier", help="JSON of an earlier run, whose times are taken")
    parser.add_argument("--out", default=os.path.join(HERE, "results", "cluster-model"), help="without suffix")
    for name, value in cluster.assumptions(weight_factor=1.78).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help="assumed (%(default)s)")
    return parser.parse_args()


def measured_cases(args):
    for name, what, changes, batch, n, images in CASES:
        print(f"timing {name} ...", file=sys.stderr)
        bench = profile(args.build, changes, n, args.rounds)
        yield {"name": name, "what": what, "changes": changes, "batch": batch, "images": images,
               "parameters": cluster.parameters(bench), "bench": bench}


def main():
    args = options()
    if args.earlier:
        with open(args.earlier, encoding="utf-8") as f:
            results = json.load(f)
    else:
        version = subprocess.run([os.path.join(args.build, "fdm"), "--version"], stdout=subprocess.PIPE, text=True, check=True)
        results = {"machine": machine.describe(), "date": machine.date(), "fdm": version.stdout.split("\n")[0],
                   "cases": list(measured_cases(args))}
    a = results["assumptions"] = {k: getattr(args, k) for k in cluster.assumptions()}
    results["predictions"] = list(predict(results, a, args.nodes))
    beside = os.path.join(os.path.dirname(os.path.abspath(args.out)), "cluster-check.json")
    results.pop("check", None)
    if os.path.exists(beside):
        with open(beside, encoding="utf-8") as f:
            results["check"] = json.load(f)
    with open(args.out + ".json", "w", encoding="utf-8") as f:
        json.dump({k: v for k, v in results.items() if k != "check"}, f, separators=(",", ":"))
        f.write("\n")
    with open(args.out + ".md", "w", encoding="utf-8") as f:
        f.write(text(results, draw(results, args.out)))
    print(f"{args.out}.json, {args.out}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
