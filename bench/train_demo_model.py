"""Train the demo model of data/: FDM-EDM, class-conditional, 16x16 RGB pictograms drawn by pictograms.py.

    python3 bench/train_demo_model.py train --folder RUN --kimg 400        (resumes if RUN has a state)
    python3 bench/train_demo_model.py export --folder RUN --out tests/golden_extra/shapes16_fdm_edm.safetensors
    python3 bench/train_demo_model.py grid --model tests/golden_extra/shapes16_fdm_edm.safetensors --out grid.png

Objective and averages are the specification's sections 4 and 5: EDM loss with FDM's weight warm-up, Adam, EMA.
Every few minutes RUN receives state.pt, model.safetensors (the averaged weights) and samples.png.
"""
import argparse
import copy
import json
import math
import os
import shutil
import time

import numpy as np
import torch

import pictograms
import torch_network

SIZE = 16
CONFIG = {"class_name": "training.networks.FDM_EDMPrecond", "model_type": "SongUNet", "fdm_multiplier": 2.0,
          "img_resolution": SIZE, "img_channels": 3, "label_dim": len(pictograms.CLASS_NAMES), "augment_dim": 0,
          "model_channels": 32, "channel_mult": [1, 2], "channel_mult_emb": 2, "num_blocks": 1,
          "attn_resolutions": [8], "dropout": 0.0, "embedding_type": "positional", "channel_mult_noise": 1,
          "encoder_type": "standard", "decoder_type": "standard", "resample_filter": [1, 1]}


class Loss:
    """lambda(sigma) (D - y)^2 with sigma = exp(-1.2 + 1.2 N(0,1)); the first calls clamp lambda at 5, rising to 500."""

    def __init__(self, warmup_calls):
        self.clamp, self.step = 5.0, 100.0 ** (1.0 / warmup_calls)

    def __call__(self, net, y, labels):
        sigma = (torch.randn(len(y), 1, 1, 1) * 1.2 - 1.2).exp()
        weight = (sigma ** 2 + 0.25) / (sigma * 0.5) ** 2
        if self.clamp < 500:
            weight = weight.clamp(max=self.clamp)
            self.clamp *= self.step
        return weight * (net(y + torch.randn_like(y) * sigma, sigma, labels) - y) ** 2


def learning_rate(args, nimg):
    """Linear ramp, then constant, then a cosine to 2 % over the second half."""
    progress = nimg / (args.kimg * 1000)
    tail = 0.51 + 0.49 * math.cos(math.pi * min(max(2 * progress - 1, 0), 1))
    return args.lr * min(nimg / (args.lr_rampup_kimg * 1000), 1) * tail


@torch.no_grad()
def sample(net, labels, steps=18, seed=0, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """The deterministic EDM sampler (Heun), state in f64."""
    generator = torch.Generator().manual_seed(seed)
    i = torch.arange(steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    t = torch.cat([(high + i / (steps - 1) * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])
    x = torch.randn(len(labels), 3, SIZE, SIZE, generator=generator).double() * t[0]
    for here, there in zip(t[:-1], t[1:]):
        d = (x - net(x, here, labels).double()) / here
        ahead = x + (there - here) * d
        if there > 0:
            d = (d + (ahead - net(ahead, there, labels).double()) / there) / 2
            ahead = x + (there - here) * d
        x = ahead
    return x


def write_samples(path, net, columns=8, steps=18, seed=0):
    """One row for each class."""
    classes = len(pictograms.CLASS_NAMES)
    labels = torch.eye(classes).repeat_interleave(columns, 0)
    pictograms.write_grid(path, sample(net, labels, steps, seed).numpy(), columns)


def checkpoint(args, net, ema, optimiser, loss, nimg):
    os.makedirs(args.folder, exist_ok=True)
    path = os.path.join(args.folder, "state.pt")
    torch.save({"net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(),
                "clamp": loss.clamp, "nimg": nimg}, path + ".tmp")
    os.replace(path + ".tmp", path)
    metadata = {"class_names": json.dumps(pictograms.CLASS_NAMES), "trained_images": nimg,
                "made_by": "bench/train_demo_model.py"}
    torch_network.save_model(os.path.join(args.folder, "model.safetensors"), ema, CONFIG, metadata)
    write_samples(os.path.join(args.folder, "samples.png"), ema)


def restore(args, net, ema, optimiser, loss):
    path = os.path.join(args.folder, "state.pt")
    if not os.path.exists(path):
        return 0
    state = torch.load(path)
    net.load_state_dict(state["net"])
    ema.load_state_dict(state["ema"])
    optimiser.load_state_dict(state["optimiser"])
    loss.clamp = state["clamp"]
    return state["nimg"]


def train(args):
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    net = torch_network.build(CONFIG).train()
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    optimiser = torch.optim.Adam(net.parameters(), lr=args.lr, betas=(0.9, 0.999), eps=1e-8)
    loss = Loss(args.warmup_calls)
    nimg = restore(args, net, ema, optimiser, loss)
    rng = np.random.default_rng([args.seed, nimg])
    torch.manual_seed(args.seed + nimg)
    print(f"{sum(p.numel() for p in net.parameters())} parameters, starting at {nimg} images", flush=True)
    shown, saved, total, calls, first = time.time(), time.time(), 0.0, 0, nimg
    while nimg < args.kimg * 1000:
        numbers = rng.integers(0, len(pictograms.CLASS_NAMES), args.batch)
        y = torch.from_numpy(pictograms.images(numbers, SIZE, rng).astype(np.float32))
        labels = torch.eye(len(pictograms.CLASS_NAMES))[torch.from_numpy(numbers)]
        optimiser.zero_grad(set_to_none=True)
        value = loss(net, y, labels).sum() / args.batch
        value.backward()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(args, nimg)
        optimiser.step()
        half_life = min(args.ema_kimg * 1000, 0.05 * nimg)
        decay = 0.5 ** (args.batch / max(half_life, 1e-8))
        with torch.no_grad():
            for p, q in zip(ema.parameters(), net.parameters()):
                p.copy_(q.lerp(p, decay))
        nimg, total, calls = nimg + args.batch, total + value.item(), calls + 1
        if time.time() - shown > 30:
            rate = (nimg - first) / (time.time() - shown)
            print(f"{nimg / 1000:8.1f} kimg  loss {total / calls:8.2f}  {rate:6.1f} images/s", flush=True)
            shown, total, calls, first = time.time(), 0.0, 0, nimg
        if time.time() - saved > args.save_minutes * 60:
            checkpoint(args, net, ema, optimiser, loss, nimg)
            saved = time.time()
    checkpoint(args, net, ema, optimiser, loss, nimg)
    print("done", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    t = sub.add_parser("train")
    t.add_argument("--folder", required=True)
    t.add_argument("--kimg", type=float, default=400)
    t.add_argument("--batch", type=int, default=64)
    t.add_argument("--lr", type=float, default=2e-3)
    t.add_argument("--lr-rampup-kimg", type=float, default=10)
    t.add_argument("--ema-kimg", type=float, default=10)
    t.add_argument("--warmup-calls", type=float, default=400, help="loss calls of the weight warm-up")
    t.add_argument("--save-minutes", type=float, default=4)
    t.add_argument("--seed", type=int, default=0)
    e = sub.add_parser("export")
    e.add_argument("--folder", required=True)
    e.add_argument("--out", required=True)
    g = sub.add_parser("grid")
    g.add_argument("--model", required=True)
    g.add_argument("--out", required=True)
    g.add_argument("--steps", type=int, default=18)
    g.add_argument("--columns", type=int, default=8)
    g.add_argument("--seed", type=int, default=0)
    d = sub.add_parser("data", help="draw training images instead of samples")
    d.add_argument("--out", required=True)
    args = parser.parse_args()
    if args.command == "train":
        train(args)
    elif args.command == "export":
        shutil.copyfile(os.path.join(args.folder, "model.safetensors"), args.out)
    elif args.command == "grid":
        write_samples(args.out, torch_network.load_model(args.model), args.columns, args.steps, args.seed)
    else:
        numbers = np.repeat(np.arange(len(pictograms.CLASS_NAMES)), 8)
        pictograms.write_grid(args.out, pictograms.images(numbers, SIZE, np.random.default_rng(0)), 8)


if __name__ == "__main__":
    main()
