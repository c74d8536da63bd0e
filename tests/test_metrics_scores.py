"""Precision and recall, classifier test, nearest training point, scores: against independent code and their nulls.

The bounds are those of ``test_metrics``. The end of the file hands every metric what it must refuse.
"""

import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, spatial, stats
from sklearn.calibration import calibration_curve
from statistical import assert_mean, assert_variance, draw
from threadpoolctl import threadpool_limits

from genai_course import metrics


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny problems: on a busy machine the threads would wait for each other most of the time."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("whole", [False, True])  # whole numbers: many ties
def test_precision_recall_matches_brute_force(whole):
    rng = draw(16)
    real, fake = rng.normal(size=(60, 3)), 1 + rng.normal(size=(45, 3))
    if whole:
        real, fake = np.round(real), np.round(fake)

    def brute(points, centers, k):
        radii = np.sort(spatial.distance.cdist(centers, centers), axis=1)[:, k]  # column 0 is the point itself
        return np.mean([np.any(np.linalg.norm(p - centers, axis=1) <= radii) for p in points])

    got = metrics.precision_recall(real, fake, 4)
    assert got[:2] == (brute(fake, real, 4), brute(real, fake, 4))
    others = [brute(real[[i]], np.delete(real, i, axis=0), 4) for i in range(60)]  # each against all the others
    assert got.precision_null == pytest.approx(np.mean(others))
    assert metrics.precision_recall(real, real)[:2] == (1, 1)


def test_precision_recall_null_and_limits():
    rng = draw(17)
    line = [metrics.precision_recall(rng.uniform(size=(1000, 1)), rng.uniform(size=(1000, 1)), 1) for _ in range(40)]
    assert_mean([r.precision for r in line], 3 / 4)
    assert_mean([r.recall for r in line], 3 / 4)
    many = [metrics.precision_recall(rng.normal(size=(200, 8)), rng.normal(size=(200, 8))) for _ in range(60)]
    assert_mean([r.precision - r.precision_null for r in many], 0)
    assert_mean([r.recall - r.recall_null for r in many], 0)
    modes = np.array([[0.0, 0.0], [100.0, 0.0]])
    real, fake = (rng.normal(size=(1000, 2)) + modes[rng.integers(k, size=1000)] for k in (2, 1))
    got = metrics.precision_recall(real, fake)
    bound = 4 * math.sqrt(2 * 0.25 / 1000)  # a share of 1000 has a variance of at most ¼/1000
    assert abs(got.precision - got.precision_null) < bound
    assert abs(got.recall - got.recall_null / 2) < bound
    assert metrics.precision_recall(real, fake + 1000.0)[:2] == (0, 0)


def test_classifier_two_sample_null():
    rng, keys = draw(18), jax.random.split(jax.random.key(18), 200)
    tests = [metrics.classifier_two_sample_test(k, rng.normal(size=(80, 2)), rng.normal(size=(95, 2))) for k in keys]
    assert {t.n_test for t in tests} == {80}
    z = np.array([t.z for t in tests])
    np.testing.assert_allclose(z, [(t.accuracy - 0.5) / math.sqrt(1 / (4 * 80)) for t in tests], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(stats.norm.cdf(-z), [t.p_value for t in tests])
    assert_mean(z, 0)
    assert np.mean(z**2) < 1 + 4 * stats.sem(z**2)  # the variance is at most 1/(4 n_test) …
    assert np.mean(z**2) > 0.6  # … and not far below
    assert np.mean([t.p_value < 0.05 for t in tests]) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(tests))


@pytest.mark.parametrize("classifier", ["knn", "logistic", "mlp"])
def test_classifier_two_sample_power(classifier):
    rng, n = draw(19), 4000
    x, y = rng.normal(size=(n, 1)), 1 + rng.normal(size=(n, 1))
    test = metrics.classifier_two_sample_test(jax.random.key(19), x, y, classifier)
    best = 0.5 + metrics.total_variation_unit_gaussians(1.0) / 2
    error = math.sqrt(best * (1 - best) / test.n_test)
    assert best - 0.02 - 4 * error < test.accuracy < best + 4 * error
    assert metrics.classifier_two_sample_test(jax.random.key(20), x[:50], y[:50] + 20, classifier).accuracy == 1


def test_nearest_train_distance_and_its_null():
    rng = draw(21)
    train, samples, held_out = (rng.normal(size=(n, 3)) for n in (200, 50, 40))
    got = metrics.nearest_train_distance(samples, train, held_out)
    table = spatial.distance.cdist(samples, train)
    np.testing.assert_allclose(got.distance, table.min(1), rtol=1e-12)
    np.testing.assert_array_equal(got.index, table.argmin(1))
    reference = spatial.distance.cdist(held_out, train).min(1)
    np.testing.assert_allclose(got.reference, reference, rtol=1e-12)
    assert got.closer == pytest.approx(np.mean(table.min(1)[:, None] < reference))
    copies = metrics.nearest_train_distance(train[:30], train, held_out)
    assert np.all(copies.distance == 0)
    assert copies.closer == 1
    assert copies.p_value < 1e-6
    assert metrics.nearest_train_distance(samples + 50, train, held_out).closer == 0
    n, m = 60, 90
    null = [metrics.nearest_train_distance(*(rng.normal(size=(s, 2)) for s in (n, 100, m))) for _ in range(200)]
    assert_mean([r.closer for r in null], 0.5)
    assert_variance([r.closer for r in null], (n + m + 1) / (12 * n * m))
    assert stats.kstest([r.p_value for r in null], "uniform").pvalue > 1e-3


# Scores


def test_bits():
    assert metrics.bits_per_dimension(784 * math.log(256), 784) == pytest.approx(8)
    assert metrics.bits_per_dimension(0.0, 784, 1 / 256) == pytest.approx(8)  # the uniform density on [0, 1)
    assert metrics.bits_per_character(300 * math.log(27), 300) == pytest.approx(math.log2(27))
    assert metrics.perplexity(300 * math.log(27), 300) == pytest.approx(27)
    assert metrics.perplexity(1e6, 1) == math.inf


def test_a_dequantized_density_bounds_the_discrete_code_length():
    edges, law = np.arange(17) / 16, stats.norm(0.5, 0.1)
    masses = np.diff(law.cdf(edges))
    masses /= masses.sum()
    noisy = [integrate.quad(lambda x: -law.logpdf(x), a, b)[0] * 16 for a, b in itertools.pairwise(edges)]
    bound = metrics.bits_per_dimension(float(masses @ noisy), 1, 1 / 16)
    entropy = metrics.bits_per_dimension(float(-masses @ np.log(masses)), 1)
    assert entropy < bound < entropy + 0.1


def test_mean_se_and_its_null():
    rng = draw(25)
    values = rng.normal(size=9)
    assert metrics.mean_se(values) == pytest.approx((values.mean(), stats.sem(values)), rel=1e-12)
    t = [mean / se for mean, se in (metrics.mean_se(rng.normal(size=5)) for _ in range(1000))]
    assert stats.kstest(t, stats.t(4).cdf).pvalue > 1e-3


def draw_predictions(rng, n, classes=3):
    probabilities = rng.dirichlet(np.ones(classes), size=n)
    labels = np.argmax(rng.uniform(size=(n, 1)) < probabilities.cumsum(axis=1), axis=1)
    return probabilities, labels


def test_calibration_table_and_known_error():
    rng = draw(23)
    probabilities, labels = draw_predictions(rng, 2000)
    got = metrics.calibration(probabilities, labels, 8)
    top, hit = probabilities.max(1), probabilities.argmax(1) == labels
    accuracy, confidence = calibration_curve(hit, top, n_bins=8)
    full = got.count > 0
    np.testing.assert_allclose(got.accuracy[full], accuracy)
    np.testing.assert_allclose(got.confidence[full], confidence)
    assert got.error == pytest.approx(np.sum(got.count[full] / 2000 * np.abs(accuracy - confidence)))
    sure = np.tile([0.9, 0.1], (10, 1))  # says 0.9, is right 6 times of 10
    assert metrics.calibration(sure, np.arange(10) // 6).error == pytest.approx(0.3)
    assert metrics.calibration(np.eye(3), np.arange(3)).error == 0


def test_calibration_null():
    rng = draw(24)
    tests = [metrics.calibration(*draw_predictions(rng, 1000)) for _ in range(300)]
    assert_mean([t.error - t.null_mean for t in tests], 0)
    z = [(t.error - t.null_mean) / t.null_sd for t in tests]
    assert_variance(z, 1)


# Bad arguments

KEY, OK, BAD_NAN = jax.random.key(0), np.arange(12.0).reshape(6, 2), np.full((6, 2), np.nan)
INFINITE = np.full((6, 2), math.inf)
HALVES = np.full((4, 2), 0.5)
MOMENTS = (np.zeros(2), np.eye(2), np.zeros(2), np.eye(2))
TWO_SAMPLE = {
    metrics.frechet_distance: (),
    metrics.median_bandwidth: (),
    metrics.mmd: (),
    metrics.kid: (),
    metrics.mmd_permutation_test: (KEY,),
    metrics.sliced_wasserstein: (KEY,),
    metrics.classifier_two_sample_test: (KEY,),
}


@pytest.mark.parametrize("function", TWO_SAMPLE, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "bad", [BAD_NAN, INFINITE, OK[:1], OK[:0], OK[:, :0], OK[0], OK[None], OK * 1e200, OK + 1j, "text", None]
)
def test_bad_samples_are_named(function, bad):
    for position, name in enumerate(("x", "y")):
        both = [OK, OK]
        both[position] = bad
        with pytest.raises((ValueError, TypeError), match=f"^{'[xy]' if np.shape(bad) == (6, 0) else name} must"):
            inspect.unwrap(function)(*TWO_SAMPLE[function], *both)


BAD = [
    ("y", metrics.mmd, (OK, OK[:, :1])),
    ("bandwidth", metrics.mmd, (OK, OK, 0.0)),
    ("bandwidth", metrics.mmd, (OK, OK, ())),
    ("bandwidth", metrics.mmd, (OK, OK, (1.0, -1.0))),
    ("bandwidth", metrics.mmd, (OK, OK, "wide")),
    ("bandwidth", metrics.mmd, (OK, OK, math.inf)),
    ("x and y", metrics.mmd, (0 * OK, 0 * OK)),
    ("n_permutations", metrics.mmd_permutation_test, (KEY, OK, OK, 1.0, 0)),
    ("key", metrics.mmd_permutation_test, (0, OK, OK)),
    ("key", metrics.sliced_wasserstein, (jax.random.split(KEY), OK, OK)),
    ("n_projections", metrics.sliced_wasserstein, (KEY, OK, OK, 2.5)),
    ("classifier", metrics.classifier_two_sample_test, (KEY, OK, OK, "forest")),
    ("x", metrics.wasserstein_1d, (OK, OK[:, 0])),
    ("y", metrics.wasserstein_1d, (OK[:, 0], OK[:0, 0])),
    ("k", metrics.precision_recall, (OK, OK, 0)),
    ("fake", metrics.precision_recall, (OK, OK[:3])),
    ("real", metrics.precision_recall, (BAD_NAN, OK)),
    ("samples", metrics.nearest_train_distance, (OK[:0], OK, OK)),
    ("train", metrics.nearest_train_distance, (OK, OK[:, :1], OK)),
    ("held_out", metrics.nearest_train_distance, (OK, OK, BAD_NAN)),
    ("mean_0", metrics.kl_gaussians, (np.zeros(3), *MOMENTS[1:])),
    ("cov_0", metrics.kl_gaussians, (MOMENTS[0], np.zeros((2, 2)), *MOMENTS[2:])),
    ("cov_0", metrics.kl_gaussians, (MOMENTS[0], np.ones((2, 3)), *MOMENTS[2:])),
    ("cov_1", metrics.kl_gaussians, (*MOMENTS[:3], np.array([[1.0, 0.5], [0.0, 1.0]]))),
    ("cov_1", metrics.wasserstein2_gaussians, (*MOMENTS[:3], np.diag([1.0, -1.0]))),
    ("cov_1", metrics.wasserstein2_gaussians, (*MOMENTS[:3], np.eye(3))),
    ("cov", metrics.sqrt_psd, (-np.eye(2),)),
    ("cov", metrics.frechet_bias, (np.eye(0), 10)),
    ("n", metrics.frechet_bias, (np.eye(2), 1)),
    ("m", metrics.frechet_bias, (np.eye(2), 10, True)),
    ("mu", metrics.kl_diagonal_to_standard, (OK, OK)),
    ("log_var", metrics.kl_diagonal_to_standard, (jnp.zeros(2), jnp.zeros(3))),
    ("shift", metrics.total_variation_unit_gaussians, (-1.0,)),
    ("shift", metrics.jensen_shannon_unit_gaussians, (math.nan,)),
    ("nats", metrics.bits_per_dimension, (math.nan, 2)),
    ("dims", metrics.bits_per_dimension, (1.0, 0)),
    ("bin_width", metrics.bits_per_dimension, (1.0, 2, 0.0)),
    ("characters", metrics.bits_per_character, (1.0, 2.0)),
    ("tokens", metrics.perplexity, (1.0, 0)),
    ("values", metrics.mean_se, (np.zeros(1),)),
    ("values", metrics.mean_se, (OK,)),
    ("probabilities", metrics.calibration, (2 * HALVES, np.zeros(4, int))),
    ("probabilities", metrics.calibration, (HALVES[:, :1], np.zeros(4, int))),
    ("labels", metrics.calibration, (HALVES, np.zeros(4))),
    ("labels", metrics.calibration, (HALVES, np.full(4, 2))),
    ("labels", metrics.calibration, (HALVES, np.zeros(3, int))),
    ("bins", metrics.calibration, (HALVES, np.zeros(4, int), 0)),
]


@pytest.mark.parametrize(("name", "function", "arguments"), BAD, ids=[f"{f.__name__}-{n}" for n, f, _ in BAD])
def test_bad_arguments_are_named(name, function, arguments):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
        inspect.unwrap(function)(*arguments)


def test_every_public_name_is_documented_with_its_null():
    for name in metrics.__all__:
        item = getattr(metrics, name)
        if inspect.isfunction(item) and name not in ("sqrt_psd", "median_bandwidth", "frechet_bias"):
            assert "Null:" in item.__doc__, name
