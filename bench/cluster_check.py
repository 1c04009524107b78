"""Holds the model of cluster.py against training runs over ranks in network namespaces (netlab.py); as root, with Open MPI.

    make bench-cluster-check      or    python3 bench/cluster_check.py --build build [--only emoji32]

What goes into a prediction is measured apart from such runs: each layer on one thread while the other cores do the same,
latency by a short message, bandwidth by a stream of bytes in both directions, the core time of a byte by that of the stream.
Writes bench/results/cluster-check.json, which cluster_model.py shows.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import cluster
import contenders
import machine
import netlab

NETS = {  # options of fdm train; the same as changes to the CIFAR-10 network (fdm bench --config)
    "CIFAR-10": ([], {"label_dim": 10}),
    "emoji32": (["--cbase", "32", "--cres", "1,2,2", "--num_blocks", "2"],
                {"label_dim": 10, "model_channels": 32, "channel_mult": [1, 2, 2], "num_blocks": 2}),
    "small": (["--cbase", "32", "--cres", "1,2", "--num_blocks", "1", "--attn_resolutions", "8"],
              {"label_dim": 10, "model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8]}),
}
EAGER = {64: {}, 4096: {f"OMPI_MCA_btl_tcp_{name}": str(4096 * 1024) for name in ("eager_limit", "rndv_eager_limit", "max_send_size")}}
# network, ranks, rate, delay, images of an update, rounds of a rank, updates, MPI's eager limit in KB (64: Open MPI's own)
CASES = [
    ("emoji32", 1, None, "0s", 8, 1, 12, 64),
    ("emoji32", 2, "1gbit", "0s", 16, 1, 24, 4096),
    ("emoji32", 2, "200mbit", "0s", 16, 1, 12, 4096),
    ("emoji32", 2, "200mbit", "0s", 16, 1, 12, 64),
    ("emoji32", 2, "100mbit", "0s", 16, 2, 10, 4096),
    ("emoji32", 2, "1gbit", "5ms", 16, 1, 12, 4096),
    ("emoji32", 2, "1gbit", "5ms", 16, 1, 10, 64),
    ("emoji32", 2, "200mbit", "20ms", 16, 1, 8, 4096),
    ("emoji32", 4, "1gbit", "1ms", 32, 1, 8, 4096),
    ("emoji32", 4, "100mbit", "1ms", 16, 1, 8, 4096),
    ("small", 2, "100mbit", "1ms", 16, 1, 16, 4096),
    ("small", 4, "50mbit", "5ms", 16, 1, 12, 4096),
    ("CIFAR-10", 2, "1gbit", "1ms", 4, 1, 7, 4096),
]


def profile(args, changes, n, cores):
    """The network's layers on one thread, while all these cores do the same."""
    command = cluster.bench_command(args.build, changes, n, args.rounds)
    beside = [subprocess.Popen(["taskset", "-c", str(c)] + command, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"}) for c in cores]
    texts = [p.communicate()[0] for p in beside]
    if any(p.returncode for p in beside):
        raise SystemExit("fdm bench failed")
    return cluster.needed(json.loads(texts[0]))


def train(args, lab, net, ranks, batch, rounds, updates, eager, folder):
    """Seconds of an update: those of each tick of two updates but the first and the last."""
    program = [os.path.abspath(os.path.join(args.build, "fdm")), "train", "-q", "--outdir", folder, "--nosubdir", "--data", args.data, "--cond",
               "1", "--precond", "fdm_edm", "--batch", str(batch), "--batch-gpu", str(batch // ranks // rounds), "--duration",
               str(batch * updates / 1e6), "--tick", str(2 * batch / 1e3), "--snap", "100000", "--dump", "100000", "--image-snap", "0",
               "--threads", "1", *NETS[net][0]]
    if ranks > 1:
        program = netlab.mpirun(ranks, "-x", "OMP_NUM_THREADS=1", *(w for name in EAGER[eager] for w in ("-x", name))) + program
    done = lab.run(0, program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                   env={**os.environ, "OMP_NUM_THREADS": "1", **EAGER[eager]})
    if done.returncode:
        raise SystemExit(f"{' '.join(program)}: exit code {done.returncode}\n{done.stdout[-2000:]}")
    with open(os.path.join(folder, "stats.jsonl"), encoding="utf-8") as f:
        ticks = [json.loads(line)["Timing/sec_per_tick"]["mean"] for line in f]
    return [t / 2 for t in ticks[1:-1]]


def predict(bench, row, cores):
    """Ranks of one thread; where there are more of them than cores they take turns.  While a message is on its way the token
    bucket of its sender fills."""
    ranks, bandwidth, latency = row["ranks"], 1e6 * row["mb_per_second"], 1e-6 * row["latency_us"]
    turns = max(1.0, ranks / cores)
    a = cluster.assumptions(rank_cores=1, bandwidth=1e3, cache_mb=1e6, cache_bandwidth=1e3, barrier_us=0.0, clock=1 / turns,
                            adding=bench["triad_gbs"]["one_thread"]["median"] / turns, copying=1e-9 * row["copying_ns"] * turns)
    network = {"latency_us": row["latency_us"], "gbit": 8e-9 * bandwidth, "share": 1.0, "eager_kb": row["eager_kb"],
               "beyond": cluster.TCP_BEYOND, "credit": min(netlab.BURST, bandwidth * latency) if row["rate"] else 0.0}
    return cluster.update(bench, a, network, ranks, row["batch"], most=row["batch"] // ranks // row["rounds"])


def measure(args, case, copying, folder):
    """One row of the results, without its prediction."""
    net, ranks, rate, delay, batch, rounds, updates, eager = case
    with netlab.Lab(max(2, ranks), rate, delay) as lab:
        latency, (bandwidth, _) = lab.round_trip() / 2, lab.stream()
        times = train(args, lab, net, ranks, batch, rounds, updates, eager, os.path.join(folder, f"run{len(os.listdir(folder))}"))
    return {"case": net, "ranks": ranks, "rate": rate, "delay": delay, "batch": batch, "rounds": rounds, "eager_kb": eager,
            "latency_us": 1e6 * latency, "mb_per_second": 1e-6 * bandwidth, "copying_ns": 1e9 * copying,
            "measured": contenders.quartiles(times), "times": times}


def compare(row, profiles, cores):
    p = predict(profiles[profile_name(row, cores)], row, cores)
    row.update(predicted=p["seconds"], by=p["by"], busy=p["busy"])
    contenders.say(f"{row['case']}, {row['ranks']} ranks, {row['rate']}, {row['delay']}, batch {row['batch']}, eager {row['eager_kb']} KB: "
                   f"predicted {1e3 * row['predicted']:.0f} ms, measured {1e3 * row['measured'][1]:.0f}: "
                   f"{100 * (row['predicted'] / row['measured'][1] - 1):+.0f} %")


def profile_name(row, cores):
    return f"{row['case']}, {row['batch'] // row['ranks'] // row['rounds']} images, {min(row['ranks'], cores)} cores"


def run_all(args, cores):
    chosen = [c for i, c in enumerate(CASES) if (not args.only or c[0] == args.only)
              and (not args.cases or str(i) in args.cases.split(","))]
    results = {"machine": machine.describe(), "date": machine.date(), "rows": [], "profiles": {}}
    with netlab.Lab(2) as lab:
        copying = lab.stream()[1]  # of a link without a limit: else it would count waiting as well
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            row = measure(args, case, copying, folder)
            name = profile_name(row, len(cores))
            if name not in results["profiles"]:
                n, busy = row["batch"] // row["ranks"] // row["rounds"], cores[:min(row["ranks"], len(cores))]
                results["profiles"][name] = profile(args, NETS[row["case"]][1], n, busy)
            compare(row, results["profiles"], len(cores))
            results["rows"].append(row)
    return results


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--data", default=os.path.join(os.path.dirname(HERE), "data", "emoji32.zip"))
    parser.add_argument("--rounds", type=int, default=3, help="of the layers' times")
    parser.add_argument("--only", help="cases of this network")
    parser.add_argument("--cases", help="of these numbers, as 0,3")
    parser.add_argument("--from", dest="earlier", help="what an earlier run measured: only the predictions are made again")
    parser.add_argument("--out", default=os.path.join(HERE, "results", "cluster-check.json"))
    return parser.parse_args()


def main():
    args = options()
    if args.earlier:
        with open(args.earlier, encoding="utf-8") as f:
            results = json.load(f)
        for row in results["rows"]:
            compare(row, results["profiles"], results["machine"]["cores"])
    elif os.geteuid() != 0 or not shutil.which("mpirun"):
        raise SystemExit("cluster_check: needs root and Open MPI's mpirun")
    else:
        results = run_all(args, range(os.cpu_count()))
    this = results["machine"]
    results["how"] = (
        f"Ranks of one thread each in network namespaces on {this['cpu']}, {this['cores']} cores ({results['date']}): each `host` has a TAP device "
        "shaped by tc's token bucket to `rate`, and a switch that holds frames for `delay`.  Predictions use each layer's time on one "
        "thread while as many cores are busy, and latency, bandwidth and core time per byte of plain TCP connections in the same "
        "namespaces; nothing is fitted.  More ranks than cores take turns.  `make bench-cluster-check`.")
    errors = [abs(r["predicted"] / r["measured"][1] - 1) for r in results["rows"]]
    with open(args.out, "w", encoding="utf-8") as f:
        json.dump(results, f, indent=None, separators=(",", ":"))
        f.write("\n")
    print(f"{args.out}: largest error {100 * max(errors):.0f} %, mean {100 * statistics.fmean(errors):.0f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
