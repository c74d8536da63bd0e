"""Networks for one example; ``jax.vmap`` makes the batch.

A convolution on a CPU pays for every picture element it visits, so the convolutional networks first fold each 2×2
block of pixels into channels (space to depth) and unfold at the end.
"""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from genai_course import _check


class MLP(eqx.Module):
    """Multilayer perceptron ``sizes[0] → … → sizes[-1]``: h ← φ(W h + b), without φ after the last layer.

    The input may have any shape with ``sizes[0]`` elements; the output is reshaped to ``out_shape`` if that is given.
    """

    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        key: PRNGKeyArray,
        activation: Callable = jax.nn.gelu,
        out_shape: Sequence[int] | None = None,
    ):
        sizes = _check.integers("sizes", sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes must name at least input and output, got {sizes}")
        self.out_shape = (sizes[-1],) if out_shape is None else _check.integers("out_shape", out_shape)
        if math.prod(self.out_shape) != sizes[-1]:
            raise ValueError(f"out_shape must have sizes[-1] = {sizes[-1]} elements, got {self.out_shape}")
        keys = jax.random.split(_check.key("key", key), len(sizes) - 1)
        self.layers = tuple(eqx.nn.Linear(m, n, key=k) for m, n, k in zip(sizes[:-1], sizes[1:], keys))
        self.activation = _check.function("activation", activation)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Value at one input. Raises ``ValueError`` if its number of elements is not ``sizes[0]``."""
        size, x = self.layers[0].in_features, _check.array("x", x)
        if x.size != size:
            raise ValueError(f"x must have {size} elements, got shape {x.shape}; vmap over a batch")
        h = x.ravel()
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        return self.layers[-1](h).reshape(self.out_shape)


def space_to_depth(x: Float[Array, "channels height width"]) -> Float[Array, "4*channels height/2 width/2"]:
    """Fold each 2×2 block of pixels into four channels; ``depth_to_space`` is the inverse."""
    x = _check.array("x", x, ndim=3)
    c, h, w = x.shape
    if h % 2 or w % 2:
        raise ValueError(f"x must have even height and width, got shape {x.shape}")
    return x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * c, h // 2, w // 2)


def depth_to_space(x: Float[Array, "channels height width"]) -> Float[Array, "channels/4 2*height 2*width"]:
    """Unfold four channels into each 2×2 block of pixels; the inverse of ``space_to_depth``."""
    x = _check.array("x", x, ndim=3)
    c, h, w = x.shape
    if c % 4:
        raise ValueError(f"x must have a multiple of 4 channels, got shape {x.shape}")
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


def _sizes(**sizes: int) -> list[int]:
    return [_check.integer(name, size) for name, size in sizes.items()]


def _multiple_of_4(name: str, size: int) -> int:
    if _check.integer(name, size) % 4:
        raise ValueError(f"{name} must be a multiple of 4, got {size}")
    return int(size)


class ConvEncoder(eqx.Module):
    """Picture of ``size`` × ``size`` pixels → vector: two 3×3 convolutions at 1/2 and 1/4 resolution, then an MLP."""

    near: eqx.nn.Conv2d
    far: eqx.nn.Conv2d
    head: MLP
    size: int = eqx.field(static=True)

    def __init__(self, out_size: int, *, key: PRNGKeyArray, size: int = 28, width: int = 24, hidden: int = 128):
        out_size, width, hidden = _sizes(out_size=out_size, width=width, hidden=hidden)
        self.size = _multiple_of_4("size", size)
        keys = jax.random.split(_check.key("key", key), 3)
        self.near = eqx.nn.Conv2d(4, width, 3, padding=1, key=keys[0])
        self.far = eqx.nn.Conv2d(width, width, 3, stride=2, padding=1, key=keys[1])
        self.head = MLP((width * (size // 4) ** 2, hidden, out_size), key=keys[2])

    def __call__(self, x: Float[Array, "size size"]) -> Float[Array, " out_size"]:
        """Value at one picture."""
        x = _check.array("x", x, shape=(self.size, self.size))
        h = jax.nn.gelu(self.near(space_to_depth(x[None])))
        return self.head(jax.nn.gelu(self.far(h)))


class ConvDecoder(eqx.Module):
    """Vector → picture of ``size`` × ``size`` pixels: an MLP, then two 3×3 convolutions at 1/4 and 1/2 resolution."""

    stem: MLP
    far: eqx.nn.Conv2d
    near: eqx.nn.Conv2d

    def __init__(self, in_size: int, *, key: PRNGKeyArray, size: int = 28, width: int = 24, hidden: int = 128):
        in_size, width, hidden = _sizes(in_size=in_size, width=width, hidden=hidden)
        quarter = _multiple_of_4("size", size) // 4
        keys = jax.random.split(_check.key("key", key), 3)
        grid = (width, quarter, quarter)
        self.stem = MLP((in_size, hidden, math.prod(grid)), key=keys[0], out_shape=grid)
        self.far = eqx.nn.Conv2d(width, 4 * width, 3, padding=1, key=keys[1])
        self.near = eqx.nn.Conv2d(width, 4, 3, padding=1, key=keys[2])

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, "size size"]:
        """Value at one vector: one unbounded number a pixel."""
        z = _check.array("z", z, shape=(self.stem.layers[0].in_features,))
        h = jax.nn.gelu(depth_to_space(self.far(jax.nn.gelu(self.stem(z)))))
        return depth_to_space(self.near(h))[0]


def parameter_count(model: eqx.Module) -> int:
    """Number of trainable numbers in a model."""
    if not isinstance(model, eqx.Module):
        raise TypeError(f"model must be an equinox.Module, got {type(model).__name__} ({model!r:.60})")
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
