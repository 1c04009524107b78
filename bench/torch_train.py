"""Training in PyTorch: what the C training step is timed and checked against, beside torch_network.py.

Written from the specification alone (sections 4 and 5): one step is random numbers, augmentation, loss, backward pass,
clean-up of the gradient, Adam, and the averages.  Runs under PyTorch 1.13 and later.
"""
import copy
import math

import torch
from torch.nn import functional as F

SYM6 = [0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
        0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
        0.0017677118642428036, -0.007800708325034148]


# ---- Augmentation ------------------------------------------------------------------------------------------------
def draw_augmentation(n):
    """The random numbers of a batch, in the published order; every other one is a mask."""
    def randint():
        return torch.randint(2, [n, 1, 1, 1])

    def rand():
        return torch.rand(n)

    def randn():
        return torch.randn(n)

    return [randint(), torch.rand(n, 1, 1, 1), randint(), torch.rand(n, 1, 1, 1), randn(), rand(), rand(), rand(),
            randn(), rand(), rand(), rand(), torch.randn(2, n), torch.rand(1, n)]


def _matrix(n, *entries):
    """(n, 3, 3) from 9 scalars or (n) tensors."""
    return torch.stack([e if torch.is_tensor(e) else torch.full([n], float(e)) for e in entries], dim=1).reshape(n, 3, 3)


def _scale(n, x, y):
    return _matrix(n, x, 0, 0, 0, y, 0, 0, 0, 1)


def _shift(n, x, y):
    return _matrix(n, 1, 0, x, 0, 1, y, 0, 0, 1)


def _rotate(n, angle):
    c, s = angle.cos(), angle.sin()
    return _matrix(n, c, -s, 0, s, c, 0, 0, 0, 1)


def _filter(x, taps, axis, **how):
    """Every channel correlated with the taps along an axis (2: y, 3: x)."""
    c = x.shape[1]
    shape = [1, 1, -1, 1] if axis == 2 else [1, 1, 1, -1]
    how = {k: ((v, 1) if k == "stride" else (v, 0)) if axis == 2 else ((1, v) if k == "stride" else (0, v))
           for k, v in how.items()}
    return F.conv2d(x, taps.reshape(shape).expand(c, -1, -1, -1).contiguous(), groups=c, **how)


def _warp(x, G):
    """out(position) = x(G position) through twofold supersampling."""
    n, c, height, width = x.shape
    taps, pad = torch.tensor(SYM6), len(SYM6) // 4
    cx, cy = (width - 1) / 2, (height - 1) / 2
    corners = torch.tensor([[-cx, -cy, 1], [cx, -cy, 1], [cx, cy, 1], [-cx, cy, 1]])
    p = (G @ corners.t())[:, :2].permute(1, 0, 2).flatten(1)
    margin = torch.cat([-p, p]).max(dim=1).values + torch.tensor([2 * pad - cx, 2 * pad - cy] * 2)
    margin = margin.clamp(min=0).minimum(torch.tensor([width - 1., height - 1.] * 2))
    x0, y0, x1, y1 = (int(v) for v in margin.ceil())
    x = F.pad(x, [x0, x1, y0, y1], mode="reflect")
    G = _shift(n, (x0 - x1) / 2, (y0 - y1) / 2) @ G
    for axis in (3, 2):
        spread = torch.stack([x, torch.zeros_like(x)], dim=axis + 1).flatten(axis, axis + 1)
        x = _filter(spread.narrow(axis, 0, spread.shape[axis] - 1), taps.flip(0), axis, padding=2 * pad)
    G = _scale(n, 2, 2) @ G @ _scale(n, 0.5, 0.5)
    G = _shift(n, -0.5, -0.5) @ G @ _shift(n, 0.5, 0.5)
    size = [n, c, 2 * (height + 2 * pad), 2 * (width + 2 * pad)]
    G = _scale(n, 2 / x.shape[3], 2 / x.shape[2]) @ G @ _scale(n, size[3] / 2, size[2] / 2)
    x = F.grid_sample(x, F.affine_grid(G[:, :2], size, align_corners=False), mode="bilinear", padding_mode="zeros",
                      align_corners=False)
    for axis in (3, 2):
        x = _filter(x, taps, axis, stride=2, padding=2 * pad - 1)
        x = x.narrow(axis, pad, x.shape[axis] - 2 * pad)
    return x


def augment(images, draws, p):
    """(images, labels) after the six transformations."""
    n, resolution = images.shape[0], images.shape[3]
    d = draws
    flips = [torch.where(d[1] < p * 1e8, d[0], torch.zeros_like(d[0])), torch.where(d[3] < p, d[2], torch.zeros_like(d[2]))]
    images = torch.where(flips[0] == 1, images.flip(3), images)
    images = torch.where(flips[1] == 1, images.flip(2), images)

    def masked(value, u, limit=p):
        return torch.where(u < limit, value, torch.zeros_like(value))

    w_scale = masked(d[4], d[5])
    w_rotate = masked((d[6] * 2 - 1) * math.pi, d[7])
    direction = (d[9] * 2 - 1) * math.pi
    w_aniso, direction = masked(d[8], d[10]), masked(direction, d[11], 0.5)
    w_shift = masked(d[12], d[13])
    s, a = 2 ** (0.2 * w_scale), 2 ** (0.2 * w_aniso)
    t = 0.125 * resolution * w_shift
    G = (_scale(n, 1 / s, 1 / s) @ _rotate(n, w_rotate) @ _rotate(n, -direction) @ _scale(n, 1 / a, a)
         @ _rotate(n, direction) @ _shift(n, -t[0], -t[1]))
    labels = [flips[0].flatten().float(), flips[1].flatten().float(), w_scale, w_rotate.cos() - 1, w_rotate.sin(),
              w_aniso * direction.cos(), w_aniso * direction.sin(), w_shift[0], w_shift[1]]
    return _warp(images, G), torch.stack(labels, dim=1)


# ---- Loss and update ---------------------------------------------------------------------------------------------
def edm_weight(sigma):
    return (sigma ** 2 + 0.5 ** 2) / (sigma * 0.5) ** 2


def weighted_error(net, y, sigma, noise_unit, labels=None, augment_labels=None, limit=math.inf):
    """lambda (D(y + sigma e) - y)^2, per element."""
    sigma = sigma.reshape(-1, 1, 1, 1)
    D = net(y + noise_unit * sigma, sigma, labels, augment_labels)
    return edm_weight(sigma).clamp(max=limit) * (D - y) ** 2


class Trainer:
    """The published loop's update with its defaults, on one batch of images."""

    def __init__(self, net, images, labels=None, p=0.12, channels_last=False):
        self.net = net.train().requires_grad_(True)
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(net).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
        self.images, self.labels, self.p, self.seen, self.channels_last = images, labels, p, 0, channels_last

    def loss(self):
        """Draws in the published order: sigma, augmentation, noise."""
        y, augment_labels = self.images, None
        sigma = (torch.randn(len(y), 1, 1, 1) * 1.2 - 1.2).exp()
        if self.p > 0:
            y, augment_labels = augment(y, draw_augmentation(len(y)), self.p)
        if self.channels_last:
            y = y.contiguous(memory_format=torch.channels_last)
        return weighted_error(self.net, y, sigma, torch.randn_like(y), self.labels, augment_labels)

    def step(self):
        n = len(self.images)
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().sum().mul(1 / n).backward()
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3 * min(self.seen / 10e6, 1)
        for p in self.net.parameters():
            if p.grad is not None:
                torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        self.optimizer.step()
        decay = 0.5 ** (n / max(min(500e3, 0.05 * self.seen), 1e-8))
        with torch.no_grad():
            for average, p in zip(self.ema.parameters(), self.net.parameters()):
                average.copy_(p.lerp(average, decay))
        self.seen += n
