"""The course's side of ``peers.py``: the step that ``fit`` and ``fit_gan`` repeat, in their loop."""

import json
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from genai_course import nets, train
from genai_course.models import diffusion, flow, gan, language, vae

K = jax.random.split(jax.random.key(0), 4)


def vae_dense():
    """784-400-400-(2·16) and its mirror image, Bernoulli, batch 128."""
    model = vae.VAE(
        nets.MLP((784, 400, 400, 32), key=K[0]), nets.MLP((16, 400, 400, 784), key=K[1], out_shape=(28, 28)), 16
    )
    return model, jax.random.uniform(K[2], (5000, 28, 28)), 128


def vae_conv():
    """The convolutional networks of ``nets`` at their default size, batch 64."""
    return (
        vae.VAE(nets.ConvEncoder(32, key=K[0]), nets.ConvDecoder(16, key=K[1]), 16),
        jax.random.uniform(K[2], (5000, 28, 28)),
        64,
    )


def gru():
    """Embedding of 32, 128 hidden units, vocabulary 30, 64 positions, batch 32."""
    return (
        language.LanguageModel(nets.GRU(30, 30, key=K[0], hidden=128, embed=32)),
        jax.random.randint(K[2], (5000, 65), 0, 30),
        32,
    )


def transformer():
    """Two layers, width 64, 4 heads, vocabulary 30, 64 positions, batch 32."""
    return (
        language.LanguageModel(nets.Transformer(30, 64, key=K[0])),
        jax.random.randint(K[2], (5000, 65), 0, 30),
        32,
    )


class Critic(eqx.Module):
    """An MLP with one number as output."""

    net: nets.MLP

    def __call__(self, x):
        """D(x)."""
        return self.net(x)[0]


def adversarial():
    """Dense networks of 256 and 512 units, non-saturating loss, R1 at each step, batch 64."""
    generator = nets.MLP((32, 256, 512, 784), key=K[0])
    return (
        gan.GAN(generator, Critic(nets.MLP((784, 512, 256, 1), key=K[1])), 32, r1=1.0),
        jax.random.uniform(K[2], (5000, 784)),
        64,
    )


def flow_coupling():
    """RealNVP, eight couplings with two hidden layers of 64, in two dimensions, batch 256."""
    return flow.RealNVP(2, key=K[0]), jax.random.normal(K[2], (5000, 2)), 256


def flow_masked():
    """MAF, five layers with two hidden layers of 128, in 64 dimensions, batch 128."""
    return flow.MAF(64, key=K[0]), jax.random.normal(K[2], (5000, 64)), 128


def denoising():
    """Residual MLP 384 × 3 with adaptive scale and shift, two class labels, in 96 dimensions, batch 128."""
    model = diffusion.Diffusion(nets.ResidualMLP(96, key=K[0], width=384, depth=3, classes=(10, 20)), (96,))
    labels = jnp.stack([jax.random.randint(K[3], (5000,), 0, 10), jnp.arange(5000) % 20], 1)
    return model, (jax.random.normal(K[2], (5000, 96)), labels), 128


def step_of(family: str):
    """``(parameter count, step)``: a call of ``step`` does one update and returns the loss, still on the device."""
    makers = {"gan": adversarial, "diffusion": denoising}
    model, data, batch = makers.get(family, globals().get(family))()
    count, optimizer = nets.parameter_count(model), optax.adam(1e-3)
    if family == "gan":
        (g, d), rest = eqx.partition((model.generator, model.discriminator), eqx.is_inexact_array)

        def join(g, d):
            return eqx.tree_at(lambda m: (m.generator, m.discriminator), model, eqx.combine((g, d), rest))

        update = gan._compile_update(join, gan._drawer(data, batch), optimizer, optimizer, 1, 0.995)
        state = gan._State(g, d, g, optimizer.init(g), optimizer.init(d), jnp.int32(0))
    else:
        params, static = eqx.partition(model, eqx.is_inexact_array)
        objective = train._objective(train._own_loss, static)
        update, _ = train._compile_update(objective, params, data, K[3], batch, optimizer, None)
        state = train._State(params, optimizer.init(params), jnp.int32(0))
    state = jax.tree.map(jnp.copy, state)

    def step():
        nonlocal state
        state, values = update(state, data, K[3])
        return values

    return count, step


def main() -> None:
    """Answer each number of steps on the input with a line of JSON."""
    start = time.perf_counter()
    count, step = step_of(sys.argv[1])
    jax.block_until_ready(step())
    print(json.dumps({"parameters": count, "first_seconds": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        waiting = [step() for _ in range(min(train._LAG, int(line)))]
        for _ in range(int(line) - len(waiting)):
            jax.block_until_ready(waiting.pop(0))
            waiting.append(step())
        values = jax.block_until_ready(waiting[-1])
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": float(values[0])}), flush=True)


if __name__ == "__main__":
    main()
