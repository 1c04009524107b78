"""The preconditioned SongUNet in PyTorch: the peer that the C program is timed and checked against.

Written from the specification alone (sections 2 and 3); module names are the published state_dict names, so every
golden and every model file loads.  Runs under PyTorch 1.13 and later.  The network computes in the precision of its
parameters: `net.double()` is a second f64 opinion beside the C reference backend.

    net = load_model("tests/golden_extra/shapes16_fdm_edm.safetensors")
    D = net(x, sigma, class_labels)            # F_x and its inputs are kept in net.last
"""
import json
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import safetensors_np

BETA_MIN, BETA_D, SIGMA_DATA = 0.1, 19.9, 0.5
VP_SIGMA_MIN, VP_SIGMA_MAX = 0.0009765625, 152.16697692871094  # as the published program rounds them (f32)


def _uniform(shape, fan_in, fan_out, scale=1.0):
    """Weights U(-1,1) * sqrt(6 / (fan_in + fan_out)) * scale."""
    return (torch.rand(shape) * 2 - 1) * (math.sqrt(6 / (fan_in + fan_out)) * scale)


class Linear(nn.Module):
    def __init__(self, n_in, n_out, bias=True):
        super().__init__()
        self.weight = nn.Parameter(_uniform([n_out, n_in], n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Conv2d(nn.Module):
    """k x k convolution with optional resampling; k = 0 is resampling alone."""

    def __init__(self, c_in, c_out, k, up=False, down=False, taps=(1, 1), fused=False, scale=1.0):
        super().__init__()
        self.c_in, self.k, self.up, self.down, self.fused = c_in, k, up, down, fused
        self.filter_pad = (len(taps) - 1) // 2  # a plain int: the ONNX exporter would trace a tensor's shape
        self.weight = self.bias = None
        if k:
            self.weight = nn.Parameter(_uniform([c_out, c_in, k, k], c_in * k * k, c_out * k * k, scale))
            self.bias = nn.Parameter(torch.zeros(c_out))
        if up or down:
            f = torch.tensor(taps, dtype=torch.float32)
            self.register_buffer("resample_filter", (torch.outer(f, f) / f.sum() ** 2)[None, None])

    def forward(self, x):
        pad_k = self.k // 2
        if self.up or self.down:
            f, p = self.resample_filter, self.filter_pad
        if self.fused and self.k and self.up:
            x = F.conv_transpose2d(x, self._depthwise(f * 4, self.c_in), stride=2, padding=max(p - pad_k, 0),
                                   groups=self.c_in)
            x = F.conv2d(x, self.weight, padding=max(pad_k - p, 0))
        elif self.fused and self.k and self.down:
            c_out = self.weight.shape[0]
            x = F.conv2d(x, self.weight, padding=pad_k + p)
            x = F.conv2d(x, self._depthwise(f, c_out), stride=2, groups=c_out)
        else:
            if self.up:
                x = F.conv_transpose2d(x, self._depthwise(f * 4, self.c_in), stride=2, padding=p, groups=self.c_in)
            elif self.down:
                x = F.conv2d(x, self._depthwise(f, self.c_in), stride=2, padding=p, groups=self.c_in)
            if self.k:
                return F.conv2d(x, self.weight, self.bias, padding=pad_k)
        return x if self.bias is None else x + self.bias[:, None, None]

    @staticmethod
    def _depthwise(f, c):
        return f.expand(c, 1, -1, -1).contiguous()


class GroupNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.groups = min(32, c // 4)
        self.weight = nn.Parameter(torch.ones(c))
        self.bias = nn.Parameter(torch.zeros(c))

    def forward(self, x):
        return F.group_norm(x, self.groups, self.weight, self.bias, 1e-6)


class UNetBlock(nn.Module):
    def __init__(self, c_in, c_out, c_emb, taps, dropout, up=False, down=False, attention=False):
        super().__init__()
        self.dropout = dropout
        self.norm0 = GroupNorm(c_in)
        self.conv0 = Conv2d(c_in, c_out, 3, up=up, down=down, taps=taps)
        self.affine = Linear(c_emb, c_out)
        self.norm1 = GroupNorm(c_out)
        self.conv1 = Conv2d(c_out, c_out, 3, scale=1e-5)
        self.skip = None
        if c_in != c_out or up or down:
            # a resampling block that keeps its channels has a 1x1 kernel too: the goldens carry skip.weight there
            self.skip = Conv2d(c_in, c_out, 1, up=up, down=down, taps=taps)
        self.norm2 = None
        if attention:
            self.norm2 = GroupNorm(c_out)
            self.qkv = Conv2d(c_out, 3 * c_out, 1, scale=math.sqrt(0.2))
            self.proj = Conv2d(c_out, c_out, 1, scale=1e-5)

    def forward(self, x, emb):
        q = math.sqrt(0.5)
        h = self.conv0(F.silu(self.norm0(x)))
        h = F.silu(self.norm1(h + self.affine(emb)[:, :, None, None]))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        x = (h + (x if self.skip is None else self.skip(x))) * q
        if self.norm2 is not None:
            x = (self.proj(self._attend(self.qkv(self.norm2(x)))) + x) * q
        return x

    @staticmethod
    def _attend(qkv):
        n, c3, height, width = qkv.shape
        c = c3 // 3
        query, key, value = qkv.reshape(n, c, 3, height * width).unbind(2)  # channel 3j + {0, 1, 2}
        w = torch.softmax(torch.einsum("ncq,nck->nqk", query, key / math.sqrt(c)), dim=2)
        return torch.einsum("nqk,nck->ncq", w, value).reshape(n, c, height, width)


class PositionalEmbedding(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, c_noise):
        half = self.k // 2
        i = torch.arange(half, dtype=c_noise.dtype)
        a = torch.outer(c_noise, (1 / 10000) ** (i / (half - 1)))
        return torch.cat([a.cos(), a.sin()], dim=1)


class FourierEmbedding(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.register_buffer("freqs", torch.randn(k // 2) * 16)

    def forward(self, c_noise):
        a = torch.outer(c_noise, 2 * math.pi * self.freqs.to(c_noise.dtype))
        return torch.cat([a.cos(), a.sin()], dim=1)


class SongUNet(nn.Module):
    def __init__(self, img_resolution, img_channels=3, label_dim=0, augment_dim=0, model_channels=128,
                 channel_mult=(1, 2, 2, 2), channel_mult_emb=4, num_blocks=4, attn_resolutions=(16,), dropout=0.10,
                 label_dropout=0, embedding_type="positional", channel_mult_noise=1, encoder_type="standard",
                 decoder_type="standard", resample_filter=(1, 1)):
        super().__init__()
        assert embedding_type in ("positional", "fourier")
        assert encoder_type in ("standard", "skip", "residual") and decoder_type in ("standard", "skip")
        self.label_dim, self.label_dropout = label_dim, label_dropout
        self.encoder_type, self.decoder_type, self.num_blocks = encoder_type, decoder_type, num_blocks
        self.resolutions = [img_resolution >> level for level in range(len(channel_mult))]
        self.block_args = dict(c_emb=model_channels * channel_mult_emb, taps=resample_filter, dropout=dropout)
        self.attn, self.taps, self.img_channels = set(attn_resolutions), resample_filter, img_channels
        self.model_channels, self.channels = model_channels, [model_channels * m for m in channel_mult]

        k, e = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        self.map_noise = PositionalEmbedding(k) if embedding_type == "positional" else FourierEmbedding(k)
        if label_dim:
            self.map_label = Linear(label_dim, k)
        self.map_augment = Linear(augment_dim, k, bias=False) if augment_dim else None
        self.map_layer0 = Linear(k, e)
        self.map_layer1 = Linear(e, e)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self._build_decoder(*self._build_encoder())

    def _build_encoder(self):
        """Returns the channels of the last output and of every output on the skip stack."""
        c, c_aux, stack = self.model_channels, self.img_channels, []
        for level, res in enumerate(self.resolutions):
            name = f"{res}x{res}_"
            if level == 0:
                self.enc[name + "conv"] = Conv2d(self.img_channels, c, 3)
            else:
                self.enc[name + "down"] = UNetBlock(c, c, down=True, **self.block_args)
                if self.encoder_type == "skip":
                    self.enc[name + "aux_down"] = Conv2d(c_aux, c_aux, 0, down=True, taps=self.taps)
                    self.enc[name + "aux_skip"] = Conv2d(c_aux, c, 1)
                elif self.encoder_type == "residual":
                    self.enc[name + "aux_residual"] = Conv2d(c_aux, c, 3, down=True, taps=self.taps, fused=True)
                    c_aux = c
            stack.append(c)
            for i in range(self.num_blocks):
                c_in, c = c, self.channels[level]
                self.enc[name + f"block{i}"] = UNetBlock(c_in, c, attention=res in self.attn, **self.block_args)
                stack.append(c)
        return c, stack

    def _build_decoder(self, c, stack):
        last = len(self.resolutions) - 1
        for level in range(last, -1, -1):
            res = self.resolutions[level]
            name = f"{res}x{res}_"
            if level == last:
                self.dec[name + "in0"] = UNetBlock(c, c, attention=True, **self.block_args)
                self.dec[name + "in1"] = UNetBlock(c, c, **self.block_args)
            else:
                self.dec[name + "up"] = UNetBlock(c, c, up=True, **self.block_args)
            for i in range(self.num_blocks + 1):
                c_in, c = c + stack.pop(), self.channels[level]
                attention = i == self.num_blocks and res in self.attn
                self.dec[name + f"block{i}"] = UNetBlock(c_in, c, attention=attention, **self.block_args)
            if self.decoder_type == "skip" and level < last:
                self.dec[name + "aux_up"] = Conv2d(self.img_channels, self.img_channels, 0, up=True, taps=self.taps)
            if self.decoder_type == "skip" or level == 0:
                self.dec[name + "aux_norm"] = GroupNorm(c)
                self.dec[name + "aux_conv"] = Conv2d(c, self.img_channels, 3, scale=1e-5)

    def _embed(self, c_noise, class_labels, augment_labels, emb_noise):
        raw = self.map_noise(c_noise) if emb_noise is None else emb_noise
        e = torch.cat(raw.chunk(2, dim=1)[::-1], dim=1).to(self.map_layer0.weight.dtype)  # [cos, sin] -> [sin, cos]
        if self.label_dim:
            labels = class_labels
            if self.training and self.label_dropout:
                labels = labels * (torch.rand(len(labels), 1) >= self.label_dropout).to(labels.dtype)
            e = e + self.map_label(labels * math.sqrt(self.label_dim))
        if self.map_augment is not None and augment_labels is not None:
            e = e + self.map_augment(augment_labels)
        return F.silu(self.map_layer1(F.silu(self.map_layer0(e))))

    def _encode(self, x, emb):
        stack, aux = [], x
        for res in self.resolutions:
            name = f"{res}x{res}_"
            if name + "conv" in self.enc:
                x = self.enc[name + "conv"](x)
            else:
                x = self.enc[name + "down"](x, emb)
            if name + "aux_skip" in self.enc:
                aux = self.enc[name + "aux_down"](aux)
                x = x + self.enc[name + "aux_skip"](aux)
            elif name + "aux_residual" in self.enc:
                x = aux = (x + self.enc[name + "aux_residual"](aux)) / math.sqrt(2)
            stack.append(x)
            for i in range(self.num_blocks):
                x = self.enc[name + f"block{i}"](x, emb)
                stack.append(x)
        return x, stack

    def forward(self, x, c_noise, class_labels=None, augment_labels=None, emb_noise=None):
        """`emb_noise` replaces the output of map_noise, for comparison in f64 with a network that rounded it to f32."""
        emb = self._embed(c_noise, class_labels, augment_labels, emb_noise)
        x, stack = self._encode(x, emb)
        out = None
        for level, res in reversed(list(enumerate(self.resolutions))):
            name = f"{res}x{res}_"
            if name + "up" in self.dec:
                x = self.dec[name + "up"](x, emb)
            else:
                x = self.dec[name + "in1"](self.dec[name + "in0"](x, emb), emb)
            for i in range(self.num_blocks + 1):
                x = self.dec[name + f"block{i}"](torch.cat([x, stack.pop()], dim=1), emb)
            if name + "aux_up" in self.dec:
                out = self.dec[name + "aux_up"](out)
            if name + "aux_conv" in self.dec:
                y = self.dec[name + "aux_conv"](F.silu(self.dec[name + "aux_norm"](x)))
                out = y if out is None else out + y
        return out


def beta(t):
    """B(t) = beta_min t + beta_d t^2 / 2."""
    return BETA_MIN * t + 0.5 * BETA_D * t ** 2


class Preconditioned(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise); `kind` is the published class name without its module."""

    SIGMA_RANGE = {"VPPrecond": (VP_SIGMA_MIN, VP_SIGMA_MAX), "VEPrecond": (0.02, 100.0),
                   "EDMPrecond": (0.0, math.inf), "FDM_VPPrecond": (VP_SIGMA_MIN, VP_SIGMA_MAX),
                   "FDM_VEPrecond": (0.02, 100.0), "FDM_EDMPrecond": (0.002, 80.0)}

    def __init__(self, class_name, fdm_multiplier=1.0, model_type="SongUNet", use_fp16=False, **unet):
        super().__init__()
        self.kind = class_name.split(".")[-1]
        assert model_type == "SongUNet" and not use_fp16
        self.sigma_min, self.sigma_max = self.SIGMA_RANGE[self.kind]
        self.multiplier = 1.0 if self.kind == "FDM_VEPrecond" else fdm_multiplier
        self.model = SongUNet(**unet)
        self.last = {}

    def _mean_scale(self, sigma):
        """s(sigma), the critically damped mean."""
        b = self.multiplier * beta((sigma - self.sigma_min) / (self.sigma_max - self.sigma_min))
        return (1 + b) * (-b).exp()

    def coefficients(self, sigma):
        """(c_skip, c_out, c_in, c_noise) in the precision of sigma."""
        if self.kind.endswith("VPPrecond"):
            t = ((BETA_MIN ** 2 + 2 * BETA_D * (1 + sigma ** 2).log()).sqrt() - BETA_MIN) / BETA_D
            c = [torch.ones_like(sigma), -sigma, 1 / (sigma ** 2 + 1).sqrt(), 999 * t]
        elif self.kind.endswith("VEPrecond"):
            c = [torch.ones_like(sigma), sigma, torch.ones_like(sigma), (0.5 * sigma).log()]
        else:
            total = sigma ** 2 + SIGMA_DATA ** 2
            c = [SIGMA_DATA ** 2 / total, sigma * SIGMA_DATA / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4]
        if self.kind.startswith("FDM_"):
            c[2] = self._mean_scale(sigma)
        return c

    def forward(self, x, sigma, class_labels=None, augment_labels=None):
        dtype = self.model.map_layer0.weight.dtype
        x = x.to(dtype)
        sigma = torch.as_tensor(sigma).to(dtype).reshape(-1, 1, 1, 1)
        label_dim = self.model.label_dim
        if label_dim and class_labels is None:
            class_labels = torch.zeros(1, label_dim)
        labels = class_labels.to(dtype).reshape(-1, label_dim) if label_dim else None
        augment = None if augment_labels is None else augment_labels.to(dtype)
        c_skip, c_out, c_in, c_noise = self.coefficients(sigma)
        self.last = {"c_in_x": c_in * x, "c_noise": c_noise.flatten()}
        self.last["F_x"] = self.model(c_in * x, c_noise.flatten(), labels, augment)
        return c_skip * x + c_out * self.last["F_x"]


def build(config):
    """A freshly initialised network from constructor arguments (dictionary or JSON text)."""
    config = json.loads(config) if isinstance(config, str) else config
    return Preconditioned(**config)


def load_state(net, tensors):
    """Set every parameter and buffer from arrays; other names are ignored, missing ones are an error."""
    state = net.state_dict()
    missing = [k for k in state if k not in tensors]
    if missing:
        raise ValueError(f"missing tensors: {missing}")
    net.load_state_dict({k: torch.from_numpy(np.array(tensors[k])).reshape(state[k].shape) for k in state})
    return net


def load_model(path):
    """The network of a model file (safetensors with metadata `config`), in eval mode."""
    tensors, metadata = safetensors_np.load(path)
    return load_state(build(metadata["config"]), tensors).eval()


def save_model(path, net, config, metadata=None, extra=None):
    """Write weights, `config` and optional further tensors as a model file."""
    tensors = dict(extra or {})
    tensors.update({k: v.detach().numpy() for k, v in net.state_dict().items()})
    safetensors_np.save(path, tensors, {"config": json.dumps(config), **(metadata or {})})


def trace(net, *args):
    """Run the network; return {"trace.<module name>": output array} in order of completion, "trace.self" for the whole."""
    outputs, hooks = {}, []
    for name, module in net.named_modules():
        if isinstance(module, nn.ModuleDict):
            continue

        def hook(_module, _inputs, output, key="trace." + (name or "self")):
            outputs[key] = output.detach().clone().numpy()

        hooks.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad():
            net(*args)
    finally:
        for h in hooks:
            h.remove()
    return outputs
