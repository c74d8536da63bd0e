"""What ``genai_course.train.fit`` costs over a bare, hand-written step loop: time per step of both, and their ratio.

Run with ``python benchmarks/fit_overhead.py`` (about a minute on two cores). The two loops take turns, so that a busy
machine slows both alike, and the medians are compared.
"""

import functools
import os
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from genai_course import nets
from genai_course.data import glyphs
from genai_course.models.vae import VAE
from genai_course.train import fit

BATCH = 128
REPEATS = 7


def dense(key: jax.Array) -> VAE:
    """784-400-400-(2·16) encoder and its mirror image."""
    a, b = jax.random.split(key)
    return VAE(nets.MLP((784, 400, 400, 32), key=a), nets.MLP((16, 400, 400, 784), key=b, out_shape=(28, 28)), 16)


def convolutional(key: jax.Array) -> VAE:
    """The convolutional networks of ``nets`` at their default size."""
    a, b = jax.random.split(key)
    return VAE(nets.ConvEncoder(32, key=a), nets.ConvDecoder(16, key=b), 16)


def bare_loop(model: VAE, data: jax.Array, steps: int) -> float:
    """Seconds for ``steps`` steps of a loop with nothing but the step in it, compiled beforehand."""
    optimizer = optax.adam(1e-3)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    params = jax.tree.map(jnp.copy, params)
    state = optimizer.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key):
        index_key, loss_key = jax.random.split(key)
        batch = data[jax.random.randint(index_key, (BATCH,), 0, len(data))]

        def mean_loss(params):
            losses, _ = jax.vmap(eqx.combine(params, static).loss)(batch, jax.random.split(loss_key, BATCH))
            return losses.mean()

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    first, *keys = jax.random.split(jax.random.key(1), steps + 1)
    params, state, loss = step(params, state, first)
    jax.block_until_ready(loss)
    start = time.perf_counter()
    for key in keys:
        params, state, loss = step(params, state, key)
    jax.block_until_ready(loss)
    return time.perf_counter() - start


def fitted(model: VAE, data: jax.Array, steps: int) -> float:
    """Seconds for ``steps`` steps of ``fit``: a run of ``steps + 1`` less a run of one, which compiles the same."""
    start = time.perf_counter()
    fit(model, data, key=jax.random.key(1), steps=1, batch_size=BATCH)
    middle = time.perf_counter()
    fit(model, data, key=jax.random.key(1), steps=steps + 1, batch_size=BATCH)
    return (time.perf_counter() - middle) - (middle - start)


def main() -> None:
    """Print one line a model."""
    os.environ["GENAI_COURSE_PROGRESS"] = "0"
    data = jnp.asarray(glyphs.sample(jax.random.key(0), 5000).images)
    for name, make, steps in (("dense", dense, 300), ("convolutional", convolutional, 100)):
        model = make(jax.random.key(2))
        pairs = [(bare_loop(model, data, steps), fitted(model, data, steps)) for _ in range(REPEATS)]
        bare, full = (1000 * statistics.median(times) / steps for times in zip(*pairs))
        print(f"{name:14} bare loop {bare:6.2f} ms a step, fit {full:6.2f} ms, ratio {full / bare:.3f}", flush=True)


if __name__ == "__main__":
    main()
