"""Check the PyTorch peer (torch_network.py) against the published goldens: a peer that computes something else
would make every comparison with it worthless.

    python3 bench/check_torch_network.py [tests/golden]        exit code 0 only if every figure is within its bound
"""
import copy
import glob
import os
import sys

import numpy as np
import torch

import safetensors_np
import torch_network

FAILED = []


def report(what, got, want, bound):
    """Worst error relative to the largest truth; `not <=` so that NaN fails."""
    got = np.asarray(got, dtype=np.float64)
    error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-300) if got.shape == want.shape else float("nan")
    ok = bool(error <= bound)
    print(f"{'ok  ' if ok else 'FAIL'} {what:60s} {error:.3e} (bound {bound:g})")
    if not ok:
        FAILED.append(what)


def check_net(path):
    t, meta = safetensors_np.load(path)
    name = os.path.basename(path).replace(".safetensors", "")
    net = torch_network.load_state(torch_network.build(meta["config"]), t).eval()
    tt = {k: torch.from_numpy(v) for k, v in t.items() if not k.startswith("model.")}
    args = (tt["x"], tt["sigma"], tt.get("class_labels"), tt.get("augment_labels"))
    with torch.no_grad():
        out = net(*args)
        # f32 against f32 of another build: rounding only, the published figure is up to 2.7e-6 of max
        report(name + " F_x", net.last["F_x"], t["F_x"], 1e-5)
        report(name + " out", out, t["out"], 1e-5)
        net64 = copy.deepcopy(net).double()
        report(name + " out_f64", net64(*args), t["out_f64"], 1e-12)
        emb = tt["emb_noise"].double()
        labels = args[2].double() if args[2] is not None else None
        augment = args[3].double() if args[3] is not None else None
        f64 = net64.model(tt["c_in_x"].double(), None, labels, augment, emb_noise=emb)
        report(name + " F_x_f64_given_emb", f64, t["F_x_f64_given_emb"], 1e-12)
        report(name + " F_x (f32) against f64 given emb", net.last["F_x"], t["F_x_f64_given_emb"], 1e-5)
        if "out_no_augment" in t:
            report(name + " out_no_augment", net(args[0], args[1], args[2]), t["out_no_augment"], 1e-5)
        if "out_no_labels" in t:
            report(name + " out_no_labels", net(args[0], args[1], None, args[3]), t["out_no_labels"], 1e-5)


def check_trace(path):
    t, meta = safetensors_np.load(path)
    weights, _ = safetensors_np.load(os.path.join(os.path.dirname(path), meta["weights_from"]))
    net = torch_network.load_state(torch_network.build(meta["config"]), weights).eval()
    got = torch_network.trace(net, torch.from_numpy(t["x"]), torch.from_numpy(t["sigma"]), None,
                              torch.from_numpy(t["augment_labels"]))
    want = {k for k in t if k.startswith("trace.")}
    if set(got) != want:
        FAILED.append("trace names")
        print("FAIL trace names differ:", sorted(set(got) ^ want))
    worst = max(want & set(got), key=lambda k: np.abs(got[k] - t[k]).max() / np.abs(t[k]).max())
    # f32 Fourier angles reach 200: one ulp of c_noise (another build's logarithm) moves their sine by 2e-5
    report(f"{len(want)} traced modules, worst {worst}", got[worst], t[worst], 5e-5)


def check_ops(path):
    t, _ = safetensors_np.load(path)

    def fill(module, case):
        state = {k: torch.from_numpy(t[f"{case}.{k}"]) for k in module.state_dict()}
        module.load_state_dict(state)
        return module.double()

    for case in sorted({k.split(".")[0] for k in t}):
        if case.startswith("conv_"):
            parts = case.split("_")
            resample = {"up": parts[1] == "up", "down": parts[1] == "down", "fused": parts[-1] == "fused"}
            w = t.get(case + ".weight")
            k, c_out = (w.shape[-1], w.shape[0]) if w is not None else (0, 0)
            module = torch_network.Conv2d(t[case + ".x"].shape[1], c_out, k, **resample,
                                          taps=(1, 3, 3, 1) if "f1331" in case else (1, 1))
        elif case.startswith("gn_"):
            module = torch_network.GroupNorm(t[case + ".x"].shape[1])
        else:
            continue
        report("op " + case, fill(module, case)(torch.from_numpy(t[case + ".x"]).double()).detach(),
               t[case + ".out_f64"], 1e-12)
    for case in ("block_plain", "block_skip", "block_up", "block_down", "block_attn"):
        c_in, c_out = t[case + ".x"].shape[1], t[case + ".out"].shape[1]
        taps = (1, 3, 3, 1) if case == "block_down" else (1, 1)
        module = torch_network.UNetBlock(c_in, c_out, t[case + ".emb"].shape[1], taps, 0.0, up=case == "block_up",
                                         down=case == "block_down", attention=case == "block_attn")
        fill(module, case)
        out = module(torch.from_numpy(t[case + ".x"]).double(), torch.from_numpy(t[case + ".emb"]).double())
        report("op " + case, out.detach(), t[case + ".out"], 1e-5)  # golden is f32


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "tests/golden"
    torch.set_num_threads(1)
    print("torch", torch.__version__)
    for path in sorted(glob.glob(os.path.join(folder, "net_*.safetensors"))):
        check_net(path)
    for path in sorted(glob.glob(os.path.join(folder, "trace_*.safetensors"))):
        check_trace(path)
    check_ops(os.path.join(folder, "ops_layers.safetensors"))
    print("failed:", FAILED if FAILED else "none")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
