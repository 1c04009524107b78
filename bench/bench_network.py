"""Time the whole network's forward pass against PyTorch (and ONNX Runtime): CIFAR-10 ddpmpp, 55.7 M parameters.

    make && make bench-network        or
    python3 bench/bench_network.py --fdm build/bench/bench_network --torch /usr/bin/python3 --torch OTHER_PYTHON

Every contender is a child process that loads the same model file, runs once, and then answers each line `run` with
the seconds of one forward pass.  The rounds alternate (each starts with another contender), because the speed of a
shared machine drifts by more than the differences of interest; the figure is the median over rounds of
(peer's time) / (fdm's time) in the same round: above 1, fdm is faster.  A contender that cannot start is named and
left out.  `--check` also compares the outputs (F_x against PyTorch in f64) instead of timing them.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = {"class_name": "training.networks.FDM_EDMPrecond", "model_type": "SongUNet", "fdm_multiplier": 2.0,
          "img_resolution": 32, "img_channels": 3, "label_dim": 0, "augment_dim": 9, "model_channels": 128,
          "channel_mult": [2, 2, 2], "num_blocks": 4, "attn_resolutions": [16], "dropout": 0.13,
          "embedding_type": "positional", "channel_mult_noise": 1, "encoder_type": "standard",
          "decoder_type": "standard", "resample_filter": [1, 1]}


# ---- Children that are Python (torch is imported nowhere else) ---------------------------------------------------
def child_inputs(n, net):
    import torch
    generator = torch.Generator().manual_seed(1)
    unet = net.model
    sigma = 0.5 + 0.25 * torch.arange(n, dtype=torch.float32)
    x = torch.randn(n, unet.img_channels, unet.resolutions[0], unet.resolutions[0], generator=generator)
    labels = torch.eye(unet.label_dim)[torch.arange(n) % unet.label_dim] if unet.label_dim else None
    augment = torch.zeros(n, unet.map_augment.weight.shape[1]) if unet.map_augment is not None else None
    return x * sigma.reshape(-1, 1, 1, 1), sigma, labels, augment


def child_make_model(path):
    """Random weights of the size that training leaves: nothing near zero, so no layer is skipped or denormal."""
    import torch
    import torch_network
    torch.manual_seed(0)
    net = torch_network.build(CONFIG)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1:
                fan = (p.shape[0] + p.shape[1]) * p[0, 0].numel()
                p.copy_(torch.randn(p.shape) * (2 / fan) ** 0.5)
            elif name.endswith("bias"):
                p.copy_(torch.randn(p.shape) * 0.1)
            else:
                p.copy_(1 + torch.randn(p.shape) * 0.2)
    torch_network.save_model(path, net, CONFIG)


def answer(name, load, step):
    step()
    print(f"ready {name} {load:.6f}", flush=True)
    for line in sys.stdin:
        if line != "run\n":
            break
        start = time.perf_counter()
        step()
        print(f"{time.perf_counter() - start:.6f}", flush=True)


def child_torch(model, n, threads):
    import torch
    import torch_network
    torch.set_num_threads(threads)
    start = time.perf_counter()
    net = torch_network.load_model(model)
    load = time.perf_counter() - start
    args = child_inputs(n, net)

    def step():
        with torch.no_grad():
            net(*args)

    answer(f"PyTorch {torch.__version__.split('+')[0]}", load, step)


def child_export(model, n, onnx):
    """ONNX file of the raw network, for child_onnx; written by PyTorch's TorchScript exporter."""
    import torch
    import torch_network
    net = torch_network.load_model(model)
    x, sigma, labels, augment = child_inputs(n, net)
    c_noise = net.coefficients(sigma)[3]
    named = [("x", x), ("c_noise", c_noise), ("labels", labels), ("augment", augment)]
    torch.onnx.export(net.model, tuple(v for _, v in named), onnx, opset_version=16, do_constant_folding=True,
                      input_names=[k for k, v in named if v is not None], output_names=["F"])


def child_onnx(onnx, n, threads):
    import numpy as np
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - start
    rng = np.random.default_rng(1)
    feed = {i.name: rng.standard_normal([d if isinstance(d, int) else n for d in i.shape]).astype(np.float32)
            for i in session.get_inputs()}
    answer(f"ONNX Runtime {onnxruntime.__version__}", load, lambda: session.run(None, feed))


def child_check(model, n, path):
    """Inputs and PyTorch's outputs in f32 and f64, for --check."""
    import torch
    import torch_network
    net = torch_network.load_model(model)
    x, sigma, labels, augment = child_inputs(n, net)
    with torch.no_grad():
        out = net(x, sigma, labels, augment)
        tensors = {"x": x, "sigma": sigma, "out": out, "F_x": net.last["F_x"]}
        tensors.update({k: v for k, v in (("class_labels", labels), ("augment_labels", augment)) if v is not None})
        tensors["out_f64"] = net.double()(x, sigma, labels, augment)
        tensors["F_x_f64"] = net.last["F_x"]
    import safetensors_np
    safetensors_np.save(path, {k: v.numpy() for k, v in tensors.items()})


# ---- Driver ------------------------------------------------------------------------------------------------------
class Contender:
    def __init__(self, key, command, threads):
        self.key, self.times, self.failure = key, [], None
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, text=True, env=environment)
        except OSError as e:
            self.process, self.failure = None, str(e)
            return
        line = self.process.stdout.readline().split()
        if len(line) < 3 or line[0] != "ready":
            self.process.stdin.close()
            text = self.process.stderr.read().strip().splitlines()
            self.failure = text[-1] if text else "no answer"
            self.process.wait()
            return
        self.name, self.load = " ".join(line[1:-1]), float(line[-1])

    def run(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.key} died: {self.process.stderr.read().strip()}")
        self.times.append(float(line))

    def peak_mb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()


def python_child(python, *arguments):
    return [python, os.path.abspath(__file__), "--child", *map(str, arguments)]


def start_contenders(args):
    commands = [("fdm", [args.fdm, args.model, str(args.batch), str(args.threads)])]
    commands += [(f"torch:{p}", python_child(p, "torch", args.model, args.batch, args.threads)) for p in args.torch]
    if args.onnxruntime:
        onnx = args.model + f".n{args.batch}.onnx"
        fresh = os.path.exists(onnx) and os.path.getmtime(onnx) > os.path.getmtime(args.model)
        done = fresh or subprocess.run(
            python_child(args.torch[0], "export", args.model, args.batch, onnx)).returncode == 0
        if done:
            commands.append(("onnx", python_child(args.onnxruntime, "onnx", onnx, args.batch, args.threads)))
        else:
            print(f"left out: ONNX Runtime: {args.torch[0]} could not export the network", file=sys.stderr)
    started = []
    for key, command in commands:
        c = Contender(key, command, args.threads)
        if c.failure:
            print(f"left out: {key}: {c.failure}", file=sys.stderr)
        else:
            print(f"ready: {c.name}, model loaded in {c.load:.3f} s", file=sys.stderr)
            started.append(c)
    return started


def quartiles(values):
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3


def summary(contenders, args):
    fdm = next((c for c in contenders if c.key == "fdm"), None)
    rows = []
    for c in contenders:
        row = {"name": c.name, "seconds_per_image": statistics.median(c.times) / args.batch,
               "best_seconds_per_image": min(c.times) / args.batch, "load_seconds": c.load,
               "peak_rss_mb": c.peak_mb(), "times": c.times}
        if fdm and c is not fdm:
            row["ratio_quartiles"] = quartiles([a / b for a, b in zip(c.times, fdm.times)])
        rows.append(row)
    return {"model": os.path.basename(args.model), "batch": args.batch, "threads": args.threads,
            "rounds": args.rounds, "contenders": rows}


def markdown(result):
    lines = [f"N = {result['batch']}, {result['threads']} threads, {result['rounds']} alternating rounds; ratio = "
             "time / fdm's time in the same round, above 1: fdm is faster.", "",
             "| contender | s per image, median | best | time / fdm: median (quartiles) | peak RSS | load |",
             "|---|---|---|---|---|---|"]
    for r in result["contenders"]:
        q = r.get("ratio_quartiles")
        ratio = f"{q[1]:.2f} ({q[0]:.2f} – {q[2]:.2f})" if q else "–"
        lines.append(f"| {r['name']} | {r['seconds_per_image']:.4f} | {r['best_seconds_per_image']:.4f} | {ratio} | "
                     f"{r['peak_rss_mb']:.0f} MB | {r['load_seconds']:.2f} s |")
    return "\n".join(lines)


def bench(args):
    contenders = start_contenders(args)
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


def check(args):
    """RMS error of F_x against PyTorch in f64: fdm's must not exceed PyTorch's own (CONTRACT, P3)."""
    import numpy as np
    import safetensors_np
    with tempfile.TemporaryDirectory() as folder:
        truth, ours = os.path.join(folder, "truth.safetensors"), os.path.join(folder, "ours.safetensors")
        subprocess.run(python_child(args.torch[0], "check", args.model, args.batch, truth), check=True)
        subprocess.run([args.fdm_command, "denoise", "--model", args.model, "--in", truth, "--out", ours], check=True)
        t, o = safetensors_np.load(truth)[0], safetensors_np.load(ours)[0]

    def rms(a):
        return float(np.sqrt(np.mean((a.astype(np.float64) - t["F_x_f64"]) ** 2)))

    fdm, torch_ = rms(o["F_x"]), rms(t["F_x"])
    print(f"RMS error of F_x against f64: fdm {fdm:.3e}, PyTorch {torch_:.3e}, ratio {fdm / torch_:.3f}; "
          f"RMS of F_x {rms(0 * t['F_x']):.3f}")
    return 0 if fdm <= torch_ else 1


def default_model(python):
    """The CIFAR-10 network with random weights, made once."""
    folder = os.path.join(tempfile.gettempdir(), f"fdm-bench-{os.getuid()}")
    os.makedirs(folder, exist_ok=True)
    model = os.path.join(folder, "cifar10_ddpmpp_random.safetensors")
    if not os.path.exists(model):
        maker = [python, os.path.abspath(__file__), "--child", "make", model]
        subprocess.run(maker, check=True)
    return model


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        sys.path.insert(0, HERE)
        what, *rest = sys.argv[2:]
        rest = [int(a) if a.isdigit() else a for a in rest]
        return {"torch": child_torch, "onnx": child_onnx, "export": child_export, "make": child_make_model,
                "check": child_check}[what](*rest)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fdm", default="build/bench/bench_network", help="the C contender")
    parser.add_argument("--fdm-command", default="build/fdm", help="the command, for --check")
    parser.add_argument("--torch", action="append", metavar="PYTHON", help="interpreter that has torch; repeatable")
    parser.add_argument("--onnxruntime", metavar="PYTHON", help="interpreter that has onnxruntime")
    parser.add_argument("--model", help="model file; default: the CIFAR-10 network with random weights, made once")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two runs")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    args.torch = args.torch or ["/usr/bin/python3"]
    if not args.model:
        args.model = default_model(args.torch[0])
    return check(args) if args.check else bench(args)


if __name__ == "__main__":
    sys.exit(main())
