"""Time a whole training step against PyTorch: CIFAR-10 ddpmpp, 55.7 M parameters, dropout 0.13, augmentation on.

    make && make bench-train        or
    python3 bench/bench_train.py --fdm build/bench/bench_train --torch /usr/bin/python3 --torch OTHER_PYTHON

A step is random numbers, augmentation, loss, backward pass, clean-up of the gradient, Adam and averages.  As in
bench_network.py: children that stay alive, alternating rounds, the figure is the median over rounds of (peer's time) /
(fdm's time) in the same round.  `--check` compares the gradients of one batch instead of timing: largest difference
of a parameter's gradient over its largest element, dropout off.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import bench_network
from bench_network import Contender, answer, quartiles

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ["draw", "augment", "gradient", "update"]


# ---- Children that are Python (torch is imported nowhere else) ---------------------------------------------------
def child_batch(n, net):
    import torch
    generator = torch.Generator().manual_seed(1)
    unet = net.model
    r = unet.resolutions[0]
    images = torch.randint(256, [n, unet.img_channels, r, r], generator=generator).float() / 127.5 - 1
    labels = torch.eye(unet.label_dim)[torch.arange(n) % unet.label_dim] if unet.label_dim else None
    return images, labels, generator


def child_torch(model, n, threads, variant):
    import torch
    import torch_network
    import torch_train
    torch.set_num_threads(threads)
    start = time.perf_counter()
    net = torch_network.load_model(model)
    load = time.perf_counter() - start
    images, labels, _ = child_batch(n, net)
    trainer = torch_train.Trainer(net, images, labels, channels_last=variant == "channels_last")
    if variant == "fused":
        trainer.optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    name = f"PyTorch {torch.__version__.split('+')[0]}" + ("" if variant == "plain" else f" {variant}")
    answer(name, load, trainer.step)


def child_check(model, n, path):
    """A batch and PyTorch's gradients of its loss in f32 and f64, for --check."""
    import safetensors_np
    import torch
    import torch_network
    import torch_train
    net = torch_network.load_model(model)  # eval: no dropout
    images, labels, generator = child_batch(n, net)
    sigma = (torch.randn(n, generator=generator) * 1.2 - 1.2).exp()
    noise = torch.randn(images.shape, generator=generator)
    augment = torch.randn(n, 9, generator=generator) * 0.3 if net.model.map_augment is not None else None
    given = {"y": images, "sigma": sigma, "noise_unit": noise}
    given.update({k: v for k, v in (("class_labels", labels), ("augment_labels", augment)) if v is not None})
    tensors = dict(given)
    for suffix, kind in (("", torch.float32), ("64", torch.float64)):
        net = net.to(kind)
        net.zero_grad()
        extra = [None if v is None else v.to(kind) for v in (labels, augment)]
        error = torch_train.weighted_error(net, images.to(kind), sigma.to(kind), noise.to(kind), *extra)
        (error.sum() / n).backward()
        tensors["loss" + suffix] = (error.sum() / n).detach()
        tensors.update({f"grad{suffix}.{k}": p.grad.clone() for k, p in net.named_parameters() if p.grad is not None})
    safetensors_np.save(path, {k: v.numpy() for k, v in tensors.items()})


def child_check_augment(path):
    """The augmentation of torch_train.py on recorded draws: largest difference from the recorded images and labels."""
    import safetensors_np
    import torch
    import torch_train
    t = {k: torch.from_numpy(v.copy()) for k, v in safetensors_np.load(path)[0].items()}
    draws = [t[k] for k in sorted(k for k in t if k.startswith("draw"))]
    p = 0.12 if "p012" in path else 1.0
    out, labels = torch_train.augment(t["images"], draws, p)
    print(f"{os.path.basename(path)}: images {(out - t['out']).abs().max():.2e}, "
          f"labels {(labels - t['labels']).abs().max():.2e}")


# ---- Driver ------------------------------------------------------------------------------------------------------
class TrainContender(Contender):
    """Also keeps the times of a step's parts where a child gives them, and the CPU time of all its threads."""

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self):
        before = self.cpu()
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().split()
        if not line:
            raise SystemExit(f"{self.key} died: {self.process.stderr.read().strip()}")
        self.times.append(float(line[0]))
        self.__dict__.setdefault("cpu_times", []).append(self.cpu() - before)
        self.__dict__.setdefault("parts", []).append([float(v) for v in line[1:]])


def python_child(python, *arguments):
    return [python, os.path.abspath(__file__), "--child", *map(str, arguments)]


def commands(args):
    for recompute in args.recompute.split(","):
        yield "fdm" if recompute == args.recompute.split(",")[0] else f"fdm {recompute}", [
            args.fdm, args.model, "--n", str(args.batch), "--threads", str(args.threads), "--recompute", recompute,
            *(["--isa", args.isa] if args.isa else [])]
    for python in args.torch:
        for variant in args.variants.split(","):
            yield f"torch:{python}:{variant}", python_child(python, "torch", args.model, args.batch, args.threads, variant)


def start(args):
    started = []
    for key, command in commands(args):
        c = TrainContender(key, command, args.threads)
        if c.failure:
            print(f"left out: {key}: {c.failure}", file=sys.stderr)
        else:
            print(f"ready: {c.name}", file=sys.stderr)
            started.append(c)
    return started


def summary(contenders, args):
    fdm = next((c for c in contenders if c.key == "fdm"), None)
    rows = []
    for c in contenders:
        row = {"name": c.name, "seconds": statistics.median(c.times), "best": min(c.times), "peak_rss_mb": c.peak_mb(),
               "cpu_seconds": statistics.median(c.cpu_times), "times": c.times, "cpu_times": c.cpu_times}
        if fdm and c is not fdm:
            row["ratio_quartiles"] = quartiles([a / b for a, b in zip(c.times, fdm.times)])
            row["cpu_ratio_quartiles"] = quartiles([a / b for a, b in zip(c.cpu_times, fdm.cpu_times)])
        if c.parts[0]:
            row["parts"] = {k: statistics.median(p[i] for p in c.parts) for i, k in enumerate(PARTS)}
        rows.append(row)
    return {"model": os.path.basename(args.model), "batch": args.batch, "threads": args.threads, "rounds": args.rounds,
            "load": os.getloadavg(), "contenders": rows}


def ratio_text(q):
    return f"{q[1]:.2f} ({q[0]:.2f} – {q[2]:.2f})" if q else "–"


def markdown(result):
    lines = [f"N = {result['batch']}, {result['threads']} threads, {result['rounds']} alternating rounds, load average "
             f"{result['load'][0]:.1f}; ratios = time / fdm's time in the same round, median (quartiles), above 1: fdm is "
             "faster; CPU time is that of all threads, which a busy machine disturbs less.", "",
             "| contender | s per step, median | best | ratio | CPU s per step | ratio of CPU times | peak RSS |",
             "|---|---|---|---|---|---|---|"]
    for r in result["contenders"]:
        lines.append(f"| {r['name']} | {r['seconds']:.2f} | {r['best']:.2f} | {ratio_text(r.get('ratio_quartiles'))} | "
                     f"{r['cpu_seconds']:.2f} | {ratio_text(r.get('cpu_ratio_quartiles'))} | {r['peak_rss_mb']:.0f} MB |")
    for r in result["contenders"]:
        if "parts" in r:
            lines += ["", f"{r['name']}: " + ", ".join(f"{k} {v:.4f} s" for k, v in r["parts"].items())]
    return "\n".join(lines)


def bench(args):
    contenders = start(args)
    if not contenders:
        raise SystemExit("nothing to time")
    for i in range(args.rounds):
        k = i % len(contenders)
        for c in contenders[k:] + contenders[:k]:
            c.run()
            time.sleep(args.pause)  # lets the other's idle threads stop spinning
        print(f"round {i + 1}/{args.rounds}: " + ", ".join(f"{c.name} {c.times[-1]:.3f}" for c in contenders),
              file=sys.stderr)
    result = summary(contenders, args)
    for c in contenders:
        c.close()
    print(markdown(result))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(result, f, indent=1)
    return 0


def check(args):
    """The gradients of both programs on one batch; fdm's within 2e-5 of each parameter's largest element."""
    import numpy as np
    import safetensors_np
    with tempfile.TemporaryDirectory() as folder:
        truth, ours = os.path.join(folder, "truth.safetensors"), os.path.join(folder, "ours.safetensors")
        subprocess.run(python_child(args.torch[0], "check", args.model, args.batch, truth), check=True)
        subprocess.run([args.fdm_command, "grad", "--model", args.model, "--in", truth, "--out", ours], check=True)
        t, o = safetensors_np.load(truth)[0], safetensors_np.load(ours)[0]

    def error(got, against, name):
        truth_ = t[against + name].astype(np.float64)
        return float(np.abs(got[name if got is o else "grad." + name] - truth_).max() / np.abs(truth_).max())

    names = [k[len("grad."):] for k in t if k.startswith("grad.")]
    o = {k[len("grad."):] if k.startswith("grad.") else k: v for k, v in o.items()}
    missing = [k for k in names if k not in o]
    worst = {label: max((error(got, against, k), k) for k in names)
             for label, got, against in (("fdm against PyTorch", o, "grad."), ("fdm against f64", o, "grad64."),
                                         ("PyTorch against f64", t, "grad64."))}
    print(f"{len(names)} parameters, missing {missing}; loss: fdm {float(o['loss']):.7g}, PyTorch {float(t['loss']):.7g}, "
          f"f64 {float(t['loss64']):.9g}")
    for label, (value, name) in worst.items():
        print(f"{label}: largest difference {value:.2e} of the largest element, {name}")
    return 0 if not missing and worst["fdm against f64"][0] <= 2e-5 else 1


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        sys.path.insert(0, HERE)
        what, *rest = sys.argv[2:]
        rest = [int(a) if a.isdigit() else a for a in rest]
        return {"torch": child_torch, "check": child_check, "check_augment": child_check_augment}[what](*rest)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fdm", default="build/bench/bench_train", help="the C contender")
    parser.add_argument("--fdm-command", default="build/fdm", help="the command, for --check")
    parser.add_argument("--isa", help="instruction set of the C contender")
    parser.add_argument("--recompute", default="off", help="off, norm, block, or several: the first is compared with")
    parser.add_argument("--torch", action="append", metavar="PYTHON", help="interpreter that has torch; repeatable")
    parser.add_argument("--variants", default="plain", help="of PyTorch: plain, channels_last, fused (Adam), or several")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--model", help="model file; default: the CIFAR-10 network with random weights, made once")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two runs")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    args.torch = [] if args.no_torch else args.torch or ["/usr/bin/python3"]
    if not args.model:
        args.model = bench_network.default_model((args.torch or ["/usr/bin/python3"])[0])
    return check(args) if args.check else bench(args)


if __name__ == "__main__":
    sys.exit(main())
