"""Procedural pictograms: the training images of the demo model, drawn here from formulas (nothing is downloaded).

Each image: one shape of a class, with random place, size, tilt and colour, on a two-colour gradient; edges are
antialiased by averaging a 4x4 grid of samples per pixel.  images(n, ...) returns f32 [n, 3, R, R] in [-1, 1].
"""
import struct
import zlib

import numpy as np

CLASS_NAMES = ["disc", "ring", "square", "triangle", "star", "cross", "heart", "moon", "smiley", "house"]
# hue range of each class in turns; None: any hue
HUES = {"star": (0.08, 0.17), "heart": (-0.08, 0.03), "moon": (0.12, 0.18), "smiley": (0.10, 0.17)}
SUPERSAMPLE = 4


def _star(u, v):
    """Five points: fold the angle into one half of a point and test against the edge from tip to notch."""
    angle = np.abs((np.arctan2(u, v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    r = np.hypot(u, v)
    x, y = r * np.cos(angle), r * np.sin(angle)
    nx, ny = 0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5)  # the notch; the tip is at (1.1, 0)
    return (x - 1.1) * ny - y * (nx - 1.1) < 0


def _heart(u, v):
    x, y = 1.25 * u, 1.25 * v + 0.15
    return (x * x + y * y - 1) ** 3 - x * x * y ** 3 < 0


def _smiley(u, v):
    face = np.hypot(u, v) < 1
    eyes = np.hypot(np.abs(u) - 0.36, v - 0.30) < 0.19
    r = np.hypot(u, v + 0.02)
    mouth = (r > 0.48) & (r < 0.74) & (v < -0.18)
    return face & ~eyes & ~mouth


def _house(u, v):
    wall = (np.abs(u) < 0.68) & (v > -0.9) & (v < 0.15)
    roof = (v >= 0.15) & (np.abs(u) < 1.25 * (0.98 - v))
    door = (np.abs(u) < 0.22) & (v < -0.25)
    return (wall & ~door) | roof


SHAPES = {
    "disc": lambda u, v: np.hypot(u, v) < 0.85,
    "ring": lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u, v) > 0.55),
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.8,
    "triangle": lambda u, v: (v > -0.7) & (np.abs(u) < 0.58 * (1.0 - v)),
    "star": _star,
    "cross": lambda u, v: (np.minimum(np.abs(u), np.abs(v)) < 0.29) & (np.maximum(np.abs(u), np.abs(v)) < 0.95),
    "heart": _heart,
    "moon": lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u - 0.45, v - 0.2) > 0.78),
    "smiley": _smiley,
    "house": _house,
}


def _hsv(h, s, v):
    """Arrays [n] to RGB [n, 3] in [0, 1]."""
    k = (np.array([5, 3, 1])[None] + h[:, None] * 6) % 6
    return v[:, None] * (1 - s[:, None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def _colours(labels, rng):
    """Foreground and the two ends of the background gradient, [n, 3] each: dark scene, bright shape, or the reverse."""
    n = len(labels)
    low, high = np.zeros(n), np.ones(n)
    for i, name in enumerate(CLASS_NAMES):
        if name in HUES:
            low[labels == i], high[labels == i] = HUES[name]
    dark = rng.random(n) < 0.6
    front = _hsv(rng.uniform(low, high) % 1, rng.uniform(0.65, 1, n),
                 np.where(dark, rng.uniform(0.85, 1, n), rng.uniform(0.55, 0.9, n)))
    hue = rng.random(n)
    ends = []
    for _ in range(2):
        value = np.where(dark, rng.uniform(0.05, 0.35, n), rng.uniform(0.8, 1, n))
        saturation = np.where(dark, rng.uniform(0.4, 0.9, n), rng.uniform(0.05, 0.25, n))
        ends.append(_hsv((hue + rng.uniform(-0.08, 0.08, n)) % 1, saturation, value))
    return front, ends[0], ends[1]


def _coverage(labels, size, rng):
    """Share of each pixel inside the shape, [n, R, R]."""
    n, fine = len(labels), size * SUPERSAMPLE
    at = (np.arange(fine, dtype=np.float32) + 0.5) / fine * 2 - 1
    radius = rng.uniform(0.6, 0.82, n).astype(np.float32)
    room = 0.98 - radius
    cx, cy = rng.uniform(-1, 1, (2, n)).astype(np.float32) * room
    tilt = rng.uniform(-0.2, 0.2, n).astype(np.float32)
    out = np.empty((n, size, size), np.float32)
    for i in np.unique(labels):
        pick = labels == i
        x = (at[None, None, :] - cx[pick, None, None]) / radius[pick, None, None]
        y = (-at[None, :, None] - cy[pick, None, None]) / radius[pick, None, None]  # rows run downwards
        c, s = np.cos(tilt[pick])[:, None, None], np.sin(tilt[pick])[:, None, None]
        inside = SHAPES[CLASS_NAMES[i]](c * x + s * y, c * y - s * x)
        out[pick] = inside.reshape(-1, size, SUPERSAMPLE, size, SUPERSAMPLE).mean((2, 4), dtype=np.float32)
    return out


def images(labels, size, rng):
    """One image per entry of `labels` (class numbers)."""
    labels = np.asarray(labels)
    front, a, b = (c.astype(np.float32)[:, :, None, None] for c in _colours(labels, rng))
    direction = rng.uniform(0, 2 * np.pi, len(labels)).astype(np.float32)[:, None, None, None]
    at = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)
    ramp = np.clip(0.5 + 0.4 * (np.cos(direction) * at[None, None, None, :] + np.sin(direction) * at[None, None, :, None]),
                   0, 1)
    cover = _coverage(labels, size, rng)[:, None]
    return ((a + (b - a) * ramp) * (1 - cover) + front * cover) * 2 - 1


def write_grid(path, batch, columns, zoom=4):
    """[n, C, R, R] in [-1, 1] to one RGB PNG, each pixel enlarged `zoom` times, two pixels of grey between images."""
    n, c, size, _ = batch.shape
    rows, cell = -(-n // columns), size * zoom + 2
    page = np.full((rows * cell, columns * cell, 3), 128, np.uint8)
    for i, image in enumerate(batch):
        pixels = np.clip(image * 127.5 + 128, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        pixels = np.repeat(pixels, 3, 2) if c == 1 else pixels
        y, x = i // columns * cell, i % columns * cell
        page[y:y + cell - 2, x:x + cell - 2] = pixels.repeat(zoom, 0).repeat(zoom, 1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in page), 9)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", page.shape[1], page.shape[0], 8, 2, 0, 0, 0)
        for kind, data in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b"")):
            f.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
