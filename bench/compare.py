"""fdm against its peers: whole forward passes, training steps, sampling, single layers, matrix products.

    make bench                                   or, with interpreters of your own
    make bench BENCH_PYTHON="python3 venv/bin/python" BENCH_ARGS="--quick"
    python3 bench/compare.py --what forward,layers --rounds 15

Compared is what is found: PyTorch in every interpreter that has it (eager, channels_last, torch.compile ...), ONNX
Runtime, oneDNN and BLIS (programs of this folder, built where the libraries are).  contenders.py says how it is timed.
Writes bench/results/MACHINE.json and MACHINE.md with plots beside it; --report makes the latter again from the former.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import contenders
import experiments
import machine
import peers
import report

WHAT = {"forward": experiments.forward, "train": experiments.train, "gradients": experiments.gradients,
        "layers": experiments.layers, "matmul": experiments.matmul, "profile": experiments.profile,
        "sample": experiments.sample}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="where fdm and the programs of bench/ were built")
    parser.add_argument("--python", action="append", default=[], help="an interpreter that may have torch, onnxruntime, "
                        "matplotlib; repeatable (default: those that are found)")
    parser.add_argument("--what", default=",".join(WHAT), help="which comparisons, of %(default)s")
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer rounds, layers and variants")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, help="of everything (default: 15; training 7; sampling 3)")
    parser.add_argument("--archs", default="ddpmpp,ncsnpp", help="networks with random weights")
    parser.add_argument("--model", action="append", default=[], help="also this model file (forward and its error); repeatable")
    parser.add_argument("--modes", help="convolution modes of fdm, the first is `fdm` in ratios (default: default and all)")
    parser.add_argument("--variants", help="of PyTorch, words joined by +: eager channels_last compile freezing fused")
    parser.add_argument("--images", type=int, default=64, help="of sampling")
    parser.add_argument("--steps", type=int, default=18, help="of sampling; 2 N - 1 evaluations")
    parser.add_argument("--sample-batch", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two runs")
    parser.add_argument("--start-limit", type=float, default=900, help="seconds that a contender may take to get ready")
    parser.add_argument("--out", help="where results go, without suffix (default: bench/results/MACHINE)")
    parser.add_argument("--report", metavar="FILE.json", help="only write the report of these results")
    parser.add_argument("--merge", action="store_true", help="keep what the results file has of other experiments")
    args = parser.parse_args()
    unknown = [w for w in args.what.split(",") if w not in WHAT]
    if unknown:
        parser.error(f"--what: {unknown[0]} is none of {', '.join(WHAT)}")
    if args.quick:
        args.images, args.steps, args.sample_batch = min(args.images, 4), min(args.steps, 3), 4
    return args


def workspace():
    """Models with random weights and truths are made once."""
    folder = os.path.join(tempfile.gettempdir(), f"fdm-bench-{os.getuid()}")
    os.makedirs(folder, exist_ok=True)
    return folder


def save(path, results):
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)
        f.write("\n")
    os.replace(path + ".tmp", path)


def write_report(path, python):
    """In an interpreter that has matplotlib, if there is one."""
    if python and os.path.abspath(python) != os.path.abspath(sys.executable):
        return subprocess.run([python, os.path.abspath(report.__file__), path], check=True)
    return report.write(path)


def main():
    args = options()
    if args.report:
        return report.write(args.report)
    found = peers.search(args.build, args.threads, args.python, args.modes and args.modes.split(","))
    this = machine.describe()
    out = args.out or os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", this["slug"])
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    results = {"machine": this, "threads": args.threads, "quick": args.quick, "found": found.found,
               "missing": found.missing, "experiments": []}
    if args.merge and os.path.exists(out + ".json"):
        with open(out + ".json", encoding="utf-8") as f:
            results["experiments"] = json.load(f)["experiments"]
    clock = contenders.Contender(peers.clock_spec(found), args.threads, 60)
    if clock.failure:
        raise SystemExit(f"fdm bench: {clock.failure}")
    context = experiments.Context(args, found, clock, workspace())
    for what in args.what.split(","):
        for result in WHAT[what](context):
            result["load_average"] = os.getloadavg()
            result["date"] = machine.date()
            old = [e for e in results["experiments"] if e["id"] != result["id"]]
            results["experiments"] = old + [result]
            save(out + ".json", results)  # after each, so that an interrupted bench leaves what it has
    clock.close()
    save(out + ".json", results)
    write_report(out + ".json", found.plots)
    print(f"{out}.json, {out}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
