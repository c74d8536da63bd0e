"""Denoisers against their equations in float64 NumPy and SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from genai_course import nets


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def double(linear):
    return lambda x: np.asarray(linear.weight, float) @ x + np.asarray(linear.bias, float)


def silu(x):
    return x / (1 + np.exp(-x))


def standardized(h):
    return (h - h.mean()) / np.sqrt(h.var() + 1e-5)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_time_embedding_is_its_formula(t):
    found = nets.time_embedding(t, 10)
    turns = [400 ** (k / 4) for k in range(5)]
    expected = [*(np.sin(w * t) for w in turns), *(np.cos(w * t) for w in turns)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(np.sum(np.square(found)), 5, rtol=1e-5)
    np.testing.assert_allclose(nets.time_embedding(t, 2), [np.sin(t), np.cos(t)], atol=1e-6)


def test_times_that_differ_by_a_hundredth_are_far_apart():
    embed = jax.vmap(lambda t: nets.time_embedding(t, 32))
    codes = np.asarray(embed(jnp.linspace(0, 1, 101)), float)
    distance = np.linalg.norm(codes[:, None] - codes, axis=-1) + 10 * np.eye(101)
    assert distance.min() > 0.5


def numpy_condition(model, t, rows):
    """Silu(MLP(embedding of t) + what the label adds)."""
    h = np.asarray(nets.time_embedding(t, 32), float)
    first, second = model.time.layers
    return silu(double(second)(silu(double(first)(h))) + rows)


def numpy_residual(model: nets.ResidualMLP, x, condition):
    h = double(model.inlet)(np.asarray(x, float).ravel())
    for layer in model.layers:
        scale, shift = np.split(double(layer.scale_shift)(condition), 2)
        h = h + double(layer.second)(silu(double(layer.first)(standardized(h) * (1 + scale) + shift)))
    return double(model.outlet)(standardized(h)).reshape(x.shape)


@pytest.mark.parametrize(("label", "rows"), [((2, 0), (3, 1)), ((-1, 4), (0, 5)), ((-1, -1), (0, 0)), (None, (0, 0))])
def test_residual_mlp_is_its_formula(label, rows):
    model = nets.ResidualMLP(6, key=key(), width=7, depth=2, classes=(3, 5))
    x = jax.random.normal(key(1), (2, 3))
    added = sum(np.asarray(table, float)[row] for table, row in zip(model.condition.tables, rows))
    expected = numpy_residual(model, x, numpy_condition(model.condition, 0.3, added))
    found = model(x, 0.3, None if label is None else jnp.array(label))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_residual_mlp_takes_features():
    model = nets.ResidualMLP(6, key=key(), width=7, depth=1, features=2)
    x, features = jax.random.normal(key(1), (6,)), jnp.array([0.5, -2.0])
    condition = numpy_condition(model.condition, 0.9, double(model.condition.features)(np.array([0.5, -2.0])))
    np.testing.assert_allclose(model(x, 0.9, features), numpy_residual(model, x, condition), rtol=1e-4, atol=1e-5)


def test_one_class_label_is_a_number():
    model = nets.ResidualMLP(4, key=key(), width=5, classes=3)
    x, time = jnp.ones(4), jnp.float32(0.5)
    np.testing.assert_array_equal(model(x, time, 2), model(x, time, jnp.array([2])))
    np.testing.assert_array_equal(model(x, time, -1), model(x, time))
    assert not np.allclose(model(x, time, 0), model(x, time, 1))


@pytest.mark.parametrize("model", [nets.ResidualMLP(16, key=key(), classes=3), nets.UNet(key=key(), size=4, classes=3)])
def test_a_class_out_of_range_is_not_a_number_where_it_cannot_be_refused(model):
    run = eqx.filter_jit(lambda model, label: model(jnp.ones((4, 4)), jnp.float32(0.5), label))
    assert np.all(np.isfinite([run(model, jnp.int32(label)) for label in (-1, 0, 2)]))
    assert np.all(np.isnan([run(model, jnp.int32(label)) for label in (-2, 3)]))


# U-Net


def convolve(layer: eqx.nn.Conv2d, x):
    """A convolution with zeros around the picture, by SciPy."""
    weight, bias = np.asarray(layer.weight, float), np.asarray(layer.bias, float)
    return np.stack([sum(signal.correlate(a, w, "same") for a, w in zip(x, kernels)) for kernels in weight]) + bias


def numpy_conv_layer(layer, x, condition):
    h = silu(convolve(layer.first, x))
    groups = [standardized(group) for group in np.split(h, 4)]
    scale, shift = np.split(double(layer.scale_shift)(condition)[:, None, None], 2)
    return convolve(layer.around, x) + convolve(layer.second, silu(np.concatenate(groups) * (1 + scale) + shift))


def test_unet_is_its_description():
    model = nets.UNet(key=key(), size=8, width=8, classes=(4,))
    x = np.asarray(jax.random.normal(key(1), (8, 8)))
    condition = numpy_condition(model.condition, 0.6, np.asarray(model.condition.tables[0], float)[2])
    stem = convolve(model.inlet, np.stack([x[i::2, j::2] for i in (0, 1) for j in (0, 1)]).astype(float))
    fine = numpy_conv_layer(model.down, stem, condition)
    assert fine.shape == (8, 4, 4)
    pooled = np.mean([fine[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
    coarse = np.kron(numpy_conv_layer(model.coarse, pooled, condition), np.ones((1, 2, 2)))
    out = convolve(model.outlet, numpy_conv_layer(model.up, np.concatenate([coarse, fine]), condition))
    expected = np.empty((8, 8))
    for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[i::2, j::2] = out[k]
    found = eqx.filter_jit(model)(jnp.asarray(x), jnp.float32(0.6), jnp.int32(1))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_parameter_counts():
    def linear(m, n):
        return (m + 1) * n

    def layer(m, n):
        return (9 * m + 1) * n + (9 * n + 1) * n + linear(m, n) + linear(128, 2 * n)

    condition = linear(32, 128) + linear(128, 128) + (10 + 1 + 20 + 1) * 128
    unet = (9 * 4 + 1) * 48 + layer(48, 48) + layer(48, 96) + layer(144, 48) + (9 * 48 + 1) * 4 + condition
    assert nets.parameter_count(nets.UNet(key=key(), classes=(10, 20))) == unet
    assert 320_000 < unet < 360_000
    mlp = linear(96, 384) + 3 * (linear(128, 768) + 2 * linear(384, 384)) + linear(384, 96) + condition
    assert nets.parameter_count(nets.ResidualMLP(96, key=key(), width=384, classes=(10, 20))) == mlp
