"""Flows against autodiff Jacobians, quadrature, Gaussian conditionals by SciPy, and their own inverses."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from statistical import assert_mean

from genai_course import train
from genai_course.data import toys
from genai_course.models import flow
from genai_course.models.flow import MAF, Autoregressive, Coupling, Flow, MaskedMLP, RealNVP, Scaling


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def shaken(model, seed: int = 1, by: float = 0.3):
    """The model with noise on every parameter: a fresh flow is the identity, of which any formula is true."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key(seed), len(leaves))
    noisy = [leaf + by * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys)]
    return eqx.combine(jax.tree.unflatten(tree, noisy), rest)


@functools.cache
def flow_of(kind, size: int) -> Flow:
    return shaken(kind(size, key=key(), layers=3, width=9))


SIZES = [(RealNVP, 2), (RealNVP, 3), (RealNVP, 6), (MAF, 1), (MAF, 2), (MAF, 3), (MAF, 6)]


def points(size: int, n: int = 50, seed: int = 2) -> jax.Array:
    return 1.5 * jax.random.normal(key(seed), (n, size))


@eqx.filter_jit
def batched(function, x):
    return jax.vmap(function)(x)


@pytest.mark.parametrize(("kind", "size"), SIZES)
def test_the_two_directions_are_inverse_to_each_other(kind, size):
    model, start = flow_of(kind, size), points(size)
    for there, back in ((model.forward, model.inverse), (model.inverse, model.forward)):
        moved, log_det = batched(there, start)
        returned, opposite = batched(back, moved)
        assert np.abs(moved - start).max() > 0.3  # not the identity
        np.testing.assert_allclose(returned, start, atol=1e-4)
        np.testing.assert_allclose(opposite, -log_det, atol=1e-4)


@pytest.mark.parametrize(("kind", "size"), SIZES)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_determinant_is_that_of_the_autodiff_jacobian(kind, size, direction):
    move = getattr(flow_of(kind, size), direction)
    jacobians = batched(jax.jacfwd(lambda point: move(point)[0]), points(size))
    expected = np.linalg.slogdet(np.asarray(jacobians, float))[1]
    log_det = batched(lambda point: move(point)[1], points(size))
    np.testing.assert_allclose(log_det, expected, atol=1e-4)
    assert np.std(expected) > 0.05 or size == 1  # in one dimension there is nothing to depend on


def on_grid(model, half_width: float = 16.0, cells: int = 500) -> tuple[np.ndarray, float]:
    """Log-density at the middles of square cells, and the area of a cell."""
    step = 2 * half_width / cells
    line = step * (np.arange(cells) + 0.5) - half_width
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2), jnp.float32)
    values = eqx.filter_jit(lambda model, x: jax.lax.map(model.log_prob, x, batch_size=5000))(model, grid)
    return np.asarray(values, float), step**2


@pytest.mark.parametrize("kind", [RealNVP, MAF])
def test_density_integrates_to_one_and_is_the_density_of_the_samples(kind):
    model = flow_of(kind, 2)
    log_p, area = on_grid(model)
    p = np.exp(log_p) * area
    assert p.sum() == pytest.approx(1, abs=1e-3)
    samples = batched(model.sample, jax.random.split(key(3), 20_000))
    assert_mean(batched(model.log_prob, samples), np.sum(p * log_p))  # minus the entropy, two ways
    log_normal = stats.norm.logpdf(points(2)).sum(axis=1)
    assert np.abs(batched(model.log_prob, points(2)) - log_normal).mean() > 0.3


@pytest.mark.parametrize("kind", [RealNVP, MAF])
def test_a_new_flow_is_almost_a_standard_normal(kind):
    model = kind(3, key=key())
    x = points(3)
    np.testing.assert_allclose(batched(model.log_prob, x), stats.norm.logpdf(x).sum(axis=1), atol=0.2)
    assert float(model.loss(x[0], key())) == -float(model.log_prob(x[0]))


@pytest.mark.parametrize("kind", [RealNVP, MAF])
def test_layers_start_from_different_keys(kind):
    first, second = (layer.net.layers[0].weight for layer in kind(3, key=key(), layers=2).layers[::2])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, kind(3, key=key(1)).layers[0].net.layers[0].weight)


@pytest.mark.parametrize("kind", [RealNVP, MAF])
def test_no_weight_is_large_enough_to_overflow(kind):
    model = jax.tree.map(lambda leaf: 100 * leaf if leaf.ndim == 2 else leaf, flow_of(kind, 3))
    x = points(3)
    values, gradients = batched(jax.value_and_grad(model.log_prob), x)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(gradients))
    np.testing.assert_allclose(flow._log_scale(jnp.array([-1e9, 0.0, 0.01, 1e9])), [-2, 0, 0.01, 2], atol=1e-6)


# Layers


def test_scaling_is_its_formula():
    layer = eqx.tree_at(lambda s: (s.log_scale, s.shift), Scaling(2), (jnp.array([0.5, -1.0]), jnp.array([3.0, 0.0])))
    x, log_det = layer.forward(jnp.array([2.0, 2.0]))
    np.testing.assert_allclose(x, [2 * math.exp(0.5) + 3, 2 * math.exp(-1)], rtol=1e-6)
    assert float(log_det) == pytest.approx(-0.5)


def test_coupling_is_its_formula():
    layer = shaken(RealNVP(4, key=key(), layers=1)).layers[0]
    assert isinstance(layer, Coupling)
    keep, z = np.asarray(layer.keep), points(4)[0]
    out = np.asarray(layer.net(jnp.where(layer.keep, z, 0.0)), float)
    s, t = 2 * np.tanh(out[:4] / 2), out[4:]
    x, log_det = layer.forward(z)
    np.testing.assert_array_equal(x[keep], z[keep])
    np.testing.assert_allclose(x[~keep], (z * np.exp(s) + t)[~keep], rtol=1e-5)
    assert float(log_det) == pytest.approx(s[~keep].sum(), rel=1e-5)


@pytest.mark.parametrize("size", [2, 5])
def test_a_pair_of_couplings_moves_every_coordinate_once(size):
    couplings = RealNVP(size, key=key(), layers=6).layers[::2]
    halves = np.array([layer.keep for layer in couplings])
    np.testing.assert_array_equal(halves[::2], ~halves[1::2])
    assert np.all(halves[::2].sum(axis=1) == size // 2)
    if size > 2:
        assert len(np.unique(halves[::2], axis=0)) > 1  # not always the same half


@pytest.mark.parametrize(("size", "width", "depth"), [(2, 3, 1), (5, 16, 2), (5, 16, 3)])
def test_masked_mlp_sees_what_comes_before_and_nothing_else(size, width, depth):
    net = shaken(MaskedMLP(size, width, depth, key=key()))
    for half in (0, 1):
        jacobian = jax.jacrev(lambda x: net(x)[half])(points(size)[0])  # noqa: B023
        np.testing.assert_array_equal(jacobian != 0, np.tri(size, size, -1, bool))


@pytest.mark.parametrize("backwards", [False, True])
def test_autoregressive_jacobian_is_triangular(backwards):
    layer = Autoregressive(shaken(MaskedMLP(4, 12, 2, key=key())), backwards)
    for move in (layer.forward, layer.inverse):
        jacobian = np.asarray(jax.jacfwd(lambda point: move(point)[0])(points(4)[0]))  # noqa: B023
        lower = jacobian[::-1, ::-1] if backwards else jacobian
        np.testing.assert_array_equal(lower != 0, np.tri(4, dtype=bool))


def test_autoregressive_density_is_a_product_of_gaussian_conditionals():
    layer = Autoregressive(shaken(MaskedMLP(4, 12, 2, key=key())), backwards=False)
    x = points(4)[0]
    log_p = 0.0
    for i in range(4):  # mean and scale from the coordinates before i alone, the others unknown
        mu, a = layer.net(jnp.where(jnp.arange(4) < i, x, jnp.float32(77.0)))
        log_p += stats.norm.logpdf(x[i], mu[i], np.exp(2 * np.tanh(a[i] / 2)))
    assert float(Flow((layer,), 4).log_prob(x)) == pytest.approx(log_p, rel=1e-5)


# Training


@pytest.mark.parametrize("kind", [RealNVP, MAF])
def test_a_short_training_beats_a_gaussian_on_two_moons(kind):
    """From below the loss is held by the entropy of the moons, from above by the Gaussian with their moments."""
    moons = toys.two_moons()
    x = moons.sample(key(4), 4000)
    schedule = optax.cosine_decay_schedule(5e-3, 300)
    model = train.fit(
        kind(2, key=key(5), layers=4, width=32), moons.sample, key=key(6), steps=300, optimizer=optax.adam(schedule)
    ).model
    loss = -np.asarray(batched(model.log_prob, x), float)
    exact = -np.asarray(batched(moons.log_prob, x), float)
    gaussian = -stats.multivariate_normal(x.mean(axis=0), np.cov(x.T)).logpdf(x)
    assert loss.mean() < gaussian.mean() - 0.3
    assert np.mean(loss - exact) > -4 * stats.sem(loss - exact)


def test_maf_of_one_number_is_a_gaussian_and_learns_its_moments():
    model = MAF(1, key=key(), layers=1, width=4)
    x = 3.0 + 0.5 * jax.random.normal(key(7), (2000, 1))
    model = train.fit(
        model, x, key=key(8), steps=600, optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 600))
    ).model
    expected = stats.norm.logpdf(x[:20, 0], x.mean(), x.std())
    np.testing.assert_allclose(batched(model.log_prob, x[:20]), expected, atol=0.1)
