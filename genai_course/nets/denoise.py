"""Networks of ``(x, t, label)``: a noisy example, the time from 0 (data) to 1 (noise), and what the example shows.

A label is one or more class indices, -1 where a class is not given, or a vector of real features; ``None`` means that
nothing is given.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genai_course import _check
from genai_course.nets.basic import MLP, _multiple_of_4, _sizes, depth_to_space, space_to_depth
from genai_course.nets.sequence import check_ids, look_up

Time = Float[Array, ""] | float
Label = Int[Array, "..."] | Float[Array, "..."] | int | None


def time_embedding(t: Time, size: int) -> Float[Array, " size"]:
    """Sines and cosines of one time: sin(ω_k t) for all k, then cos(ω_k t), as in Vaswani et al. (2017).

    The K = size/2 frequencies ω_k = 400^(k/(K-1)), k = 0 … K-1, are spread for times from 0 to 1: the slowest turns by
    one radian, the fastest by 400.
    """
    if _check.integer("size", size) % 2:
        raise ValueError(f"size must be even, got {size}")
    angle = _check.array("t", t, ndim=0) * 400.0 ** jnp.linspace(0, 1, size // 2)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)])


class _Condition(eqx.Module):
    """Time and label → one vector: silu(MLP(embedding of t) + Σ_k row of class k), or + W label for features."""

    time: MLP
    tables: tuple[Float[Array, "classes+1 size"], ...]
    features: eqx.nn.Linear | None

    def __init__(self, size, classes, features, key):
        classes = (classes,) if isinstance(classes, int) else classes
        classes = _check.integers("classes", classes)
        if _check.integer("features", features, least=0) and classes:
            raise ValueError(f"features must be 0 where there are classes, got {features}")
        time_key, feature_key, *keys = jax.random.split(key, 2 + len(classes))
        self.time = MLP((32, size, size), key=time_key, activation=jax.nn.silu)
        self.tables = tuple(0.3 * jax.random.normal(k, (n + 1, size)) for n, k in zip(classes, keys))
        self.features = eqx.nn.Linear(features, size, key=feature_key) if features else None

    def __call__(self, t, label):
        h = self.time(time_embedding(t, 32))
        if self.features is not None:
            h += self.features(_check.array("label", label, shape=(self.features.in_features,)))
        elif label is not None:
            label = _check.array("label", label)
            if label.size != len(self.tables):
                raise ValueError(f"label must have {len(self.tables)} classes, got shape {label.shape}")
            for one, table in zip(label.ravel(), self.tables):
                # Row 0 stands for "not given", which is class -1.
                h += look_up(table, check_ids("label", one, len(table) - 1, ndim=0, least=-1) + 1)
        else:
            h += sum(table[0] for table in self.tables)
        return jax.nn.silu(h)


def _standardized(h):
    return (h - h.mean()) * jax.lax.rsqrt(h.var() + 1e-5)


class _ResidualLayer(eqx.Module):
    """H + W₂ silu(W₁ (norm(h) (1 + scale) + shift)), scale and shift linear in the condition."""

    scale_shift: eqx.nn.Linear
    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __init__(self, width, condition, key):
        keys = jax.random.split(key, 3)
        self.scale_shift = eqx.nn.Linear(condition, 2 * width, key=keys[0])
        self.first = eqx.nn.Linear(width, width, key=keys[1])
        self.second = eqx.nn.Linear(width, width, key=keys[2])

    def __call__(self, h, condition):
        scale, shift = jnp.split(self.scale_shift(condition), 2)
        return h + self.second(jax.nn.silu(self.first(_standardized(h) * (1 + scale) + shift)))


class ResidualMLP(eqx.Module):
    """Denoiser for vectors: residual layers, steered by time and label through adaptive scale and shift.

    x is of any shape with ``size`` elements, and so is the output. ``classes`` is the number of classes, or one number
    for each class label; ``features`` is the number of real features. FiLM (Perez et al., 2018), as in the transformer
    of Peebles and Xie (2023).
    """

    inlet: eqx.nn.Linear
    layers: tuple[_ResidualLayer, ...]
    outlet: eqx.nn.Linear
    condition: _Condition

    def __init__(
        self,
        size: int,
        *,
        key: PRNGKeyArray,
        width: int = 256,
        depth: int = 3,
        classes: int | Sequence[int] = (),
        features: int = 0,
    ):
        size, width, depth = _sizes(size=size, width=width, depth=depth)
        condition_key, in_key, out_key, *keys = jax.random.split(_check.key("key", key), 3 + depth)
        self.condition = _Condition(128, classes, features, condition_key)
        self.inlet = eqx.nn.Linear(size, width, key=in_key)
        self.layers = tuple(_ResidualLayer(width, 128, k) for k in keys)
        self.outlet = eqx.nn.Linear(width, size, key=out_key)

    def __call__(self, x: Float[Array, "*x"], t: Time, label: Label = None) -> Float[Array, "*x"]:
        """Value at one example."""
        x = _check.array("x", x)
        if x.size != self.inlet.in_features:
            raise ValueError(f"x must have {self.inlet.in_features} elements, got shape {x.shape}; vmap over a batch")
        condition, h = self.condition(t, label), self.inlet(x.ravel())
        for layer in self.layers:
            h = layer(h, condition)
        return self.outlet(_standardized(h)).reshape(x.shape)


class _ConvLayer(eqx.Module):
    """Two 3×3 convolutions beside a 1×1 one, with scale and shift of each channel between them."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    around: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    scale_shift: eqx.nn.Linear

    def __init__(self, channels_in, channels_out, condition, key):
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Conv2d(channels_in, channels_out, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(channels_out, channels_out, 3, padding=1, key=keys[1])
        self.around = eqx.nn.Conv2d(channels_in, channels_out, 1, key=keys[2])
        self.norm = eqx.nn.GroupNorm(4, channels_out, channelwise_affine=False)
        self.scale_shift = eqx.nn.Linear(condition, 2 * channels_out, key=keys[3])

    def __call__(self, x, condition):
        scale, shift = jnp.split(self.scale_shift(condition)[:, None, None], 2)
        h = self.norm(jax.nn.silu(self.first(x))) * (1 + scale) + shift
        return self.around(x) + self.second(jax.nn.silu(h))


class UNet(eqx.Module):
    """Denoiser for pictures of ``size`` × ``size`` pixels: fine and coarse layers, bridged (Ronneberger et al., 2015).

    2×2 blocks of pixels become channels, so that the fine layers work at half the resolution, and the coarse one, with
    twice the channels, at a quarter. ``classes`` and ``features`` as in ``ResidualMLP``; ``width`` is a multiple of 4.
    """

    inlet: eqx.nn.Conv2d
    down: _ConvLayer
    coarse: _ConvLayer
    up: _ConvLayer
    outlet: eqx.nn.Conv2d
    condition: _Condition
    size: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        key: PRNGKeyArray,
        size: int = 16,
        width: int = 48,
        classes: int | Sequence[int] = (),
        features: int = 0,
    ):
        self.size, width = _multiple_of_4("size", size), _multiple_of_4("width", width)
        keys = jax.random.split(_check.key("key", key), 6)
        self.condition = _Condition(128, classes, features, keys[0])
        self.inlet = eqx.nn.Conv2d(4, width, 3, padding=1, key=keys[1])
        self.down = _ConvLayer(width, width, 128, keys[2])
        self.coarse = _ConvLayer(width, 2 * width, 128, keys[3])
        self.up = _ConvLayer(3 * width, width, 128, keys[4])
        self.outlet = eqx.nn.Conv2d(width, 4, 3, padding=1, key=keys[5])

    def __call__(self, x: Float[Array, "size size"], t: Time, label: Label = None) -> Float[Array, "size size"]:
        """Value at one picture."""
        x = _check.array("x", x, shape=(self.size, self.size))
        condition = self.condition(t, label)
        fine = self.down(self.inlet(space_to_depth(x[None])), condition)
        pooled = fine.reshape(len(fine), self.size // 4, 2, self.size // 4, 2).mean((2, 4))
        coarse = self.coarse(pooled, condition).repeat(2, axis=1).repeat(2, axis=2)
        return depth_to_space(self.outlet(self.up(jnp.concatenate([coarse, fine]), condition)))[0]
