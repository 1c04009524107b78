"""What compare.py measures.  Each experiment yields results: {id, title, rows, left_out, ...}."""
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import contenders
import peers
from contenders import say

FORWARD_VARIANTS = ["eager", "channels_last", "compile", "compile+channels_last", "compile+freezing"]
TRAIN_VARIANTS = ["eager", "channels_last", "fused", "compile"]
LAYERS = [(3, 128, 256, 32), (3, 256, 256, 32), (3, 512, 256, 32), (3, 256, 256, 16), (3, 512, 256, 16), (3, 256, 256, 8),
          (3, 512, 512, 8), (3, 3, 128, 32), (3, 128, 3, 32), (1, 256, 768, 16), (1, 512, 256, 32), (1, 512, 256, 8)]
QUICK_LAYERS = [(3, 256, 256, 32), (3, 512, 256, 16), (1, 256, 768, 16)]
PASSES = ["forward", "d_in", "d_weight"]


@dataclass
class Context:
    args: object
    peers: object
    clock: object
    folder: str

    def rounds(self, usual, quick):
        return self.args.rounds or (quick if self.args.quick else usual)

    def variants(self, usual, quick):
        return self.args.variants.split(",") if self.args.variants else quick if self.args.quick else usual

    @property
    def python(self):
        """An interpreter with PyTorch, the newest."""
        return list(self.peers.torch.values())[-1] if self.peers.torch else None

    def make(self, name, *arguments):
        """A file that child_torch.py makes once; NAME is the last argument but for options."""
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            say(f"  making {name}")
            partial = os.path.join(self.folder, "partial-" + name)
            subprocess.run(peers.torch_child(self.python, *[partial if a is None else a for a in arguments]), check=True)
            os.replace(partial, path)
        return path


def race(context, ident, title, specs, rounds, flops, images, **more):
    """Starts the contenders, runs the rounds, and gives the result."""
    say(f"{title}: {rounds} rounds")
    left_out = {}
    started = contenders.start(specs, context.args.threads, left_out, context.args.start_limit)
    if not started:
        return {"id": ident, "title": title, "rows": [], "left_out": left_out, **more}
    machine = contenders.alternate(started, rounds, context.clock, context.args.pause)
    rows = contenders.rows(started, flops, images)
    for c in started:
        c.close()
    peak, triad = (contenders.quartiles([m[i] for m in machine]) for i in (0, 1))
    return {"id": ident, "title": title, "rounds": rounds, "flops": flops, "images": images, "peak_gflops": peak,
            "triad_gbs": triad, "rows": rows, "left_out": left_out, **more}


def model_info(context, model):
    text = peers.output([os.path.join(context.peers.build, "fdm"), "info", model, "--json"])
    if text is None:
        raise SystemExit(f"{model}: fdm info cannot read it")
    return json.loads(text)


def models(context):
    """[(name, path)]: given ones, and those with random weights if PyTorch can make them."""
    result = []
    if context.python:
        for arch in context.args.archs.split(","):
            if arch:
                result.append((arch, context.make(f"{arch}.safetensors", "make", arch, None)))
    return result + [(os.path.basename(m).rsplit(".", 1)[0], os.path.abspath(m)) for m in context.args.model]


# ---- Accuracy --------------------------------------------------------------------------------------------------------
def rms(truth_path, key, path):
    """RMS of FILE's F_x minus the truth."""
    import safetensors_np  # needs numpy, which the driver may lack
    import numpy as np
    truth = safetensors_np.load(truth_path)[0][key]
    got = safetensors_np.load(path)[0]["F_x"].astype(np.float64)
    return float(np.sqrt(np.mean((got - truth) ** 2))) if got.shape == truth.shape else float("nan")


def rms_in(context, truth, path):
    """The same in an interpreter that has numpy: wherever torch is."""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import experiments; "
            "print(repr(experiments.rms(*sys.argv[2:])))")
    text = peers.output([context.python, "-c", code, peers.HERE, truth, "F_x_f64", path])
    return float(text) if text else None


def errors(context, truth, model):
    """(for children that answer `output`, for fdm) -> functions from a contender to its RMS error."""
    path = os.path.join(context.folder, "output.safetensors")

    def of_child(contender):
        contender.ask("output " + path)
        return rms_in(context, truth, path)

    def of_fdm(conv, env):
        def error(_contender):
            command = [os.path.join(context.peers.build, "fdm"), "denoise", "--model", model, "--in", truth, "--out", path,
                       "--threads", str(context.args.threads), "-q", *conv]
            done = subprocess.run(command, env={**os.environ, **env}, check=False)
            return rms_in(context, truth, path) if done.returncode == 0 else None
        return error

    return of_child, of_fdm


# ---- Whole networks --------------------------------------------------------------------------------------------------
def onnx_specs(context, name, model, truth, n, error):
    """ONNX Runtime, if there is a PyTorch that can write the network for it."""
    if not context.peers.onnx:
        return []
    path = os.path.join(context.folder, f"{name}.n{n}.onnx")
    if not os.path.exists(path):
        for python in reversed(list(context.peers.torch.values())):
            say(f"  writing {os.path.basename(path)}")
            done = subprocess.run(peers.torch_child(python, "export", model, truth, n, path + ".tmp"), check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if done.returncode == 0:
                os.replace(path + ".tmp", path)
                break
        else:
            say("  left out: ONNX Runtime: the network could not be exported")
            return []
    version, python = context.peers.onnx
    command = [python, os.path.join(peers.HERE, "child_onnx.py"), path, truth, str(n), str(context.args.threads)]
    return [contenders.Spec(f"onnxruntime {'.'.join(version.split('.')[:2])}", command, "onnx", {}, error)]


def forward(context):
    args, p = context.args, context.peers
    for name, model in models(context):
        info = model_info(context, model)
        for n in dict.fromkeys([args.batch, 1]):
            options = ["--network", "--model", model, "--batch", str(n)]
            if not context.python:
                specs = peers.fdm_specs(p, options)
            else:
                truth = context.make(f"{name}.n{args.batch}.truth.safetensors", "truth", model, args.batch, None)
                of_child, of_fdm = errors(context, truth, model) if n == args.batch else (None, None)
                specs = peers.fdm_specs(p, options, of_fdm)
                specs += peers.torch_specs(p, "forward", [model, truth, n],
                                           context.variants(FORWARD_VARIANTS, ["eager"]), of_child)
                specs += onnx_specs(context, name, model, truth, n, of_child)
            yield race(context, f"forward-{name}-n{n}", f"Forward pass of {name}, N = {n}", specs, context.rounds(15, 3),
                       info["flops_per_image"] * n, n, parameters=info["parameters"], n=n)
        if args.quick and not args.model:
            break


def train(context):
    args, p = context.args, context.peers
    n = 2 if args.quick else args.batch
    for name, model in models(context)[:1]:
        info = model_info(context, model)
        specs = []
        for recompute in ("off", "norm"):
            options = ["--train", "--model", model, "--batch", str(n), "--recompute", recompute]
            for spec in peers.fdm_specs(p, options, only_first=args.quick or recompute == "norm"):
                spec.key += f" recompute {recompute}" if recompute != "off" else ""
                specs.append(spec)
        specs += peers.torch_specs(p, "train", [model, n], context.variants(TRAIN_VARIANTS, ["eager"]))
        yield race(context, f"train-{name}-n{n}", f"Training step of {name}, N = {n}", specs, context.rounds(7, 2),
                   3 * info["flops_per_image"] * n, n, parameters=info["parameters"], n=n)


def gradients(context):
    """Gradients of one batch: largest difference from f64 over a parameter's largest element, dropout off."""
    if not context.python:
        return
    n = 2
    for name, model in models(context)[:1]:
        say(f"Gradients of {name}, N = {n}")
        truth = context.make(f"{name}.n{n}.gradients.safetensors", "gradients", model, n, None)
        ours = os.path.join(context.folder, "ours.safetensors")
        code = ("import sys; sys.path.insert(0, sys.argv[1]); import json, experiments; "
                "print(json.dumps(experiments.gradient_errors(*sys.argv[2:])))")
        rows = []
        for spec in peers.fdm_specs(context.peers, []):
            conv = spec.command[spec.command.index("--conv"):] if "--conv" in spec.command else []
            command = [os.path.join(context.peers.build, "fdm"), "grad", "--model", model, "--in", truth, "--out", ours, "-q",
                       *conv]
            if subprocess.run(command, env={**os.environ, **spec.env}, check=False).returncode == 0:
                rows.append({"key": spec.key,
                             **json.loads(peers.output([context.python, "-c", code, peers.HERE, truth, ours, ""]))})
        rows.append({"key": "torch", **json.loads(peers.output([context.python, "-c", code, peers.HERE, truth, truth, "torch"]))})
        yield {"id": f"gradients-{name}", "title": f"Gradients of {name} against f64, N = {n}", "gradients": rows}


def gradient_errors(truth_path, path, of_torch):
    import numpy as np
    import safetensors_np
    truth, got = safetensors_np.load(truth_path)[0], safetensors_np.load(path)[0]
    names = [k[len("grad64."):] for k in truth if k.startswith("grad64.")]
    worst, squares, total = (0.0, ""), 0.0, 0.0
    for k in names:
        want = truth["grad64." + k]
        difference = got["grad." + k].astype(np.float64) - want
        worst = max(worst, (float(np.abs(difference).max() / np.abs(want).max()), k))
        squares, total = squares + float((difference ** 2).sum()), total + float((want ** 2).sum())
    return {"largest": worst[0], "where": worst[1], "rms_relative": (squares / total) ** 0.5}


def sample(context):
    args, p = context.args, context.peers
    for name, model in models(context)[:1]:
        info = model_info(context, model)
        calls, batch = 2 * args.steps - 1, min(args.sample_batch, args.images)
        options = ["--sample", "--model", model, "--batch", str(batch), "--images", str(args.images), "--steps", str(args.steps)]
        specs = peers.fdm_specs(p, options, only_first=True)
        specs += peers.torch_specs(p, "sample", [model, args.images, batch, args.steps],
                                   context.variants(["eager", "channels_last"], ["eager"]))
        yield race(context, f"sample-{name}", f"{args.images} images of {name} in {calls} evaluations", specs,
                   context.rounds(3, 1), info["flops_per_image"] * args.images * calls, args.images, n=args.images)


# ---- Parts -----------------------------------------------------------------------------------------------------------
def layer_specs(context, k, c_in, c_out, size, which):
    args, p = context.args, context.peers
    n = args.batch
    only = f"{k}x{k} {c_in}->{c_out} {size}x{size} {which}"
    specs = peers.fdm_specs(p, ["--layers", "--only", only, "--batch", str(n)])
    program = p.program("bench_onednn")
    if program:
        command = [program, *map(str, (k, c_in, c_out, size, n, which))]
        specs.append(contenders.Spec("oneDNN", command, "onednn"))
        if p.avx512:
            specs.append(contenders.Spec("oneDNN avx2", command, "onednn", dict(peers.AVX2_ONLY)))
    variants = [v for v in context.variants(["eager", "channels_last"], ["eager"]) if "compile" not in v and "fused" not in v]
    return specs + peers.torch_specs(p, "layer", [k, c_in, c_out, size, n, which], variants)


def layers(context):
    args = context.args
    for k, c_in, c_out, size in QUICK_LAYERS if args.quick else LAYERS:
        for which in PASSES[:1] if args.quick else PASSES:
            yield race(context, f"layer-{k}x{k}-{c_in}-{c_out}-{size}-{which}",
                       f"{k}x{k} {c_in}->{c_out} {size}x{size} {which}, N = {args.batch}",
                       layer_specs(context, k, c_in, c_out, size, which), context.rounds(15, 3),
                       2 * args.batch * size * size * k * k * c_in * c_out, args.batch, part=True)


def matmul(context):
    """1x1 convolutions against matrix products of the same size: pixels x outputs x inputs."""
    args, p = context.args, context.peers
    for c_in, c_out, size in [(256, 768, 16)] if args.quick else [(256, 768, 16), (512, 256, 32), (512, 256, 8)]:
        m = args.batch * size * size
        specs = peers.fdm_specs(p, ["--layers", "--only", f"1x1 {c_in}->{c_out} {size}x{size} forward", "--batch",
                                    str(args.batch)], only_first=True)
        program = p.program("bench_blis")
        if program:
            command = [program, str(m), str(c_out), str(c_in)]
            specs.append(contenders.Spec("BLIS", command, "blis"))
            if p.avx512:
                specs.append(contenders.Spec("BLIS skx", command, "blis", dict(peers.BLIS_SKX)))
        specs += peers.torch_specs(p, "matmul", [m, c_out, c_in], ["eager"])
        yield race(context, f"matmul-{m}-{c_out}-{c_in}", f"Matrix product {m} x {c_out} x {c_in}", specs,
                   context.rounds(15, 3), 2 * m * c_in * c_out, args.batch, part=True)


def profile(context):
    """`fdm bench` itself: layers and the share of each kind of layer in whole steps."""
    args = context.args
    rounds = context.rounds(9, 3)
    command = [os.path.join(context.peers.build, "fdm"), "bench", "--json", "--threads", str(args.threads), "--batch",
               str(2 if args.quick else args.batch), "--rounds", str(rounds)]
    say(f"Layers and profile: {rounds} rounds")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=False)
    if done.returncode == 0:
        yield {"id": "profile", "title": "fdm bench", "fdm_bench": json.loads(done.stdout)}
