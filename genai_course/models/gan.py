"""Generative adversarial networks (Goodfellow et al., 2014): a generator, a discriminator, the loop that trains both.

x = G(z) with z ~ N(0, I). The discriminator returns a logit: D(x) > 0 says "real", and sigmoid(D(x)) is its probability
of that. There is no ``log_prob``: a GAN is trained to be sampled, and its density is not available.
"""

import collections
import os
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from tqdm import tqdm

from genai_course import _check, train

LOSSES = ("nonsaturating", "saturating", "wasserstein")
_NAMES = ("discriminator", "generator", "penalty")


class GAN(eqx.Module):
    """The pair of networks and what each of them minimizes.

    ``generator`` maps z of ``latent_size`` numbers to an x, ``discriminator`` maps an x to one number. With labels they
    are called as ``generator(z, label)`` and ``discriminator(x, label)``. With s = sigmoid, the discriminator minimizes
    −log s(D(x)) − log(1 − s(D(G(z)))), whose mean is log 4 for D = 0, and the generator

    "nonsaturating"   −log s(D(G(z)))
    "saturating"      log(1 − s(D(G(z)))): the same game with one value, but a gradient that dies when D is sure
    "wasserstein"     −D(G(z)), and the discriminator D(G(z)) − D(x) (Arjovsky et al., 2017)

    ``r1`` adds (r1/2) ‖∇D(x)‖² at the data (Mescheder et al., 2018); ``gradient_penalty`` adds
    gradient_penalty · (‖∇D(u x + (1−u) G(z))‖ − 1)² with u uniform on [0, 1] (Gulrajani et al., 2017).
    """

    generator: Callable
    discriminator: Callable
    latent_size: int = eqx.field(static=True)
    loss: str = eqx.field(static=True)
    r1: float = eqx.field(static=True)
    gradient_penalty: float = eqx.field(static=True)

    def __init__(
        self,
        generator: Callable,
        discriminator: Callable,
        latent_size: int,
        *,
        loss: str = "nonsaturating",
        r1: float = 0.0,
        gradient_penalty: float = 0.0,
    ):
        self.generator = _check.function("generator", generator)
        self.discriminator = _check.function("discriminator", discriminator)
        self.latent_size = _check.integer("latent_size", latent_size)
        self.loss = _check.choice("loss", loss, LOSSES)
        self.r1 = _check.number("r1", r1, least=0.0)
        self.gradient_penalty = _check.number("gradient_penalty", gradient_penalty, least=0.0)

    def generate(self, z: Float[Array, " latent"], label: PyTree = None) -> Float[Array, "..."]:
        """G(z), or G(z, label)."""
        z = _check.array("z", z, shape=(self.latent_size,))
        return self.generator(z) if label is None else self.generator(z, label)

    def sample(self, key: PRNGKeyArray, label: PyTree = None) -> Float[Array, "..."]:
        """One draw x = G(z) with z ~ N(0, I)."""
        return self.generate(jax.random.normal(_check.key("key", key), (self.latent_size,)), label)

    def logit(self, x: Float[Array, "..."], label: PyTree = None) -> Float[Array, ""]:
        """D(x), or D(x, label)."""
        x = _check.array("x", x)
        out = self.discriminator(x) if label is None else self.discriminator(x, label)
        if out.shape:
            raise ValueError(f"discriminator must return one number, a scalar, got shape {out.shape}")
        return out

    def discriminator_loss(
        self, x: Float[Array, "*x"], key: PRNGKeyArray, label: PyTree = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """``(loss, penalty)`` at one real x and one fake; the discriminator minimizes their sum."""
        fake_key, mix_key = jax.random.split(_check.key("key", key))
        x, fake = _check.array("x", x), self.sample(fake_key, label)
        if fake.shape != x.shape:
            raise ValueError(f"generator must return the shape of x, {x.shape}, got {fake.shape}")
        real_logit, fake_logit = self.logit(x, label), self.logit(fake, label)
        penalty = jnp.zeros(())
        if self.r1:
            penalty += self.r1 * r1_penalty(self.logit, x, label)
        if self.gradient_penalty:
            u = jax.random.uniform(mix_key)
            penalty += self.gradient_penalty * unit_slope_penalty(self.logit, u * x + (1 - u) * fake, label)
        if self.loss == "wasserstein":
            return fake_logit - real_logit, penalty
        return jax.nn.softplus(-real_logit) + jax.nn.softplus(fake_logit), penalty

    def generator_loss(self, key: PRNGKeyArray, label: PyTree = None) -> Float[Array, ""]:
        """What the generator minimizes, at one fake."""
        fake_logit = self.logit(self.sample(key, label), label)
        if self.loss == "wasserstein":
            return -fake_logit
        return jax.nn.softplus(-fake_logit) if self.loss == "nonsaturating" else -jax.nn.softplus(fake_logit)


def _squared_slope(logit: Callable, x: Float[Array, "..."], *label) -> Float[Array, ""]:
    return jnp.sum(jax.grad(logit)(x, *label) ** 2)


def r1_penalty(logit: Callable, x: Float[Array, "..."], *label: PyTree) -> Float[Array, ""]:
    """½ ‖∇ₓ D(x)‖² at one real x (Mescheder et al., 2018)."""
    return _squared_slope(_check.function("logit", logit), _check.array("x", x), *label) / 2


def unit_slope_penalty(logit: Callable, x: Float[Array, "..."], *label: PyTree) -> Float[Array, ""]:
    """(‖∇ₓ D(x)‖ − 1)² at one x (Gulrajani et al., 2017); the root is smoothed by 1e-12 where the slope is 0."""
    squared = _squared_slope(_check.function("logit", logit), _check.array("x", x), *label)
    return (jnp.sqrt(squared + 1e-12) - 1) ** 2


class GANRun(NamedTuple):
    """What ``fit_gan`` returns."""

    model: GAN  #: with the averaged generator
    last: GAN  #: with the generator of the last step
    history: dict[str, Float[np.ndarray, " steps"]]  #: batch means by step: "discriminator", "generator", "penalty"
    finished: bool  #: False if it was interrupted before its last step


class _State(NamedTuple):
    generator: PyTree
    discriminator: PyTree
    average: PyTree
    generator_state: PyTree
    discriminator_state: PyTree
    step: Array


def fit_gan(
    gan: GAN,
    data: PyTree | Callable,
    *,
    key: PRNGKeyArray,
    steps: int,
    batch_size: int = 128,
    optimizer: optax.GradientTransformation | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    discriminator_steps: int = 1,
    ema: float = 0.995,
) -> GANRun:
    """Train both networks in turn: ``discriminator_steps`` updates of the discriminator, then one of the generator.

    Each update has a fresh batch of the data and fresh z; fakes have the labels of the batch. The averaged generator is
    ḡ ← ḡ + max(1 − ema, 1/t) (g − ḡ) after step t = 1, 2, …: a plain mean at first, then an exponential one.

    data        an array with one example a row, or a pair ``(x, labels)``, or a traceable function ``(key, n)`` that
                returns either
    optimizer   for both networks unless ``discriminator_optimizer`` is given; default ``optax.adam(1e-3, b1=0.5)``
    ema         0 for the generator of the last step

    An interrupt (Ctrl-C, the stop button) ends training after the steps under way. Raises ``FloatingPointError`` naming
    the first step with a loss that is not finite, and, before anything compiles, ``ValueError`` or ``TypeError`` naming
    the argument that is wrong. There is no early stopping: neither loss says how good the samples are.
    """
    if not isinstance(gan, GAN):
        raise TypeError(f"gan must be a GAN, got {type(gan).__name__} ({gan!r:.60})")
    steps, batch_size = _check.integer("steps", steps, least=0), _check.integer("batch_size", batch_size)
    discriminator_steps = _check.integer("discriminator_steps", discriminator_steps)
    ema = _check.number("ema", ema, least=0.0, most=1.0)
    _check.key("key", key)
    optimizer = optax.adam(1e-3, b1=0.5) if optimizer is None else _check.optimizer("optimizer", optimizer)
    if discriminator_optimizer is None:
        discriminator_optimizer = optimizer
    _check.optimizer("discriminator_optimizer", discriminator_optimizer)

    arrays = None if callable(data) else train._arrays("data", data)
    draw = _drawer(data, batch_size)
    _check_batch(gan, jax.eval_shape(draw, key, arrays), batch_size)
    (generator, discriminator), rest = eqx.partition((gan.generator, gan.discriminator), eqx.is_inexact_array)

    def join(generator, discriminator):
        nets = eqx.combine((generator, discriminator), rest)
        return eqx.tree_at(lambda gan: (gan.generator, gan.discriminator), gan, nets)

    update = _compile_update(join, draw, optimizer, discriminator_optimizer, discriminator_steps, ema)
    states = optimizer.init(generator), discriminator_optimizer.init(discriminator)
    # Steps overwrite their input. The copies leave the caller the untrained pair.
    state = jax.tree.map(jnp.copy, _State(generator, discriminator, generator, *states, jnp.int32(0)))
    rows, waiting = [], collections.deque()

    def record(leave: int) -> None:
        """Read all but the newest ``leave`` losses from the device."""
        while len(waiting) > leave:
            rows.append(np.asarray(waiting.popleft()))
            if not np.all(np.isfinite(rows[-1])):
                values = ", ".join(f"{name} {value}" for name, value in zip(_NAMES, rows[-1]))
                raise FloatingPointError(f"loss is not finite at step {len(rows) - 1}: {values}")

    hidden = os.environ.get("GENAI_COURSE_PROGRESS") == "0"
    with train._Interrupt() as stop, tqdm(total=steps, delay=2, disable=hidden, leave=False) as bar:
        while len(rows) + len(waiting) < steps and not stop.requested:
            state, values = update(state, arrays, key)
            waiting.append(values)
            record(leave=train._LAG)
            bar.update()
        record(leave=0)
    history = dict(zip(_NAMES, np.array(rows, np.float32).reshape(-1, len(_NAMES)).T))
    last, averaged = (join(generator, state.discriminator) for generator in (state.generator, state.average))
    return GANRun(averaged, last, history, len(rows) == steps)


def _drawer(data: PyTree | Callable, batch_size: int) -> Callable:
    """A function of a key and the arrays (None if ``data`` is a function) that returns a batch, ``(x, labels)``."""

    def draw(key, arrays):
        if callable(data):
            batch = data(key, batch_size)
        else:
            index = jax.random.randint(key, (batch_size,), 0, len(jax.tree.leaves(arrays)[0]))
            batch = jax.tree.map(lambda x: x[index], arrays)
        return batch if isinstance(batch, tuple) else (batch, None)

    return draw


def _check_batch(gan: GAN, batch: tuple, batch_size: int) -> None:
    """Check, without computing, that the data are of the right form and that both networks fit them."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
    if len(batch) != 2 or not hasattr(batch[0], "shape") or any(shape[:1] != (batch_size,) for shape in shapes):
        raise ValueError(f"data must give {batch_size} examples x, or a pair of them and their labels, got {shapes}")
    x, label = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
    jax.eval_shape(gan.discriminator_loss, x, jax.random.key(0), label)


def _compile_update(join, draw, optimizer, discriminator_optimizer, discriminator_steps, ema) -> Callable:
    """One step of the game, jitted, its state overwritten in place; it also reports the three numbers of ``_NAMES``."""

    def discriminator_mean(discriminator, generator, x, label, keys):
        losses = jax.vmap(join(generator, discriminator).discriminator_loss)(x, keys, label)
        loss, penalty = (values.mean() for values in losses)
        return loss + penalty, (loss, penalty)

    def generator_mean(generator, discriminator, label, keys):
        return jax.vmap(join(generator, discriminator).generator_loss)(keys, label).mean()

    def update(state: _State, arrays, key):
        *d_keys, g_key = jax.random.split(jax.random.fold_in(key, state.step), discriminator_steps + 1)

        def draw_with_keys(key):
            batch_key, loss_key = jax.random.split(key)
            x, label = draw(batch_key, arrays)
            return x, label, jax.random.split(loss_key, len(x))

        d, d_state = state.discriminator, state.discriminator_state
        for d_key in d_keys:
            gradient, (loss, penalty) = jax.grad(discriminator_mean, has_aux=True)(
                d, state.generator, *draw_with_keys(d_key)
            )
            change, d_state = discriminator_optimizer.update(gradient, d_state, d)
            d = optax.apply_updates(d, change)
        _, label, keys = draw_with_keys(g_key)
        generator_loss, gradient = jax.value_and_grad(generator_mean)(state.generator, d, label, keys)
        change, g_state = optimizer.update(gradient, state.generator_state, state.generator)
        g = optax.apply_updates(state.generator, change)
        average = optax.incremental_update(g, state.average, jnp.maximum(1 - ema, 1 / (state.step + 1)))
        values = jnp.stack([loss, generator_loss, penalty])
        return _State(g, d, average, g_state, d_state, state.step + 1), values

    return jax.jit(update, donate_argnums=0)
