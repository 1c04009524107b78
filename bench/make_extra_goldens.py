"""Make tests/golden_extra/: networks that the published goldens lack, computed by our own PyTorch implementation
(torch_network.py, which check_torch_network.py holds against the published goldens).

    python3 bench/make_extra_goldens.py [tests/golden_extra]        (PyTorch 1.13; random numbers are numpy's)

Tensor names are those of tests/golden/net_*: see the README in that folder.
"""
import copy
import json
import os
import sys

import numpy as np
import torch

import safetensors_np
import torch_network

# name -> (preconditioning, sigmas, constructor arguments); positional embedding, standard coders, [1,1] unless said
DEFAULTS = {"img_channels": 3, "label_dim": 0, "augment_dim": 0, "model_channels": 8, "channel_mult_emb": 2,
            "num_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
F1331 = [1, 3, 3, 1]
CASES = {
    "skip_skip_f1331": ("FDM_EDMPrecond", [0.3, 20.0], {
        "img_resolution": 8, "channel_mult": [1, 1], "attn_resolutions": [4], "encoder_type": "skip",
        "decoder_type": "skip", "resample_filter": F1331, "fdm_multiplier": 2.0}),
    "residual_skip_f1331": ("VEPrecond", [0.05, 60.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 2], "encoder_type": "residual", "decoder_type": "skip",
        "resample_filter": F1331, "embedding_type": "fourier", "channel_mult_noise": 2}),
    "skip_standard_f11": ("EDMPrecond", [0.01, 3.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [2, 1], "encoder_type": "skip", "attn_resolutions": [8, 4]}),
    "standard_skip_len6_filter": ("FDM_VPPrecond", [0.1, 30.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 2], "decoder_type": "skip", "resample_filter": [1, 5, 10, 10, 5, 1],
        "fdm_multiplier": 1.5}),
    "residual_standard_len6_filter": ("FDM_VEPrecond", [0.02, 100.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 1], "encoder_type": "residual", "num_blocks": 2,
        "resample_filter": [1, 5, 10, 10, 5, 1], "fdm_multiplier": 2.0}),
    "residual_skip_lopsided_filter": ("FDM_EDMPrecond", [0.002, 80.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 2], "encoder_type": "residual", "decoder_type": "skip",
        "resample_filter": [1, 4, 2, 3], "fdm_multiplier": 2.0}),
    "gray": ("FDM_EDMPrecond", [0.5, 5.0], {
        "model_channels": 4,
        "img_resolution": 16, "img_channels": 1, "channel_mult": [1, 2], "attn_resolutions": [16],
        "fdm_multiplier": 2.0}),
    "gray_skip_skip": ("VPPrecond", [0.02, 2.0], {
        "model_channels": 4,
        "img_resolution": 8, "img_channels": 1, "channel_mult": [1, 1], "encoder_type": "skip",
        "decoder_type": "skip", "resample_filter": F1331}),
    "resolution12_3levels": ("FDM_EDMPrecond", [0.2, 40.0], {
        "model_channels": 4,
        "img_resolution": 12, "channel_mult": [1, 1, 2], "attn_resolutions": [12, 3], "encoder_type": "skip",
        "resample_filter": F1331, "fdm_multiplier": 2.0}),
    "resolution10_odd_last": ("EDMPrecond", [0.7, 9.0], {
        "model_channels": 4,
        "img_resolution": 10, "channel_mult": [1, 2], "attn_resolutions": [10], "encoder_type": "residual",
        "decoder_type": "skip", "resample_filter": F1331}),
    "fourier_labels_augment": ("FDM_VEPrecond", [0.4, 70.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 2], "embedding_type": "fourier", "channel_mult_noise": 2,
        "label_dim": 7, "augment_dim": 9, "encoder_type": "residual", "resample_filter": F1331}),
    "channels20": ("FDM_EDMPrecond", [0.1, 1.0], {
        "img_resolution": 8, "model_channels": 20, "channel_mult": [1],
        "channel_mult_emb": 1, "fdm_multiplier": 2.0}),
    "channels4_12": ("FDM_VPPrecond", [0.5, 100.0], {
        "img_resolution": 8, "model_channels": 4, "channel_mult": [3, 1], "attn_resolutions": [8],
        "fdm_multiplier": 2.0, "label_dim": 3}),
    "blocks3_attention_everywhere": ("EDMPrecond", [0.05, 7.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 1], "num_blocks": 3, "attn_resolutions": [8, 4]}),
    "levels4_down_to_1x1": ("FDM_EDMPrecond", [0.9, 15.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1, 1, 1, 1], "attn_resolutions": [2, 1], "encoder_type": "skip",
        "decoder_type": "skip", "resample_filter": F1331, "fdm_multiplier": 2.0}),
    "sigma_outside_range": ("FDM_EDMPrecond", [0.0005, 120.0], {
        "model_channels": 4,
        "img_resolution": 8, "channel_mult": [1], "fdm_multiplier": 2.0, "augment_dim": 5}),
}
TRACED = "skip_skip_f1331"
# parameter suffix -> (mean, spread); the initial 1e-5 weights and zero biases would hide errors
REDRAWN = [(("norm0.weight", "norm1.weight", "norm2.weight", "aux_norm.weight"), 1.0, 0.2), ((".bias",), 0.0, 0.1),
           (("conv1.weight", "aux_conv.weight"), 0.0, 0.05), (("qkv.weight",), 0.0, 0.15), (("proj.weight",), 0.0, 0.1)]


def redraw(net, rng):
    """Every weight from numpy, so that the files do not depend on torch's generator."""
    with torch.no_grad():
        for name, p in net.named_parameters():
            mean, spread = 0.0, 0.0
            if p.dim() > 1:  # the spread of the initialisation: fans are channels times kernel taps
                spread = float(np.sqrt(2 / ((p.shape[0] + p.shape[1]) * p[0, 0].numel())))
            for suffixes, m, s in REDRAWN:
                if name.endswith(suffixes):
                    mean, spread = m, s
                    break
            p.copy_(torch.from_numpy((mean + spread * rng.standard_normal(p.shape)).astype(np.float32)))
        for name, b in net.named_buffers():
            if name.endswith("freqs"):
                b.copy_(torch.from_numpy((16 * rng.standard_normal(b.shape)).astype(np.float32)))


def inputs(config, sigmas, rng):
    """x = image-like values + sigma * noise; labels are vectors, not one-hot rows, to weigh every column."""
    n, c, r = len(sigmas), config["img_channels"], config["img_resolution"]
    sigma = np.array(sigmas, np.float32)
    x = rng.uniform(-1, 1, (n, c, r, r)) + sigma[:, None, None, None] * rng.standard_normal((n, c, r, r))
    t = {"x": x.astype(np.float32), "sigma": sigma}
    if config["label_dim"]:
        t["class_labels"] = rng.uniform(0, 1, (n, config["label_dim"])).astype(np.float32)
    if config["augment_dim"]:
        t["augment_labels"] = rng.standard_normal((n, config["augment_dim"])).astype(np.float32)
    return t


def outputs(net, t):
    """Everything a net_* file holds beside inputs and weights."""
    tt = {k: torch.from_numpy(v) for k, v in t.items()}
    args = [tt["x"], tt["sigma"], tt.get("class_labels"), tt.get("augment_labels")]
    net64 = copy.deepcopy(net).double()
    with torch.no_grad():
        out = {"out": net(*args)}
        out.update(net.last)
        out["emb_noise"] = net.model.map_noise(out["c_noise"])
        doubles = [None if a is None else a.double() for a in args[2:]]
        if net.model.label_dim == 0:
            doubles[0] = None
        out["out_f64"] = net64(*args)
        out["F_x_f64_given_emb"] = net64.model(out["c_in_x"].double(), None, *doubles,
                                               emb_noise=out["emb_noise"].double())
        if args[2] is not None:
            out["out_no_labels"] = net(args[0], args[1], None, args[3])
        if args[3] is not None:
            out["out_no_augment"] = net(args[0], args[1], args[2], None)
    return {k: v.numpy() for k, v in out.items()}


def make_network(folder, number, name):
    kind, sigmas, changes = CASES[name]
    config = {"class_name": "training.networks." + kind, "model_type": "SongUNet", **DEFAULTS, **changes}
    rng = np.random.default_rng(1000 + number)
    net = torch_network.build(config).eval()
    redraw(net, rng)
    t = inputs(config, sigmas, rng)
    o = outputs(net, t)
    path = os.path.join(folder, f"net_{name}.safetensors")
    torch_network.save_model(path, net, config, {"mode": "eval", "torch": torch.__version__,
                                                 "made_by": "bench/make_extra_goldens.py"}, {**t, **o})
    error = np.abs(o["F_x"] - o["F_x_f64_given_emb"]).max() / np.abs(o["F_x_f64_given_emb"]).max()
    print(f"{name:32s} {os.path.getsize(path) / 1000:6.1f} kB  |F_x| <= {np.abs(o['F_x']).max():6.2f}  "
          f"f32 error {error:.1e}")
    if name == TRACED:
        make_trace(folder, name, net, config, {k: v[:1] for k, v in t.items()})


def make_trace(folder, name, net, config, t):
    """Module outputs of the f64 network, stored as f32: an f32 program differs from them by its own rounding only."""
    net = copy.deepcopy(net).double()
    outputs_ = torch_network.trace(net, torch.from_numpy(t["x"]), torch.from_numpy(t["sigma"]))
    tensors = {**t, **{k: v.astype(np.float32) for k, v in outputs_.items()}}
    tensors["out"] = tensors["trace.self"]
    path = os.path.join(folder, f"trace_{name}.safetensors")
    safetensors_np.save(path, tensors, {
        "weights_from": f"net_{name}.safetensors", "config": json.dumps(config),
        "completion_order": json.dumps([k[len("trace."):] for k in outputs_]),
        "made_by": "bench/make_extra_goldens.py"})
    print(f"trace_{name}: {len(outputs_)} modules, {os.path.getsize(path) / 1000:.1f} kB")


def make_resampling(folder):
    """Single resampling convolutions with filters that no network golden has; odd lengths cannot be used in a whole
    network, because an up step then makes 2R - 1 pixels."""
    rng, tensors, cases = np.random.default_rng(77), {}, []
    filters = {"f121": [1, 2, 1], "f1": [1], "f1423": [1, 4, 2, 3], "f15101051": [1, 5, 10, 10, 5, 1],
               "f14641": [1, 4, 6, 4, 1]}
    for tag, taps in filters.items():
        for direction in ("up", "down"):
            for k, fused in ((0, False), (1, False), (3, False), (3, True)):
                case = f"conv_{direction}_k{k}_{tag}" + ("_fused" if fused else "")
                module = torch_network.Conv2d(2, 3 if k else 2, k, up=direction == "up", down=direction == "down",
                                              taps=taps, fused=fused)
                with torch.no_grad():
                    for p in module.parameters():
                        p.copy_(torch.from_numpy(rng.standard_normal(p.shape).astype(np.float32) * 0.3))
                x = rng.standard_normal((1, 2, 4, 4)).astype(np.float32)
                tensors[case + ".x"] = x
                with torch.no_grad():
                    tensors[case + ".out_f64"] = copy.deepcopy(module).double()(torch.from_numpy(x).double()).numpy()
                for name, v in module.state_dict().items():
                    tensors[f"{case}.{name}"] = v.numpy()
                cases.append(case)
    path = os.path.join(folder, "ops_resample.safetensors")
    safetensors_np.save(path, tensors, {"cases": json.dumps(cases), "made_by": "bench/make_extra_goldens.py"})
    print(f"ops_resample: {len(cases)} cases, {os.path.getsize(path) / 1000:.1f} kB")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "tests/golden_extra"
    os.makedirs(folder, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for number, name in enumerate(CASES):
        make_network(folder, number, name)
    make_resampling(folder)


if __name__ == "__main__":
    main()
