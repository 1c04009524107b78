"""The EDM sampler in PyTorch (Karras et al. 2022, algorithm 1, no churn): the peer of `fdm bench --sample`."""
import torch


@torch.no_grad()
def heun(net, latents, steps, sigma_min=0.002, sigma_max=80.0, rho=7.0, class_labels=None, augment_labels=None):
    """Images as u8 (N, H, W, C); the state is f64, the network f32, as published."""
    sigma_min, sigma_max = max(sigma_min, net.sigma_min), min(sigma_max, net.sigma_max)
    i = torch.arange(steps, dtype=torch.float64)
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    t = torch.cat([(a + i / (steps - 1) * (b - a)) ** rho, torch.zeros(1, dtype=torch.float64)])

    def denoise(x, sigma):
        return net(x.float(), sigma.float().expand(len(x)), class_labels, augment_labels).double()

    x = latents.double() * t[0]
    for now, after in zip(t[:-1], t[1:]):
        slope = (x - denoise(x, now)) / now
        moved = x + (after - now) * slope
        if after > 0:
            moved = x + (after - now) * (slope + (moved - denoise(moved, after)) / after) / 2
        x = moved
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
