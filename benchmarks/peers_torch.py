"""PyTorch's side of ``peers.py``: the same networks, losses, optimizer and data, as one writes them in PyTorch."""

import itertools
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


def mlp(*sizes, activation=nn.GELU):
    """Linear layers with the activation between them."""
    pairs = list(itertools.pairwise(sizes))
    layers = [layer for m, n in pairs for layer in (nn.Linear(m, n), activation())]
    return nn.Sequential(*layers[:-1])


def gelu():
    """The approximation that JAX has as its default."""
    return nn.GELU(approximate="tanh")


class VAE(nn.Module):
    """Bernoulli VAE with the encoder and decoder that it is given."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def loss(self, x):
        """Negative ELBO, mean over the batch."""
        mu, log_var = self.encoder(x).chunk(2, 1)
        z = mu + torch.exp(log_var / 2) * torch.randn_like(mu)
        out = self.decoder(z).reshape(x.shape)
        distortion = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
        rate = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum()
        return (distortion + rate) / len(x)


def vae_dense():
    """As in ``peers_course.py``, and so are the others."""
    encoder = nn.Sequential(nn.Flatten(), mlp(784, 400, 400, 32, activation=gelu))
    return VAE(encoder, mlp(16, 400, 400, 784, activation=gelu)), torch.rand(5000, 28, 28), 128


def vae_conv():
    """Two 3×3 convolutions each way behind a space-to-depth stem."""
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4, 24, 3, padding=1),
        gelu(),
        nn.Conv2d(24, 24, 3, stride=2, padding=1),
        gelu(),
        nn.Flatten(),
        mlp(24 * 49, 128, 32, activation=gelu),
    )
    decoder = nn.Sequential(
        mlp(16, 128, 24 * 49, activation=gelu),
        nn.Unflatten(1, (24, 7, 7)),
        gelu(),
        nn.Conv2d(24, 96, 3, padding=1),
        nn.PixelShuffle(2),
        gelu(),
        nn.Conv2d(24, 4, 3, padding=1),
        nn.PixelShuffle(2),
    )
    return VAE(encoder, decoder), torch.rand(5000, 28, 28), 64


class Language(nn.Module):
    """Cross-entropy of the next id."""

    def loss(self, ids):
        """Mean over the batch and the positions."""
        return F.cross_entropy(self(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


class GRU(Language):
    """PyTorch's fused recurrent layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 32), nn.Linear(128, 30)
        self.cell = nn.GRU(32, 128, batch_first=True)

    def forward(self, ids):
        """Logits at all positions."""
        return self.head(self.cell(self.embedding(ids))[0])


def gru():
    """Embedding of 32, 128 hidden units."""
    return GRU(), torch.randint(0, 30, (5000, 65)), 32


class Block(nn.Module):
    """Causal attention and a perceptron, each on its normalized input."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = mlp(width, 4 * width, width, activation=gelu)

    def forward(self, h):
        """Rows of the batch."""
        b, n, width = h.shape
        q, k, v = self.qkv(F.rms_norm(h, (width,), eps=1e-6)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(a.transpose(1, 2).reshape(b, n, width))
        return h + self.mlp(F.rms_norm(h, (width,), eps=1e-6))


class Transformer(Language):
    """Two blocks with learned absolute positions."""

    def __init__(self, size=30, length=64, width=64):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(size, width), nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks, self.head = nn.Sequential(Block(width, 4), Block(width, 4)), nn.Linear(width, size)

    def forward(self, ids):
        """Logits at all positions."""
        h = self.blocks(self.embedding(ids) + self.positions[: ids.shape[1]])
        return self.head(F.rms_norm(h, h.shape[-1:], eps=1e-6))


def transformer():
    """Width 64, 4 heads."""
    return Transformer(), torch.randint(0, 30, (5000, 65)), 32


def log_scale(a):
    """A log-scale within ±2."""
    return 2 * torch.tanh(a / 2)


class Flow(nn.Module):
    """Layers from data to noise, each followed by a learned scale and shift."""

    def __init__(self, size, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.scales, self.shifts = (
            nn.ParameterList([nn.Parameter(torch.zeros(size)) for _ in layers]) for _ in range(2)
        )

    def loss(self, x):
        """Negative log-likelihood, mean over the batch."""
        log_det = 0.0
        for layer, scale, shift in zip(self.layers, self.scales, self.shifts):
            x = (x - shift) * torch.exp(-scale)
            x, change = layer(x)
            log_det = log_det + change - scale.sum()
        return (0.5 * (x**2 + math.log(2 * math.pi)).sum(1) - log_det).mean()


class Coupling(nn.Module):
    """Inverse of an affine coupling."""

    def __init__(self, size, width, keep):
        super().__init__()
        self.net = mlp(size, width, width, 2 * size, activation=nn.SiLU)
        self.register_buffer("keep", keep)

    def forward(self, x):
        """``(z, log-determinant)``."""
        a, t = self.net(x * self.keep).chunk(2, 1)
        s, t = log_scale(a) * (1 - self.keep), t * (1 - self.keep)
        return (x - t) * torch.exp(-s), -s.sum(1)


def flow_coupling():
    """RealNVP in two dimensions."""
    keep = torch.tensor([1.0, 0.0])
    return Flow(2, [Coupling(2, 64, keep if i % 2 else 1 - keep) for i in range(8)]), torch.randn(5000, 2), 256


class Masked(nn.Module):
    """Inverse of a Gaussian autoregressive layer."""

    def __init__(self, size, width, backwards):
        super().__init__()
        self.backwards, degrees = backwards, [torch.arange(1, size + 1)]
        degrees += [torch.arange(width) % (size - 1) + 1] * 2
        out = torch.arange(1, size + 1).repeat(2)
        pairs = [(a, b, b[:, None] >= a) for a, b in itertools.pairwise(degrees)]
        pairs.append((degrees[-1], out, out[:, None] > degrees[-1]))
        self.linears = nn.ModuleList(nn.Linear(len(a), len(b)) for a, b, _ in pairs)
        for i, (_, _, mask) in enumerate(pairs):
            self.register_buffer(f"mask{i}", mask.float())

    def forward(self, x):
        """``(z, log-determinant)``."""
        x = x.flip(1) if self.backwards else x
        h = x
        for i, linear in enumerate(self.linears):
            h = F.linear(h, linear.weight * getattr(self, f"mask{i}"), linear.bias)
            h = F.silu(h) if i < len(self.linears) - 1 else h
        mu, a = h.chunk(2, 1)
        alpha = log_scale(a)
        z = (x - mu) * torch.exp(-alpha)
        return (z.flip(1) if self.backwards else z), -alpha.sum(1)


def flow_masked():
    """MAF in 64 dimensions."""
    return Flow(64, [Masked(64, 128, i % 2 == 1) for i in range(5)]), torch.randn(5000, 64), 128


class ResidualLayer(nn.Module):
    """Adaptive scale and shift, then two linear maps, added to the input."""

    def __init__(self, width, condition):
        super().__init__()
        self.scale_shift = nn.Linear(condition, 2 * width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h, condition):
        """One layer."""
        scale, shift = self.scale_shift(condition).chunk(2, 1)
        normal = F.layer_norm(h, h.shape[-1:], eps=1e-5)
        return h + self.second(F.silu(self.first(normal * (1 + scale) + shift)))


class Denoiser(nn.Module):
    """Velocity of the linear path from time, label and noisy vector."""

    def __init__(self, size=96, width=384, depth=3, condition=128, classes=(10, 20)):
        super().__init__()
        self.inlet, self.outlet = nn.Linear(size, width), nn.Linear(width, size)
        self.layers = nn.ModuleList(ResidualLayer(width, condition) for _ in range(depth))
        self.time = mlp(32, condition, condition, activation=nn.SiLU)
        self.tables = nn.ModuleList(nn.Embedding(n + 1, condition) for n in classes)
        self.register_buffer("frequencies", 400.0 ** torch.linspace(0, 1, 16))

    def forward(self, x, t, label):
        """The estimate."""
        angle = t[:, None] * self.frequencies
        c = self.time(torch.cat([angle.sin(), angle.cos()], 1))
        c = F.silu(c + sum(table(label[:, i] + 1) for i, table in enumerate(self.tables)))
        h = self.inlet(x)
        for layer in self.layers:
            h = layer(h, c)
        return self.outlet(F.layer_norm(h, h.shape[-1:], eps=1e-5))

    def loss(self, batch):
        """Flow matching, summed over the elements and averaged over the batch."""
        x, label = batch
        t, eps = 0.001 + 0.998 * torch.rand(len(x)), torch.randn_like(x)
        label = torch.where(torch.rand(label.shape) < 0.1, -1, label)
        x_t = (1 - t[:, None]) * x + t[:, None] * eps
        return ((self(x_t, t, label) - (eps - x)) ** 2).sum(1).mean()


def diffusion():
    """Residual MLP with two class labels."""
    labels = torch.stack([torch.randint(0, 10, (5000,)), torch.arange(5000) % 20], 1)
    return Denoiser(), (torch.randn(5000, 96), labels), 128


def draw(data, batch):
    """A batch drawn with replacement."""
    one = data[0] if isinstance(data, tuple) else data
    index = torch.randint(0, len(one), (batch,))
    return tuple(part[index] for part in data) if isinstance(data, tuple) else data[index]


def adversarial_step():
    """Discriminator with R1, then generator, then the generator's average."""
    generator, critic = mlp(32, 256, 512, 784, activation=gelu), mlp(784, 512, 256, 1, activation=gelu)
    average = [p.detach().clone() for p in generator.parameters()]
    data = torch.rand(5000, 784)
    g_adam, d_adam = (torch.optim.Adam(net.parameters(), 1e-3) for net in (generator, critic))
    count = sum(p.numel() for net in (generator, critic) for p in net.parameters())

    def step():
        x = draw(data, 64).requires_grad_()
        real, fake = critic(x), critic(generator(torch.randn(64, 32)).detach())
        (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
        loss = (F.softplus(-real) + F.softplus(fake)).mean() + 0.5 * (slope**2).sum(1).mean()
        d_adam.zero_grad()
        loss.backward()
        d_adam.step()
        g_loss = F.softplus(-critic(generator(torch.randn(64, 32)))).mean()
        gradients = torch.autograd.grad(g_loss, list(generator.parameters()))
        for p, gradient in zip(generator.parameters(), gradients):
            p.grad = gradient
        g_adam.step()
        torch._foreach_lerp_(average, [p.detach() for p in generator.parameters()], 0.005)
        return loss

    return count, step


def step_of(family):
    """``(parameter count, step)``."""
    if family == "gan":
        return adversarial_step()
    model, data, batch = globals()[family]()
    adam = torch.optim.Adam(model.parameters(), 1e-3)

    def step():
        loss = model.loss(draw(data, batch))
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss

    return sum(p.numel() for p in model.parameters()), step


def main():
    """Answer each number of steps on the input with a line of JSON."""
    start = time.perf_counter()
    count, step = step_of(sys.argv[1])
    step()
    print(json.dumps({"parameters": count, "first_seconds": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main()
