"""Every metric against closed forms and independent code, and every stated null against simulation.

Keys are fixed, so nothing here is flaky. Statistical bounds are 4 standard errors (alpha 6e-5 two-sided) or p > 1e-3
of a goodness-of-fit test: a correct function would fail a fresh key about that often, a wrong one nearly always.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, linalg, spatial, stats
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from statistical import assert_mean, assert_variance, draw
from threadpoolctl import threadpool_limits

from genai_course import metrics


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny problems: on a busy machine the threads would wait for each other most of the time."""
    with threadpool_limits(1):
        yield


def random_cov(rng: np.random.Generator, d: int, rank: int | None = None) -> np.ndarray:
    factor = rng.normal(size=(d, rank or d + 2))
    return factor @ factor.T


# Closed forms


@pytest.mark.parametrize("d", [1, 2, 5])
def test_kl_gaussians_is_the_mean_log_ratio(d):
    rng = draw(d)
    mean_0, mean_1, cov_0, cov_1 = rng.normal(size=d), rng.normal(size=d), random_cov(rng, d), random_cov(rng, d)
    p, q = stats.multivariate_normal(mean_0, cov_0), stats.multivariate_normal(mean_1, cov_1)
    steps = math.sqrt(d) * np.linalg.cholesky(cov_0).T
    points = np.concatenate([mean_0 + steps, mean_0 - steps])  # their average is exact for quadratic functions
    expected = np.mean(p.logpdf(points) - q.logpdf(points))
    assert metrics.kl_gaussians(mean_0, cov_0, mean_1, cov_1) == pytest.approx(expected, rel=1e-9)
    assert metrics.kl_gaussians(mean_0, cov_0, mean_0, cov_0) == pytest.approx(0, abs=1e-12)


def test_kl_diagonal_to_standard_and_its_gradient():
    mu, log_var = jnp.array([[0.3, -1.2, 0.0], [2.0, 0.1, -0.4]]), jnp.array([[0.2, -0.7, 0.0], [1.0, -3.0, 0.5]])
    values = jax.jit(jax.vmap(metrics.kl_diagonal_to_standard))(mu, log_var)
    for value, m, v in zip(values, np.asarray(mu), np.asarray(log_var)):
        assert float(value) == pytest.approx(metrics.kl_gaussians(m, np.diag(np.exp(v)), 0 * m, np.eye(3)), rel=1e-5)
    grads = jax.vmap(jax.grad(metrics.kl_diagonal_to_standard, argnums=(0, 1)))(mu, log_var)
    np.testing.assert_allclose(grads[0], mu, rtol=1e-6)
    np.testing.assert_allclose(grads[1], (jnp.exp(log_var) - 1) / 2, rtol=1e-5, atol=1e-7)
    assert metrics.kl_diagonal_to_standard(jnp.zeros(4), jnp.zeros(4)) == 0


def test_sqrt_psd_matches_scipy_and_squares_back():
    cov = random_cov(draw(3), 6)
    np.testing.assert_allclose(metrics.sqrt_psd(cov), linalg.sqrtm(cov), atol=1e-9)
    singular = random_cov(draw(4), 6, rank=2)
    root = metrics.sqrt_psd(singular)
    np.testing.assert_allclose(root @ root, singular, atol=1e-12)


def test_wasserstein2_gaussians():
    rng = draw(5)
    a, b, gap = random_cov(rng, 4), random_cov(rng, 4), rng.normal(size=4)
    root = linalg.sqrtm(a)
    expected = gap @ gap + np.trace(a + b - 2 * linalg.sqrtm(root @ b @ root)).real
    assert metrics.wasserstein2_gaussians(gap, a, 0 * gap, b) ** 2 == pytest.approx(expected, rel=1e-9)
    assert metrics.wasserstein2_gaussians(gap, a, gap, a) < 1e-6
    s, t = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 0.7])  # commuting and singular: |s − t|
    got = metrics.wasserstein2_gaussians(np.zeros(3), np.diag(s**2), np.zeros(3), np.diag(t**2))
    assert got == pytest.approx(np.linalg.norm(s - t), rel=1e-9)
    quantile_cost, _ = integrate.quad(lambda u: (stats.norm.ppf(u, 1, 2) - stats.norm.ppf(u, -0.5, 0.7)) ** 2, 0, 1)
    got = metrics.wasserstein2_gaussians(np.array([1.0]), np.array([[4.0]]), np.array([-0.5]), np.array([[0.49]]))
    assert got**2 == pytest.approx(quantile_cost, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 4.0])
def test_divergences_of_unit_gaussians_match_their_definitions(shift):
    p, q = stats.norm(0).pdf, stats.norm(shift).pdf
    limits = {"a": -12, "b": 12 + shift, "points": [shift / 2]}
    tv = integrate.quad(lambda x: abs(p(x) - q(x)) / 2, **limits)[0]
    js = integrate.quad(
        lambda x: (p(x) * np.log(2 * p(x) / (p(x) + q(x))) + q(x) * np.log(2 * q(x) / (p(x) + q(x)))) / 2, **limits
    )[0]
    assert metrics.total_variation_unit_gaussians(shift) == pytest.approx(tv, abs=1e-8)
    assert metrics.jensen_shannon_unit_gaussians(shift) == pytest.approx(js, abs=1e-8)
    assert metrics.jensen_shannon_unit_gaussians(1000.0) == pytest.approx(math.log(2), rel=1e-12)


# Fréchet


@pytest.mark.parametrize(("n", "m", "d"), [(50, 70, 4), (6, 9, 20), (2, 3, 1)])
def test_frechet_distance_is_w2_of_the_moments(n, m, d):
    rng = draw(n)
    x, y = rng.normal(size=(n, d)), 1 + 2 * rng.normal(size=(m, d)) @ rng.normal(size=(d, d))
    moments = [f(s) for s in (x, y) for f in (lambda s: s.mean(0), lambda s: np.cov(s.T).reshape(d, d))]
    assert metrics.frechet_distance(x, y) == pytest.approx(metrics.wasserstein2_gaussians(*moments) ** 2, rel=1e-7)
    scaled = (3 - 1) ** 2 * (np.sum(x.mean(0) ** 2) + np.trace(moments[1]))  # y = 3x
    assert metrics.frechet_distance(x, 3 * x) == pytest.approx(scaled, rel=1e-10)
    assert metrics.frechet_distance(jnp.asarray(x), jnp.asarray(x)) < 1e-10
    if n > d:
        root = linalg.sqrtm(moments[1])
        cross = 2 * np.trace(linalg.sqrtm(root @ moments[3] @ root)).real
        expected = np.sum((moments[0] - moments[2]) ** 2) + np.trace(moments[1] + moments[3]) - cross
        assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)


def test_frechet_null_has_the_stated_mean_and_law():
    rng, n, m = draw(7), 400, 600
    lam = np.array([3.0, 1.0, 0.3, 0.1])
    rotation = stats.ortho_group.rvs(4, random_state=rng)
    cov = rotation @ np.diag(lam) @ rotation.T
    root = metrics.sqrt_psd(cov)
    values = [
        metrics.frechet_distance(rng.normal(size=(n, 4)) @ root, rng.normal(size=(m, 4)) @ root) for _ in range(400)
    ]
    assert_mean(values, metrics.frechet_bias(cov, n, m))
    i, j = np.triu_indices(4, 1)
    weights = np.concatenate([lam, lam / 2, lam[i] * lam[j] / (lam[i] + lam[j])])
    law = rng.chisquare(1, size=(20000, len(weights))) @ weights
    assert stats.ks_2samp(np.array(values) * n * m / (n + m), law).pvalue > 1e-3
    assert weights.sum() * (1 / n + 1 / m) == pytest.approx(metrics.frechet_bias(cov, n, m), rel=1e-12)


def test_frechet_bias_against_exact_moments():
    d, n = 32, 2000
    assert metrics.frechet_bias(np.eye(d), n) == pytest.approx(d / n + d * (d + 1) / (4 * n), rel=1e-12)
    assert metrics.frechet_bias(np.zeros((2, 2)), n) == 0
    rng = draw(8)
    samples = (rng.normal(size=(n, d)) for _ in range(40))
    values = [metrics.wasserstein2_gaussians(np.zeros(d), np.eye(d), s.mean(0), np.cov(s.T)) ** 2 for s in samples]
    assert_mean(values, metrics.frechet_bias(np.eye(d), n))


# Wasserstein of samples


def test_wasserstein_1d_is_the_area_between_the_step_functions():
    rng = draw(9)
    x, y = rng.normal(size=50), 1 + rng.normal(size=80)
    grid = np.sort(np.concatenate([x, y]))
    steps = [np.searchsorted(np.sort(s), grid[:-1], side="right") / len(s) for s in (x, y)]
    area = np.sum(np.abs(steps[0] - steps[1]) * np.diff(grid))
    assert metrics.wasserstein_1d(x, y) == pytest.approx(area, rel=1e-12)
    assert metrics.wasserstein_1d(x, y[:50]) == pytest.approx(np.mean(np.abs(np.sort(x) - np.sort(y[:50]))), rel=1e-12)
    assert metrics.wasserstein_1d(x, x + 0.7) == pytest.approx(0.7, rel=1e-12)


def test_wasserstein_1d_null():
    rng, n, m = draw(10), 300, 500
    values = [metrics.wasserstein_1d(rng.uniform(size=n), rng.uniform(size=m)) for _ in range(400)]
    bound = math.sqrt(1 / n + 1 / m) * math.pi / 8  # ∫ √(u(1−u)) du = π/8
    assert_mean(values, math.sqrt(2 / math.pi) * bound)
    assert np.mean(values) < bound


def test_sliced_wasserstein_of_a_shift_and_its_null():
    rng, d, projections = draw(11), 5, 2000
    x, delta = rng.normal(size=(30, d)), np.array([1.0, -2.0, 0.5, 0.0, 1.0])
    size = np.linalg.norm(delta)
    mean = size * math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    got = metrics.sliced_wasserstein(jax.random.key(0), x, x + delta, projections)
    assert abs(got - mean) < 4 * math.sqrt((size**2 / d - mean**2) / projections)
    keys, n, m = jax.random.split(jax.random.key(1), 40), 200, 300
    values = [metrics.sliced_wasserstein(k, rng.normal(size=(n, d)), rng.normal(size=(m, d)), 20) for k in keys]
    integral, _ = integrate.quad(lambda t: math.sqrt(stats.norm.cdf(t) * stats.norm.sf(t)), -12, 12)
    assert_mean(values, math.sqrt(2 / math.pi * (1 / n + 1 / m)) * integral)


# Kernels


def unbiased(k_xx, k_yy, k_xy):
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (k_xx, k_yy)]
    return off[0] + off[1] - 2 * k_xy.mean()


def test_mmd_and_kid_match_scikit_learn_across_blocks():
    rng = draw(12)
    x, y = rng.normal(size=(1500, 3)), 0.2 + rng.normal(size=(1100, 3))
    pairs = [(x, x), (y, y), (x, y)]
    by_width = [unbiased(*(rbf_kernel(a, b, gamma=1 / (2 * h**2)) for a, b in pairs)) for h in (0.5, 2.0)]
    assert metrics.mmd(x, y, 2.0) == pytest.approx(by_width[1], rel=1e-9)
    assert metrics.mmd(1e6 + x, 1e6 + y, 2.0) == pytest.approx(by_width[1], rel=1e-6)
    assert metrics.mmd(x, y, (0.5, 2.0)) == pytest.approx(np.mean(by_width), rel=1e-9)
    median = np.median(spatial.distance.pdist(np.concatenate([x, y])))
    assert metrics.median_bandwidth(x, y) == pytest.approx(median, rel=1e-9)
    assert metrics.mmd(x, y) == pytest.approx(metrics.mmd(x, y, median), rel=1e-9)
    assert metrics.kid(x, y) == pytest.approx(
        unbiased(*(polynomial_kernel(a, b, degree=3) for a, b in pairs)), rel=1e-9
    )


def test_mmd_mean_and_variance_match_the_closed_form():
    rng, n, m, d, h, shift = draw(13), 30, 50, 3, 1.5, 0.8
    mean_k = (h**2 / (h**2 + 2)) ** (d / 2)  # all for N(0, I)
    mean_k2 = (h**2 / (h**2 + 4)) ** (d / 2)
    mean_mu2 = (h**2 / (h**2 + 1)) ** d * ((h**2 + 1) / (h**2 + 3)) ** (d / 2)
    centered2 = mean_k2 - 2 * mean_mu2 + mean_k**2
    samples = [(rng.normal(size=(n, d)), rng.normal(size=(m, d))) for _ in range(400)]
    values = [metrics.mmd(x, y, h) for x, y in samples]
    assert_mean(values, 0)
    assert_variance(values, (2 / (n * (n - 1)) + 2 / (m * (m - 1)) + 4 / (n * m)) * centered2)
    assert_mean([metrics.mmd(x, y) for x, y in samples[:100]], 0)  # the median bandwidth keeps the mean at 0
    shifted = [metrics.mmd(x, y + np.array([shift, 0, 0]), h) for x, y in samples[:100]]
    assert_mean(shifted, 2 * mean_k * (1 - math.exp(-(shift**2) / (2 * (h**2 + 2)))))


def test_mmd_permutation_test_is_uniform_under_the_null_and_sees_a_shift():
    rng, keys = draw(14), jax.random.split(jax.random.key(14), 201)
    tests = [
        metrics.mmd_permutation_test(k, rng.normal(size=(12, 2)), rng.normal(size=(20, 2)), 1.0, 99) for k in keys[:200]
    ]
    ranks = np.rint([100 * t.p_value for t in tests]).astype(int)  # uniform on 1..100, exactly
    assert stats.chisquare(np.bincount((ranks - 1) // 10, minlength=10)).pvalue > 1e-3
    x, y = rng.normal(size=(60, 2)), 1 + rng.normal(size=(50, 2))
    test = metrics.mmd_permutation_test(keys[200], x, y, n_permutations=200)
    assert test.value == pytest.approx(metrics.mmd(x, y), rel=1e-9)
    assert test.p_value == 1 / 201
    assert test.null.shape == (200,)
    assert_mean(test.null, 0)


def test_kid_is_unbiased():
    rng, shift = draw(15), 0.7
    samples = [(rng.normal(size=(40, 1)), rng.normal(size=(30, 1))) for _ in range(500)]
    assert_mean([metrics.kid(x, y) for x, y in samples], 0)
    gaps = [shift, shift**2, shift**3 + 3 * shift]  # of E x, E x², E x³
    assert_mean([metrics.kid(x, y + shift) for x, y in samples], 3 * gaps[0] ** 2 + 3 * gaps[1] ** 2 + gaps[2] ** 2)
