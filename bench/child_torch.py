"""PyTorch as a contender, and maker of models, truths and ONNX files:

    child_torch.py make ARCH MODEL                 the published CIFAR-10 network with random weights of trained size
    child_torch.py truth MODEL N FILE              inputs of a batch, and F_x computed in f64
    child_torch.py gradients MODEL N FILE          a batch, its loss and gradients in f32 and f64
    child_torch.py export MODEL INPUTS N ONNX      the raw network
    child_torch.py version
  contenders (child.py), VARIANT = words of eager channels_last compile freezing fused, joined by +:
    child_torch.py forward MODEL INPUTS N THREADS VARIANT
    child_torch.py train MODEL N THREADS VARIANT
    child_torch.py sample MODEL IMAGES BATCH STEPS THREADS VARIANT
    child_torch.py layer K IN OUT SIZE N PASS THREADS VARIANT
    child_torch.py matmul M N K THREADS VARIANT
"""
import sys

import torch

import child
import safetensors_np
import torch_network

COMMON = {"class_name": "training.networks.FDM_EDMPrecond", "model_type": "SongUNet", "fdm_multiplier": 2.0,
          "img_resolution": 32, "img_channels": 3, "label_dim": 0, "augment_dim": 9, "model_channels": 128,
          "channel_mult": [2, 2, 2], "num_blocks": 4, "attn_resolutions": [16], "dropout": 0.13}
ARCHS = {"ddpmpp": {"embedding_type": "positional", "channel_mult_noise": 1, "encoder_type": "standard",
                    "decoder_type": "standard", "resample_filter": [1, 1]},
         "ncsnpp": {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual",
                    "decoder_type": "standard", "resample_filter": [1, 3, 3, 1]}}
LAST = torch.channels_last


# ---- Files -----------------------------------------------------------------------------------------------------------
def make(arch, path):
    """Nothing near zero, as in a trained network, so that no layer is skipped or denormal."""
    torch.manual_seed(0)
    config = {**COMMON, **ARCHS[arch]}
    net = torch_network.build(config)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1:
                fan = (p.shape[0] + p.shape[1]) * p[0, 0].numel()
                p.copy_(torch.randn(p.shape) * (2 / fan) ** 0.5)
            elif name.endswith("bias"):
                p.copy_(torch.randn(p.shape) * 0.1)
            else:
                p.copy_(1 + torch.randn(p.shape) * 0.2)
    torch_network.save_model(path, net, config)


def batch(net, n):
    """Values like those of a sampler in the middle of its run."""
    generator = torch.Generator().manual_seed(1)
    unet = net.model
    sigma = 0.5 + 0.25 * torch.arange(n, dtype=torch.float32)
    x = torch.randn(n, unet.img_channels, unet.resolutions[0], unet.resolutions[0], generator=generator)
    labels = torch.eye(unet.label_dim)[torch.arange(n) % unet.label_dim] if unet.label_dim else None
    augment = torch.zeros(n, unet.map_augment.weight.shape[1]) if unet.map_augment is not None else None
    return {"x": x * sigma.reshape(-1, 1, 1, 1), "sigma": sigma, "class_labels": labels, "augment_labels": augment}


def truth(model, n, path):
    net = torch_network.load_model(model)
    given = batch(net, n)
    with torch.no_grad():
        _, _, c_in, c_noise = net.coefficients(given["sigma"])
        tensors = {k: v for k, v in given.items() if v is not None}
        tensors.update({"c_in_x": c_in.reshape(-1, 1, 1, 1) * given["x"], "c_noise": c_noise})
        net.double()(*given.values())
        tensors["F_x_f64"] = net.last["F_x"]
    safetensors_np.save(path, {k: v.numpy() for k, v in tensors.items()})


def load_inputs(path, n):
    tensors = {k: torch.from_numpy(v)[:n] for k, v in safetensors_np.load(path)[0].items()}
    return [tensors["x"], tensors["sigma"], tensors.get("class_labels"), tensors.get("augment_labels")]


def gradients(model, n, path):
    import torch_train
    net = torch_network.load_model(model)  # eval: no dropout
    images, labels, generator = training_batch(net, n)
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


def export(model, inputs, n, onnx):
    """Written by the TorchScript exporter, which every version has."""
    net = torch_network.load_model(model)
    t = {k: torch.from_numpy(v)[:n] for k, v in safetensors_np.load(inputs)[0].items()}
    named = [("x", t["c_in_x"]), ("c_noise", t["c_noise"]), ("labels", t.get("class_labels")),
             ("augment", t.get("augment_labels"))]
    how = {"dynamo": False} if int(torch.__version__.split(".")[0]) >= 2 else {}
    torch.onnx.export(net.model, tuple(v for _, v in named), onnx, opset_version=16, do_constant_folding=True,
                      input_names=[k for k, v in named if v is not None], output_names=["F"], **how)


# ---- Contenders ------------------------------------------------------------------------------------------------------
def title(variant):
    return f"PyTorch {torch.__version__.split('+')[0]} {variant.replace('+', ' ')}"


def prepare(net, variant):
    """The network in that variant, in place."""
    words = variant.split("+")
    if "channels_last" in words:
        net = net.to(memory_format=LAST)
    if "compile" in words:
        if not hasattr(torch, "compile"):
            raise SystemExit("this PyTorch has no torch.compile")
        if "freezing" in words:  # folds the weights into the program: inference only
            from torch._inductor import config as inductor
            inductor.freezing = True
        net.model.forward = torch.compile(net.model.forward)
    return net


def forward(model, inputs, n, threads, variant):
    torch.set_num_threads(threads)
    net = prepare(torch_network.load_model(model), variant)
    args = load_inputs(inputs, n)
    if "channels_last" in variant:
        args[0] = args[0].contiguous(memory_format=LAST)

    @torch.no_grad()
    def step():
        net(*args)
        return net.last["F_x"]

    step()
    child.serve(title(variant), step,
                lambda path, F: safetensors_np.save(path, {"F_x": F.contiguous().numpy()}))


def training_batch(net, n):
    generator = torch.Generator().manual_seed(1)
    unet, r = net.model, net.model.resolutions[0]
    images = torch.randint(256, [n, unet.img_channels, r, r], generator=generator).float() / 127.5 - 1
    labels = torch.eye(unet.label_dim)[torch.arange(n) % unet.label_dim] if unet.label_dim else None
    return images, labels, generator


def train(model, n, threads, variant):
    import torch_train
    torch.set_num_threads(threads)
    net = torch_network.load_model(model)
    images, labels, _ = training_batch(net, n)
    trainer = torch_train.Trainer(net, images, labels, channels_last="channels_last" in variant)
    prepare(trainer.net, variant)
    if "fused" in variant:
        trainer.optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    child.serve(title(variant), trainer.step)


def sample(model, images, batch_size, steps, threads, variant):
    import torch_sample
    torch.set_num_threads(threads)
    net = prepare(torch_network.load_model(model), variant)
    unet = net.model
    latents = torch.randn(images, unet.img_channels, unet.resolutions[0], unet.resolutions[0],
                          generator=torch.Generator().manual_seed(2))
    labels = torch.eye(unet.label_dim)[torch.arange(images) % unet.label_dim] if unet.label_dim else None

    def step():
        how_many, how_long = (images, steps) if step.warm else (batch_size, 2)  # a whole run takes minutes
        for at in range(0, how_many, batch_size):
            torch_sample.heun(net, latents[at:at + batch_size], how_long,
                              class_labels=None if labels is None else labels[at:at + batch_size])
        step.warm = True

    step.warm = False
    child.serve(title(variant), step)


def layer(k, c_in, c_out, size, n, which, threads, variant):
    torch.set_num_threads(threads)
    form = {"memory_format": LAST} if "channels_last" in variant else {"memory_format": torch.contiguous_format}
    x = torch.randn(n, c_in, size, size).contiguous(**form)
    w = torch.randn(c_out, c_in, k, k).contiguous(**form)
    d_out = torch.randn(n, c_out, size, size).contiguous(**form)
    mask = [which == "d_in", which == "d_weight", False]

    @torch.no_grad()
    def step():
        if which == "forward":
            return torch.nn.functional.conv2d(x, w, padding=k // 2)
        return torch.ops.aten.convolution_backward(d_out, x, w, None, [1, 1], [k // 2] * 2, [1, 1], False, [0, 0], 1, mask)

    child.serve(title(variant), step, shortest=0.01)


def matmul(m, n, k, threads, variant):
    torch.set_num_threads(threads)
    a, b = torch.randn(m, k), torch.randn(k, n)
    child.serve(title(variant), lambda: a @ b, shortest=0.01)


def main():
    what, *rest = sys.argv[1:]
    if what == "version":
        return print(torch.__version__)
    functions = {f.__name__: f for f in (make, truth, gradients, export, forward, train, sample, layer, matmul)}
    return functions[what](*[int(a) if a.isdigit() else a for a in rest])


if __name__ == "__main__":
    main()
