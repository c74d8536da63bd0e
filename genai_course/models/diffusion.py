"""Diffusion and flow matching, one family: a path from data to noise, one regression, many samplers.

    x_t = a(t) x + b(t) eps,   eps ~ N(0, I),   t from 0 (data: a = 1, b = 0) to 1 (noise)

A network estimates, from x_t and t, the mean of x, of eps, or of the velocity v = dx_t/dt = a'(t) x + b'(t) eps. Each
is a linear function of any other and x_t, as is the score -eps/b. So these are one model (Ho et al., 2020; Song et al.,
2021; Salimans and Ho, 2022; Karras et al., 2022; Lipman et al., 2023), and dx_t/dt = E[v | x_t] leads from noise back
to data. With the cosine path, v is pi/2 times the v of Salimans and Ho.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, PRNGKeyArray

from genai_course import _check
from genai_course.nets.denoise import Label, Time

QUANTITIES = ("x", "eps", "v", "score")
METHODS = ("euler", "heun", "ddim", "ddpm")
PATHS = {
    # Straight lines: flow matching, rectified flow (Liu et al., 2023; Lipman et al., 2023).
    "linear": lambda t: (1 - t, t),
    # Variance preserving: a² + b² = 1 (Nichol and Dhariwal, 2021).
    "cosine": lambda t: (jnp.cos(jnp.pi / 2 * t), jnp.sin(jnp.pi / 2 * t)),
    # Variance exploding, with the spacing of Karras et al. (2022): the network sees x_t up to a size of 80.
    "exploding": lambda t: (jnp.ones_like(t), 80.0 * t**7),
}


def _path(path):
    return PATHS[_check.choice("path", path, PATHS)] if isinstance(path, str) else _check.function("path", path)


def _parts(path, what, t):
    """``(c, d)`` such that the quantity is c x + d eps."""
    (a, b), (a_slope, b_slope) = jax.jvp(path, (t,), (jnp.ones_like(t),))
    return {"x_t": (a, b), "x": (1.0, 0.0), "eps": (0.0, 1.0), "v": (a_slope, b_slope), "score": (0.0, -1 / b)}[what]


def _convert(path, value, x_t, t, given, wanted):
    if given == wanted:
        return value
    (a, b), (c, d), (e, f) = (_parts(path, what, t) for what in ("x_t", given, wanted))
    # x and eps solve  a x + b eps = x_t,  c x + d eps = value.
    x, eps = (d * x_t - b * value) / (a * d - b * c), (a * value - c * x_t) / (a * d - b * c)
    return e * x + f * eps


def _time(name, value) -> Float[Array, ""]:
    value = jnp.asarray(_check.array(name, value, ndim=0), float)
    if not isinstance(value, jax.core.Tracer) and not 0 <= np.asarray(value) <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return value


def convert(
    value: Float[Array, "*x"], x_t: Float[Array, "*x"], t: Time, *, given: str, wanted: str, path: str | Callable
) -> Float[Array, "*x"]:
    """The ``wanted`` one of "x", "eps", "v" and "score" that goes with the ``given`` one at x_t and t.

    Division by zero where one does not determine the other: x at b(t) = 0 says nothing about eps, nor eps at a(t) = 0
    about x.
    """
    x_t = _check.array("x_t", x_t)
    value = _check.array("value", value, shape=x_t.shape)
    _check.choice("given", given, QUANTITIES)
    _check.choice("wanted", wanted, QUANTITIES)
    return _convert(_path(path), value, x_t, _time("t", t), given, wanted)


def logit_normal(mean: float = 0.0, scale: float = 1.0) -> Callable:
    """Function that turns a uniform number into sigmoid(mean + scale · N(0, 1)): more times of middling noise."""
    mean, scale = _check.number("mean", mean), _check.number("scale", scale, above=0.0)
    return lambda u: jax.nn.sigmoid(mean + scale * ndtri(u))


class Diffusion(eqx.Module):
    """A diffusion or flow-matching model around ``net(x_t, t, label)``, for examples of shape ``shape``.

    path           "linear", "cosine", "exploding", or a function t ↦ (a(t), b(t)) with a(0) = 1, b(0) = 0
    predict        what the network estimates: "x", "eps" or "v"
    loss_on        what the squared error is taken of, after conversion; default: what the network estimates
    weight         function of t that multiplies the squared error; default 1
    times          function that turns a uniform number into the place of t in ``t_range``; default: uniform times
    t_range        times at which the network is trained; sampling starts at its upper end. Where eps is predicted, x
                   is x_t divided by a(t), so an upper end nearer to 1 asks more of the network
    label_dropout  probability with which each class of a label becomes -1, "not given", in the loss: what guidance
                   needs (Ho and Salimans, 2022)
    """

    net: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    path: Callable = eqx.field(static=True)
    predict: str = eqx.field(static=True)
    loss_on: str = eqx.field(static=True)
    weight: Callable | None = eqx.field(static=True)
    times: Callable | None = eqx.field(static=True)
    t_range: tuple[float, float] = eqx.field(static=True)
    label_dropout: float = eqx.field(static=True)

    def __init__(
        self,
        net: Callable,
        shape: Sequence[int],
        *,
        path: str | Callable = "linear",
        predict: str = "v",
        loss_on: str | None = None,
        weight: Callable | None = None,
        times: Callable | None = None,
        t_range: tuple[float, float] = (0.001, 0.999),
        label_dropout: float = 0.1,
    ):
        self.net, self.path = _check.function("net", net), _path(path)
        self.shape = _check.integers("shape", shape)
        self.predict = _check.choice("predict", predict, QUANTITIES[:3])
        self.loss_on = predict if loss_on is None else _check.choice("loss_on", loss_on, QUANTITIES)
        self.weight = weight if weight is None else _check.function("weight", weight)
        self.times = times if times is None else _check.function("times", times)
        if not isinstance(t_range, Sequence) or len(t_range) != 2:
            raise ValueError(f"t_range must be two times, got {t_range!r:.60}")
        low = _check.number("t_range", t_range[0], least=0.0)
        self.t_range = (low, _check.number("t_range", t_range[1], above=low, most=1.0))
        self.label_dropout = _check.number("label_dropout", label_dropout, least=0.0, most=1.0)

    def loss(
        self, example: Float[Array, "*x"] | tuple[Float[Array, "*x"], Label], key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """weight(t) ‖estimate - truth‖² for x, or for a pair (x, label), at one t and one eps.

        The squared error is summed over the elements of x. Its minimum is not 0 but the variance of what is estimated
        given x_t, which no network knows.
        """
        x, label = example if isinstance(example, tuple) else (example, None)
        x = _check.array("x", x, shape=self.shape)
        time_key, noise_key, label_key = jax.random.split(_check.key("key", key), 3)
        u, (low, high) = jax.random.uniform(time_key), self.t_range
        t = low + (high - low) * (u if self.times is None else self.times(u))
        eps = jax.random.normal(noise_key, self.shape)
        (a, b), (c, d) = self.path(t), _parts(self.path, self.loss_on, t)
        if label is not None and jnp.issubdtype(jnp.result_type(label), jnp.integer):
            label = jnp.where(jax.random.bernoulli(label_key, self.label_dropout, jnp.shape(label)), -1, label)
        x_t = a * x + b * eps
        error = self._estimate(self.loss_on, x_t, t, label, None) - (c * x + d * eps)
        return jnp.sum(error**2) * (1.0 if self.weight is None else self.weight(t))

    def estimate(
        self, what: str, x_t: Float[Array, "*x"], t: Time, label: Label = None, guidance: float = 1.0
    ) -> Float[Array, "*x"]:
        """Mean of "x", "eps", "v" or "score" given x_t and the label: what the network says, converted.

        With classifier-free guidance g (Ho and Salimans, 2022) it is (1 - g) times the estimate without the label plus
        g times the one with it: g = 0 ignores the label, 1 follows it, more than 1 exaggerates.
        """
        _check.choice("what", what, QUANTITIES)
        x_t = _check.array("x_t", x_t, shape=self.shape)
        return self._estimate(what, x_t, _time("t", t), label, self._guidance(guidance, label))

    def _guidance(self, guidance, label):
        """``None`` where the network need not be asked twice."""
        if _check.number("guidance", guidance) == 1.0:
            return None
        if label is None or not jnp.issubdtype(jnp.result_type(label), jnp.integer):
            raise ValueError(f"guidance must be 1 where no class is given, got {guidance}")
        return jnp.asarray(guidance)

    def _estimate(self, what, x_t, t, label, guidance):
        out = self.net(x_t, t, label)
        if jnp.shape(out) != self.shape:
            raise ValueError(f"net must return the shape of x, {self.shape}, got {jnp.shape(out)}")
        if guidance is not None:  # the same for x, eps and v: conversion is affine
            out = (1 - guidance) * self.net(x_t, t, jnp.full_like(label, -1)) + guidance * out
        return _convert(self.path, out, x_t, t, self.predict, what)

    def step(
        self,
        x_t: Float[Array, "*x"],
        t: Time,
        s: Time,
        key: PRNGKeyArray | None = None,
        *,
        method: str = "ddim",
        label: Label = None,
        guidance: float = 1.0,
    ) -> Float[Array, "*x"]:
        """x_s at an earlier time s < t, with x̂, ε̂ and v̂ the estimates at (x_t, t).

        euler   x_t + (s - t) v̂
        heun    x_t + (s - t) (v̂ + v̂_s) / 2, v̂_s the estimate where Euler arrives (Karras et al., 2022); s > 0
        ddim    a_s x̂ + b_s ε̂ (Song et al., 2021): exact if the estimates stay; the same as Euler on the linear path
        ddpm    a_s x̂ + √(b_s² - σ²) ε̂ + σ z with noise z from ``key`` and σ² = b_s² (1 - (a_t b_s / a_s b_t)²), the
                variance of x_s given x_t and x: ancestral sampling (Ho et al., 2020)
        """
        x_t = _check.array("x_t", x_t, shape=self.shape)
        if _check.choice("method", method, METHODS) == "ddpm":
            _check.key("key", key)
        t, s = _time("t", t), _time("s", s)
        return self._step(x_t, t, s, key, method, label, self._guidance(guidance, label))

    def _step(self, x_t, t, s, key, method, label, guidance):
        def mean(what, x_t=x_t, t=t):
            return self._estimate(what, x_t, t, label, guidance)

        if method in ("euler", "heun"):
            v = mean("v")
            there = x_t + (s - t) * v
            return there if method == "euler" else x_t + (s - t) * (v + mean("v", there, s)) / 2
        out = mean(self.predict)  # converted twice, asked for once
        x, eps = (_convert(self.path, out, x_t, t, self.predict, what) for what in ("x", "eps"))
        (a_t, b_t), (a_s, b_s) = self.path(t), self.path(s)
        if method == "ddim":
            return a_s * x + b_s * eps
        kept = b_s * a_t * b_s / (a_s * b_t)  # √(b_s² - σ²)
        sigma = jnp.sqrt(jnp.maximum(b_s**2 - kept**2, 0.0))
        return a_s * x + kept * eps + sigma * jax.random.normal(key, self.shape)

    def sample(
        self,
        key: PRNGKeyArray,
        steps: int = 50,
        *,
        method: str = "heun",
        label: Label = None,
        guidance: float = 1.0,
    ) -> Float[Array, "*x"]:
        """One sample: ``steps`` equal steps from b(t) · N(0, I), t the upper end of ``t_range``, to t = 0."""
        key = _check.key("key", key)
        label = label if label is None else jnp.asarray(_check.array("label", label))[None]
        return self._samples(key[None], steps, method, label, guidance)[0]

    def sample_batch(
        self,
        key: PRNGKeyArray,
        n: int,
        steps: int = 50,
        *,
        method: str = "heun",
        labels: Label = None,
        guidance: float = 1.0,
    ) -> Float[Array, "n *x"]:
        """``n`` samples, each as ``sample`` makes it from one of ``jax.random.split(key, n)`` and one of ``labels``.

        The loop over steps is Python's, around one compiled step for all samples: fast for convolutions too, which XLA
        runs on a slow path inside a scan on a CPU.
        """
        n = _check.integer("n", n)
        keys = jax.random.split(_check.key("key", key), n)
        if labels is not None:
            labels = jnp.asarray(_check.array("labels", labels))
            if labels.shape[:1] != (n,):
                raise ValueError(f"labels must have one label for each of {n} samples, got shape {labels.shape}")
        return self._samples(keys, steps, method, labels, guidance)

    def _samples(self, keys, steps, method, labels, guidance):
        steps = _check.integer("steps", steps)
        _check.choice("method", method, METHODS)
        guidance = self._guidance(guidance, labels)
        times = jnp.linspace(self.t_range[1], 0.0, steps + 1)
        keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        x = self.path(times[0])[1] * jax.vmap(lambda key: jax.random.normal(key, self.shape))(keys)
        for i in range(steps):
            if i == steps - 1 and method == "heun":
                method = "euler"  # an estimate at t = 0 may not exist, and one such step does not lower the order
            x = _advance(self, x, times, jnp.asarray(i), noise_keys, method, labels, guidance)
        return x


@eqx.filter_jit
def _advance(model, x, times, i, keys, method, labels, guidance):
    def one(x, key, label):
        return model._step(x, times[i], times[i + 1], jax.random.fold_in(key, i), method, label, guidance)

    return jax.vmap(one)(x, keys, labels)
