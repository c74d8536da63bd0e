"""Networks against NumPy and SciPy written out, and against counts by hand."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, stats

from genai_course import nets


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def numpy_mlp(model: nets.MLP, x, activation):
    """h ← φ(W h + b), in float64."""
    h = np.asarray(x, float).ravel()
    for i, layer in enumerate(model.layers):
        h = np.asarray(layer.weight, float) @ h + np.asarray(layer.bias, float)
        if i < len(model.layers) - 1:
            h = activation(h)
    return h


def gelu(x):
    """The tanh form that JAX uses (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("sizes", "activation", "by_hand"),
    [((3, 2), jax.nn.gelu, gelu), ((1, 1, 1), jnp.tanh, np.tanh), ((12, 7, 7, 6), jax.nn.gelu, gelu)],
)
def test_mlp_is_its_formula(sizes, activation, by_hand):
    model = nets.MLP(sizes, key=key(), activation=activation)
    x = jax.random.normal(key(1), (sizes[0],))
    np.testing.assert_allclose(model(x), numpy_mlp(model, x, by_hand), rtol=1e-4, atol=1e-6)
    assert nets.parameter_count(model) == sum(m * n + n for m, n in itertools.pairwise(sizes))


def test_gelu_is_the_input_times_a_normal_probability():
    x = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(gelu(x), x * stats.norm.cdf(x), atol=5e-4)


def test_mlp_takes_and_gives_any_shape():
    model = nets.MLP((6, 5, 4), key=key(), out_shape=(2, 2))
    x = jnp.arange(6.0)
    assert model(x).shape == (2, 2)
    np.testing.assert_array_equal(model(x), model(x.reshape(2, 3)))
    np.testing.assert_allclose(model(x).ravel(), numpy_mlp(model, x, gelu), rtol=1e-4)
    batch = jnp.stack([x, -x])
    np.testing.assert_allclose(jax.vmap(model)(batch)[1], model(-x), rtol=1e-5)
    with pytest.raises(ValueError, match=r"x must have 6 elements, got shape \(2, 6\); vmap over a batch"):
        model(batch)


def test_layers_start_from_different_keys():
    first, second = nets.MLP((5, 5, 5), key=key()).layers
    assert not np.array_equal(first.weight, second.weight)
    assert not np.array_equal(first.weight, nets.MLP((5, 5, 5), key=key(1)).layers[0].weight)


def folded(x):
    """Space to depth by a loop: channel 4 c + 2 i + j holds pixel (i, j) of each 2×2 block of channel c."""
    channels, height, width = x.shape
    out = np.empty((4 * channels, height // 2, width // 2))
    for c, i, j in np.ndindex(channels, 2, 2):
        out[4 * c + 2 * i + j] = x[c, i::2, j::2]
    return out


def unfolded(x):
    """Depth to space by a loop, the inverse of ``folded``."""
    channels, height, width = x.shape[0] // 4, x.shape[1], x.shape[2]
    out = np.empty((channels, 2 * height, 2 * width))
    for c, i, j in np.ndindex(channels, 2, 2):
        out[c, i::2, j::2] = x[4 * c + 2 * i + j]
    return out


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 6), (2, 28, 28), (1, 0, 2)])
def test_space_to_depth_is_a_loop_and_has_an_inverse(shape):
    x = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    deep = nets.space_to_depth(jnp.asarray(x))
    np.testing.assert_array_equal(deep, folded(x))
    np.testing.assert_array_equal(nets.depth_to_space(deep), x)
    np.testing.assert_array_equal(nets.depth_to_space(jnp.asarray(deep[::-1])), unfolded(np.asarray(deep)[::-1]))


def convolve(layer: eqx.nn.Conv2d, x, stride: int = 1):
    """A 3×3 convolution with one ring of zeros around the picture, by SciPy."""
    weight, bias = np.asarray(layer.weight, float), np.asarray(layer.bias, float)
    sums = [sum(signal.correlate(a, w, "same") for a, w in zip(x, kernels)) for kernels in weight]
    return np.stack(sums)[:, ::stride, ::stride] + bias


def test_conv_encoder_is_its_description():
    model = nets.ConvEncoder(5, key=key(), size=8, width=3, hidden=7)
    x = np.asarray(jax.random.normal(key(1), (8, 8)), float)
    near = gelu(convolve(model.near, folded(x[None])))
    far = gelu(convolve(model.far, near, stride=2))
    assert near.shape == (3, 4, 4)
    assert far.shape == (3, 2, 2)
    expected = numpy_mlp(model.head, far, gelu)
    np.testing.assert_allclose(eqx.filter_jit(model)(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-6)


def test_conv_decoder_is_its_description():
    model = nets.ConvDecoder(5, key=key(), size=8, width=3, hidden=7)
    z = np.asarray(jax.random.normal(key(1), (5,)), float)
    stem = gelu(numpy_mlp(model.stem, z, gelu).reshape(3, 2, 2))
    far = gelu(unfolded(convolve(model.far, stem)))
    assert far.shape == (3, 4, 4)
    expected = unfolded(convolve(model.near, far))[0]
    np.testing.assert_allclose(eqx.filter_jit(model)(jnp.asarray(z, jnp.float32)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [4, 28])
def test_conv_shapes_and_parameter_counts(size):
    encoder = nets.ConvEncoder(6, key=key(), size=size)
    decoder = nets.ConvDecoder(3, key=key(), size=size)
    assert eqx.filter_eval_shape(encoder, jnp.zeros((size, size))).shape == (6,)
    assert eqx.filter_eval_shape(decoder, jnp.zeros(3)).shape == (size, size)
    grid = 24 * (size // 4) ** 2
    head = grid * 128 + 128 + 128 * 6 + 6
    stem = 3 * 128 + 128 + 128 * grid + grid
    assert nets.parameter_count(encoder) == (4 * 9 + 1) * 24 + (24 * 9 + 1) * 24 + head
    assert nets.parameter_count(decoder) == stem + (24 * 9 + 1) * 96 + (24 * 9 + 1) * 4


def test_parameter_count_leaves_out_what_is_not_trained():
    class Mixed(eqx.Module):
        weight: jax.Array
        index: jax.Array
        name: str

    assert nets.parameter_count(Mixed(jnp.ones((2, 3)), jnp.arange(5), "mixed")) == 6
