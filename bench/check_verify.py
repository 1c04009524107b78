"""Hold `fdm verify` against PyTorch: dumps made with the README's own recipe by the networks of torch_network.py.

    python3 bench/check_verify.py build/fdm [clean] [bugs] [bf16] [gradients] [sampler] [large] [--random N] [--table FILE.md]

clean      every framework on tiny ddpmpp, ncsnpp and skip/skip networks, f32: must pass
bugs       the same with one thing wrong: must fail, name the first wrong module, and (where one can) the reason
bf16       the network in bfloat16: must pass as bf16, fail as fp32, and be recognised
gradients, sampler   the recipe's other two parts
quick      a little of all of these
large      every module of the published CIFAR-10 network (55.7 M parameters): time and peak memory for one sample
--random   that many networks of random configuration and weights, in f32, TF32 (rounded operands), bf16, fp16: no false alarm

One line "ok ...", "FAIL ..." or "SKIP: ..." a check; exit code 0 only if none fails.
"""
import argparse
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch.nn import functional as F

import make_extra_goldens
import torch_network

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = {"img_resolution": 16, "img_channels": 3, "label_dim": 0, "augment_dim": 0, "model_channels": 16, "channel_mult": [1, 2],
        "channel_mult_emb": 4, "num_blocks": 1, "attn_resolutions": [16], "dropout": 0.0, "fdm_multiplier": 2.0}
ARCHITECTURES = {
    "ddpmpp": {"label_dim": 10, "augment_dim": 9},
    "ncsnpp": {"embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1]},
    "skips": {"encoder_type": "skip", "decoder_type": "skip", "resample_filter": [1, 3, 3, 1]},
}
KINDS = ["VPPrecond", "VEPrecond", "EDMPrecond", "FDM_VPPrecond", "FDM_VEPrecond", "FDM_EDMPrecond"]
FAILURES = []


def say(ok, text):
    print(("ok " if ok else "FAIL ") + text, flush=True)
    if not ok:
        FAILURES.append(text)


def recipe():
    """The functions of the README's python blocks."""
    with open(os.path.join(HERE, "..", "README.md"), encoding="utf-8") as f:
        blocks = re.findall(r"```python\n(.*?)```", f.read(), re.S)
    scope = {}
    for block in blocks:
        exec(block, scope)  # pylint: disable=exec-used
    return scope


def make(kind, changes, seed, sigmas=(0.05, 0.7, 3.0)):
    """(network, constructor arguments, inputs) with weights that hide nothing."""
    config = {"class_name": "training.networks." + kind, "model_type": "SongUNet", **TINY, **changes}
    rng = np.random.default_rng(seed)
    net = torch_network.build(config).eval()
    make_extra_goldens.redraw(net, rng)
    t = make_extra_goldens.inputs(config, sigmas, rng)
    return net, config, {k: torch.from_numpy(v) for k, v in t.items()}


class Files:
    """Model and dump in a folder of their own, verified by the command."""

    def __init__(self, fdm, folder):
        self.fdm, self.folder, self.recipe = fdm, folder, recipe()

    def path(self, name):
        return os.path.join(self.folder, name)

    def verify(self, *options, dump="dump.npz"):
        run = subprocess.run([self.fdm, "verify", "--model", self.path("model.safetensors"), "--dump", self.path(dump), "--json",
                              *options], capture_output=True, text=True, check=False)
        if run.returncode not in (0, 1):
            raise RuntimeError(run.stderr)
        report = json.loads(run.stdout)
        assert (run.returncode == 0) == (report["verdict"] == "pass")
        return report

    def save(self, net, config):
        torch_network.save_model(self.path("model.safetensors"), net, config)

    def dump(self, net, t):
        self.recipe["dump"](net, self.path("dump.npz"), t["x"], t["sigma"], t.get("class_labels"), t.get("augment_labels"))


def describe(report):
    bad = [t for t in report["tensors"] if t["verdict"] == "fail"][:3]
    return f"{report['verdict']}, first bad {report['first_bad']}: " + "; ".join(f"{t['name']}: {t['reason']}" for t in bad)


def check_clean(files, kinds=tuple(KINDS)):
    for arch, changes in ARCHITECTURES.items():
        for number, kind in enumerate(kinds):
            net, config, t = make(kind, changes, 100 + number)
            files.save(net, config)
            files.dump(net, t)
            report = files.verify()
            say(report["verdict"] == "pass", f"{arch} {kind}: {len(report['tensors'])} tensors"
                + ("" if report["verdict"] == "pass" else ": " + describe(report)))


# ---- bugs: each changes a network (or how it is called) and says where ----

def module(net, name):
    return dict(net.named_modules())[name]


def patch(net, name, forward):
    m = module(net, name)
    m.forward = forward(m)


def norm_with(**changes):
    def forward(m):
        return lambda x: F.group_norm(x, changes.get("groups", m.groups), m.weight, m.bias, changes.get("eps", 1e-6))
    return forward


def unbiased(m):
    def forward(x):
        n = x[0].numel() // m.groups
        y = F.group_norm(x, m.groups, None, None, 1e-6) * math.sqrt((n - 1) / n)
        return y * m.weight[:, None, None] + m.bias[:, None, None]
    return forward


def circular(m):
    return lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), m.weight, m.bias)


def half_sums(m):
    def forward(x):
        columns = F.unfold(x, 3, padding=1)
        w, total = m.weight.flatten(1), torch.zeros(len(x), len(m.weight), columns.shape[2])
        for k in range(w.shape[1]):
            total = (total + w[None, :, k, None] * columns[:, None, k, :]).half().float()
        return total.reshape(len(x), -1, *x.shape[2:]) + m.bias[:, None, None]
    return forward


def overflow(m):
    original = type(m).forward
    return lambda x: (original(m, x) * 1e6).half().float() / 1e6


def replaced_attention(net, block, **how):
    def attend(qkv):
        n, c3, height, width = qkv.shape
        c = c3 // 3
        parts = list(qkv.reshape(n, c, 3, -1).unbind(2))
        if how.get("blocks"):
            parts = list(qkv.reshape(n, 3, c, -1).unbind(1))
        if how.get("swap"):
            parts[0], parts[1] = parts[1], parts[0]
        w = torch.einsum("ncq,nck->nqk", parts[0], parts[1] / (1 if how.get("unscaled") else math.sqrt(c)))
        w = torch.softmax(w, dim=1 if how.get("axis") else 2)
        return torch.einsum("nqk,nck->ncq", w, parts[2]).reshape(n, c, height, width)
    module(net, block)._attend = attend


def without_skip_scale(m):
    def forward(x, emb):
        h = m.conv0(F.silu(m.norm0(x)))
        h = F.silu(m.norm1(h + m.affine(emb)[:, :, None, None]))
        return m.conv1(h) + (x if m.skip is None else m.skip(x))
    return forward


def shifted_skip(net):
    """The decoder's last block takes the skip of the block before it."""
    block = module(net, "model.dec.16x16_block1")
    seen, original = {}, type(block).forward
    module(net, "model.enc.16x16_block0").register_forward_hook(lambda _m, _a, y: seen.update(y=y))
    block.forward = lambda x, emb: original(block, torch.cat([x[:, :x.shape[1] - seen["y"].shape[1]], seen["y"]], 1), emb)


def clamp(net, attribute, low, high):
    original = net.coefficients
    def coefficients(sigma):
        c, other = original(sigma), original(sigma.clamp(low, high))
        c[attribute] = other[attribute]
        return c
    net.coefficients = coefficients


def coefficient(net, index, value):
    original = net.coefficients
    def coefficients(sigma):
        c = original(sigma)
        c[index] = value(sigma)
        return c
    net.coefficients = coefficients


def change(net, name, f):
    with torch.no_grad():
        p = dict(net.named_parameters())[name]
        p.copy_(f(p))


def swap_halves(net):
    original = type(net.model)._embed
    def embed(c_noise, class_labels, augment_labels, emb_noise):
        raw = net.model.map_noise(c_noise)
        return original(net.model, c_noise, class_labels, augment_labels, torch.cat(raw.chunk(2, dim=1)[::-1], dim=1))
    net.model._embed = embed


def label_scale(net):
    m = module(net, "model.map_label")
    original = type(m).forward
    m.forward = lambda x: original(m, x / math.sqrt(net.model.label_dim))


def filter_of(net, name, taps):
    f = torch.tensor(taps, dtype=torch.float32)
    m = module(net, name)
    m.resample_filter = (torch.outer(f, f) / f.sum() ** 2)[None, None]
    m.filter_pad = (len(taps) - 1) // 2


def raw_weights(net):
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1 + 1e-3 * torch.sin(torch.arange(p.numel(), dtype=torch.float32)).reshape(p.shape))


E, D = "model.enc.", "model.dec."
# what, architecture, framework, sigmas or None, plant(net), first bad module, a word of the reason ("" where none can be known)
BUGS = [
    ("eps 1e-5", "ddpmpp", "FDM_EDMPrecond", None, lambda n: patch(n, E + "8x8_block0.norm1", norm_with(eps=1e-5)), E + "8x8_block0.norm1", "eps"),
    ("unbiased variance", "ddpmpp", "FDM_EDMPrecond", None, lambda n: patch(n, D + "8x8_in0.norm0", unbiased), D + "8x8_in0.norm0", "biased"),
    ("group count halved", "ncsnpp", "FDM_VEPrecond", None, lambda n: patch(n, D + "16x16_up.norm0", norm_with(groups=4)), D + "16x16_up.norm0", "groups"),
    ("circular padding", "ddpmpp", "EDMPrecond", None, lambda n: patch(n, D + "8x8_block1.conv0", circular), D + "8x8_block1.conv0", "circular"),
    ("resample filter [1,1]", "ncsnpp", "VEPrecond", None, lambda n: filter_of(n, E + "8x8_down.conv0", [1, 1]), E + "8x8_down.conv0", "[1,1]"),
    ("missing skip scale", "ddpmpp", "FDM_EDMPrecond", None, lambda n: patch(n, E + "8x8_block0", without_skip_scale), E + "8x8_block0", "sqrt(1/2)"),
    ("attention not scaled", "ddpmpp", "VPPrecond", None, lambda n: replaced_attention(n, D + "8x8_in0", unscaled=True), D + "8x8_in0.proj", "sqrt(C)"),
    ("softmax over queries", "ddpmpp", "FDM_VPPrecond", None, lambda n: replaced_attention(n, E + "16x16_block0", axis=True), E + "16x16_block0.proj", "keys"),
    ("q and k exchanged", "ncsnpp", "EDMPrecond", None, lambda n: replaced_attention(n, D + "8x8_in0", swap=True), D + "8x8_in0.proj", "q, k, v"),
    ("qkv in blocks", "ddpmpp", "FDM_EDMPrecond", None, lambda n: replaced_attention(n, D + "8x8_in0", blocks=True), D + "8x8_in0.proj", "blocks"),
    ("embedding halves swapped", "ddpmpp", "FDM_EDMPrecond", None, swap_halves, "model.map_layer0", "swapped"),
    ("dropped bias", "ncsnpp", "FDM_VEPrecond", None, lambda n: change(n, D + "16x16_block0.conv1.bias", torch.zeros_like), D + "16x16_block0.conv1", "bias"),
    ("raw instead of averaged weights", "ddpmpp", "FDM_EDMPrecond", None, raw_weights, "model.map_label", "--other"),
    ("wrong fdm_multiplier", "ddpmpp", "FDM_EDMPrecond", None, lambda n: setattr(n, "multiplier", 1.0), "c_in", "fdm_multiplier 1"),
    ("EDM's c_in", "ddpmpp", "FDM_EDMPrecond", None, lambda n: coefficient(n, 2, lambda s: 1 / (s ** 2 + 0.25).sqrt()), "c_in", "edm"),
    ("no c_in at all", "ddpmpp", "FDM_VPPrecond", None, lambda n: coefficient(n, 2, torch.ones_like), "c_in", ""),
    ("sigma clamped", "ddpmpp", "FDM_EDMPrecond", (0.0005, 0.001), lambda n: clamp(n, 3, 0.002, 80), "model.map_noise", "clamped"),
    ("fp16 overflow", "ddpmpp", "FDM_EDMPrecond", None, lambda n: patch(n, D + "8x8_in1.conv0", overflow), D + "8x8_in1.conv0", ""),
    ("sums in fp16", "ddpmpp", "FDM_EDMPrecond", None, lambda n: patch(n, E + "8x8_block0.conv0", half_sums), E + "8x8_block0.conv0", ""),
    ("labels not scaled", "ddpmpp", "FDM_EDMPrecond", None, label_scale, "model.map_label", "sqrt(label_dim)"),
    ("off-by-one skip", "ddpmpp", "FDM_EDMPrecond", None, shifted_skip, D + "16x16_block1.norm0", "in place of"),
    ("transposed 1x1", "ddpmpp", "FDM_EDMPrecond", None, lambda n: change(n, E + "16x16_block0.proj.weight", lambda w: w.transpose(0, 1).clone()), E + "16x16_block0.proj", "transposed"),
    ("sigma_data 1", "ddpmpp", "FDM_EDMPrecond", None, lambda n: (coefficient(n, 0, lambda s: 1 / (s ** 2 + 1)), coefficient(n, 1, lambda s: s / (s ** 2 + 1).sqrt())), "self", ""),
    ("flipped kernel", "ddpmpp", "VEPrecond", None, lambda n: change(n, E + "8x8_down.conv1.weight", lambda w: w.flip(2, 3)), E + "8x8_down.conv1", "flipped"),
]


def check_bugs(files, table=None, every=1):
    rows = ["| planted | in | first bad module | reason given |", "|---|---|---|---|"]
    for number, (what, arch, kind, sigmas, plant, first, word) in list(enumerate(BUGS))[::every]:
        net, config, t = make(kind, ARCHITECTURES[arch], 300 + number, sigmas or (0.05, 0.7, 3.0))
        files.save(net, config)
        options = []
        if word == "--other":
            other, _, _ = make(kind, ARCHITECTURES[arch], 300 + number)
            raw_weights(other)
            torch_network.save_model(files.path("other.safetensors"), other, config)
            options = ["--other", files.path("other.safetensors")]
        plant(net)
        files.dump(net, t)
        report = files.verify(*options)
        reason = report["diagnosis"] or ""
        good = report["verdict"] == "fail" and report["first_bad"] == first and word in reason and not report["looks_like"]
        say(good, f"{what}: first bad {report['first_bad']} {reason}" + ("" if good else f" (expected {first}, {word}); " + describe(report)))
        short = reason.split(" matches the truth if ")[-1]
        bad = next((i for i in report["tensors"] if i["verdict"] == "fail"), {"reason": ""})
        rows.append(f"| {what} | {arch}, {kind} | `{report['first_bad']}` | {short or bad['reason']} |")
    if table:
        with open(table, "w", encoding="utf-8") as f:
            f.write("\n".join(rows) + "\n")


class InHalf(torch.nn.Module):
    """The preconditioned network with F in bfloat16 or float16 and everything around it in f32."""

    def __init__(self, net, dtype=torch.bfloat16):
        super().__init__()
        freqs = dict(net.named_buffers()).get("model.map_noise.freqs")
        self.coefficients, self.model, self.dtype = net.coefficients, net.model.to(dtype), dtype
        if freqs is not None:  # as the published program, whose use_fp16 leaves the embedding alone
            self.model.map_noise.freqs = freqs

    def forward(self, x, sigma, class_labels=None, augment_labels=None):
        half = self.dtype
        c_skip, c_out, c_in, c_noise = self.coefficients(sigma.reshape(-1, 1, 1, 1))
        labels = [None if v is None else v.to(half) for v in (class_labels, augment_labels)]
        return c_skip * x + c_out * self.model((c_in * x).to(half), c_noise.flatten(), *labels).float()


def tf32(x):
    """To 10 fraction bits, ties to even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fff).view(torch.float32)


class Tf32:
    """Within it, convolutions of all kinds round their operands to TF32, as tensor cores do, and sum as the CPU does."""

    def __enter__(self):
        self.saved = F.conv2d, F.conv_transpose2d
        wrap = lambda f: lambda x, w, *args, **kwargs: f(tf32(x), tf32(w), *args, **kwargs)
        F.conv2d, F.conv_transpose2d = map(wrap, self.saved)

    def __exit__(self, *_):
        F.conv2d, F.conv_transpose2d = self.saved


def check_bf16(files):
    for number, (arch, changes) in enumerate(ARCHITECTURES.items()):
        net, config, t = make("FDM_EDMPrecond", changes, 500 + number)
        files.save(net, config)
        try:
            files.dump(InHalf(net), t)
        except RuntimeError as e:
            print(f"SKIP: bf16 {arch}: {e}")
            continue
        report = files.verify("--precision", "bf16")
        ratios = sorted(i["rms_ratio"] for i in report["tensors"] if i["rms_ratio"])
        say(report["verdict"] == "pass", f"{arch} in bf16 passes as bf16, RMS ratios {ratios[0]:.2g} ... {ratios[len(ratios) // 2]:.2g} ... "
            f"{ratios[-1]:.2g}" + ("" if report["verdict"] == "pass" else ": " + describe(report)))
        report = files.verify()
        say(report["verdict"] == "fail" and report["looks_like"] == "bf16", f"{arch} in bf16 fails as fp32, looks like {report['looks_like']}")


def check_gradients(files, kinds=("FDM_EDMPrecond", "VPPrecond", "FDM_VEPrecond")):
    for number, kind in enumerate(kinds):
        net, config, t = make(kind, ARCHITECTURES["ncsnpp" if number == 2 else "ddpmpp"], 600 + number)
        files.save(net, config)
        rng = np.random.default_rng(number)
        y, e = (torch.from_numpy(rng.standard_normal(t["x"].shape).astype(np.float32)) for _ in range(2))
        weight = torch.tensor([2.0, 3.0, 0.5])
        files.recipe["dump_gradients"](net, files.path("dump.npz"), y, t["sigma"], e, weight, t.get("class_labels"), t.get("augment_labels"))
        report = files.verify()
        say(report["verdict"] == "pass", f"gradients of {kind}: {len(report['tensors'])} tensors" + ("" if report["verdict"] == "pass" else ": " + describe(report)))
        with np.load(files.path("dump.npz")) as z:
            tensors = dict(z)
        tensors["grad.model.enc.8x8_block0.conv0.weight"] *= 1.01
        np.savez(files.path("dump.npz"), **tensors)
        report = files.verify()
        say(report["first_bad"] == "model.enc.8x8_block0.conv0", f"a gradient off by 1 %: first bad {report['first_bad']}")


@torch.no_grad()
def heun(net, latents, class_labels, steps=6):
    """EDM's deterministic sampler, as published: f64 state, f32 network."""
    i = torch.arange(steps, dtype=torch.float64)
    t = (80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    t = torch.cat([t, torch.zeros(1, dtype=torch.float64)])
    x = latents.double() * t[0]
    for now, after in zip(t[:-1], t[1:]):
        d = (x - net(x, now, class_labels).double()) / now
        x1 = x + (after - now) * d
        if after > 0:
            d1 = (x1 - net(x1, after, class_labels).double()) / after
            x1 = x + (after - now) * 0.5 * (d + d1)
        x = x1
    return x


def check_sampler(files):
    net, config, t = make("FDM_EDMPrecond", {"label_dim": 10}, 700)
    files.save(net, config)
    latents = torch.from_numpy(np.random.default_rng(7).standard_normal((2, 3, 16, 16)).astype(np.float32))
    files.recipe["dump_sampler"](net, files.path("dump.npz"), heun, latents, t["class_labels"][:2])
    report = files.verify()
    say(report["verdict"] == "pass" and len(report["steps"]) == 11, f"a sampler's run: {len(report['steps'])} states, "
        f"{len(report['tensors'])} calls" + ("" if report["verdict"] == "pass" else ": " + describe(report)))
    with np.load(files.path("dump.npz")) as z:
        tensors = dict(z)
    tensors["x_call"][4] += 1e-3
    np.savez(files.path("dump.npz"), **tensors)
    report = files.verify()
    bad = [s["call"] for s in report["steps"] if s["verdict"] == "fail"]
    say(bad and bad[0] == 3, f"a state moved by 1e-3 on its way to call 4: steps after calls {bad} fail")


def check_large(files):
    config = {"img_resolution": 32, "model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4, "augment_dim": 9}
    net, config, t = make("FDM_EDMPrecond", config, 800, (0.7,))
    files.save(net, config)
    files.dump(net, t)
    size = os.path.getsize(files.path("dump.npz")) / 1e6
    for precision in ("fp32", "tf32"):
        start = time.time()
        report = files.verify("--precision", precision, "--threads", "2", "--no-diagnosis")
        seconds, peak = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        ratios = sorted(i["rms_ratio"] for i in report["tensors"])
        say(report["verdict"] == "pass" and seconds < 60 and peak < 4096, f"55.7 M parameters as {precision}: {len(report['tensors'])} tensors of "
            f"{size:.0f} MB in {seconds:.1f} s, peak {peak:.0f} MB, RMS ratios {ratios[0]:.2g} ... {ratios[-1]:.2g}, {report['verdict']} "
            f"{describe(report) if report['verdict'] != 'pass' else ''}")


def check_quick(files):
    check_clean(files, ("FDM_EDMPrecond",))
    check_bugs(files, every=8)
    check_gradients(files, ("FDM_EDMPrecond",))
    check_sampler(files)


def random_config(rng):
    pick = lambda *options: options[rng.integers(len(options))]
    levels = pick([1], [1, 1], [1, 2], [2, 1], [1, 1, 2])
    resolution = pick(8, 16) if len(levels) < 3 else 16
    return pick(*KINDS), {
        "img_resolution": resolution, "img_channels": pick(1, 3), "label_dim": pick(0, 0, 5), "augment_dim": pick(0, 9),
        "model_channels": pick(4, 8, 16, 24, 32), "channel_mult": levels, "channel_mult_emb": pick(1, 2, 4), "num_blocks": pick(1, 2),
        "attn_resolutions": pick([], [resolution], [resolution // 2]), "embedding_type": pick("positional", "fourier"),
        "channel_mult_noise": pick(1, 2), "encoder_type": pick("standard", "skip", "residual"),
        "decoder_type": pick("standard", "skip"), "resample_filter": pick([1, 1], [1, 3, 3, 1]), "fdm_multiplier": pick(1.0, 2.0)}


def dump_in(files, net, t, precision):
    if precision == "tf32":
        with Tf32():
            files.dump(net, t)
    else:
        files.dump({"fp32": lambda: net, "bf16": lambda: InHalf(net), "fp16": lambda: InHalf(net, torch.float16)}[precision](), t)


def check_random(files, count):
    rng, precisions = np.random.default_rng(12345), ["fp32", "tf32", "bf16", "fp16"]
    seen = {p: {"networks": 0, "tensors": 0, "alarms": 0, "rms": 0.0, "max": 0.0} for p in precisions}
    for number in range(count):
        kind, changes = random_config(rng)
        sigmas = np.exp(rng.normal(-1.0, 1.2, rng.integers(1, 4))).clip(0.03, 20)
        for precision in precisions:
            net, config, t = make(kind, changes, 10000 + number, sigmas)
            files.save(net, config)
            s = seen[precision]
            try:
                dump_in(files, net, t, precision)
            except RuntimeError as e:
                if not s["networks"]:
                    print(f"SKIP: {precision}: {e}")
                    precisions = [p for p in precisions if p != precision]
                continue
            report = files.verify("--precision", precision, "--no-diagnosis")
            s["networks"] += 1
            s["tensors"] += len(report["tensors"])
            s["rms"] = max([s["rms"]] + [i["rms_ratio"] for i in report["tensors"] if i["rms_ratio"]])
            s["max"] = max([s["max"]] + [i["max_ratio"] for i in report["tensors"] if i["max_ratio"]])
            if report["verdict"] == "fail":
                s["alarms"] += 1
                print(f"{precision} network {number} {kind} {changes} {sigmas}: {describe(report)}", flush=True)
    for precision, s in seen.items():
        if s["networks"]:
            say(s["alarms"] == 0, f"{precision}: {s['alarms']} false alarms in {s['networks']} random networks, {s['tensors']} tensors; largest "
                f"ratios {s['rms']:.3g} (RMS), {s['max']:.3g} (maximum)")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("fdm")
    p.add_argument("what", nargs="*", default=[])
    p.add_argument("--random", type=int, default=0)
    p.add_argument("--table")
    a = p.parse_args()
    what = a.what or ([] if a.random else ["clean", "bugs", "bf16", "gradients", "sampler"])
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(a.fdm, folder)
        checks = {"clean": lambda: check_clean(files), "bugs": lambda: check_bugs(files, a.table), "bf16": lambda: check_bf16(files),
                  "gradients": lambda: check_gradients(files), "sampler": lambda: check_sampler(files), "large": lambda: check_large(files), "quick": lambda: check_quick(files)}
        for name in what:
            checks[name]()
        if a.random:
            check_random(files, a.random)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
