"""Toy densities against SciPy, scikit-learn, closed forms, and their own samples."""

import inspect
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.datasets import make_moons

from genai_course.data import toys

PLANE = {
    "moons": toys.two_moons,
    "spirals": toys.spirals,
    "pinwheel": toys.pinwheel,
    "checkerboard": toys.checkerboard,
    "ring": toys.ring,
    "grid": lambda: toys.grid(side=3, scale=0.2),
    "linear": lambda: toys.linear_gaussian([[0.7], [-0.5]], 0.3, [0.2, -0.1]),
}
SMOOTH = [name for name in PLANE if name != "checkerboard"]


def density_on(density, x):
    return np.exp(np.asarray(jax.lax.map(density.log_prob, jnp.asarray(x, float), batch_size=2048), float))


@eqx.filter_jit
def sample(density, key, n):
    return density.sample(key, n)


def draw(density, seed, n):
    return sample(density, jax.random.key(seed), n)


@eqx.filter_jit
def score(density, points):
    return jax.vmap(jax.grad(density.log_prob))(points)


@eqx.filter_jit
def log_prob(density, points):
    return jax.lax.map(density.log_prob, points, batch_size=2048)


def masses(density, bins=40, sub=8, width=4.0):
    """Probability of each of bins x bins cells of [-width, width]^2, by the midpoint rule."""
    line = -width + 2 * width / (bins * sub) * (np.arange(bins * sub) + 0.5)
    x = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    p = np.exp(np.asarray(log_prob(density, jnp.asarray(x, float)), float))
    return (p * (line[1] - line[0]) ** 2).reshape(bins, sub, bins, sub).sum((1, 3)).ravel()


def chi_square_p(mass, samples, bins=40, width=4.0):
    """p-value of Pearson's test of ``samples`` against cells of probability ``mass``, the rare ones taken together."""
    observed = np.histogram2d(*np.asarray(samples).T, bins=bins, range=[[-width, width]] * 2)[0].ravel()
    full = mass * len(samples) >= 10
    observed = np.append(observed[full], len(samples) - observed[full].sum())
    expected = np.append(mass[full], max(1 - mass[full].sum(), 1e-9)) * len(samples)
    return stats.chi2.sf(np.sum((observed - expected) ** 2 / expected), len(expected) - 1)


@pytest.mark.parametrize("name", PLANE)
def test_density_integrates_to_one_and_is_that_of_the_samples(name):
    density = PLANE[name]()
    mass = masses(density)
    assert mass.sum() == pytest.approx(1, abs=1e-4)
    samples = draw(density, 1, 50_000)
    assert samples.shape == (50_000, 2)
    assert chi_square_p(mass, samples) > 1e-4
    assert chi_square_p(mass, samples * 1.03) < 1e-8, "the test cannot see a 3 % change of scale"


def test_moons_follow_scikit_learn():
    points, _ = make_moons(50_000, noise=0.08, random_state=0)
    points -= [0.5, 0.25]
    assert chi_square_p(masses(toys.two_moons(0.08)), points) > 1e-4
    assert chi_square_p(masses(toys.two_moons(0.09)), points) < 1e-8


@pytest.mark.parametrize("noise", [0.02, 0.08, 0.5])
@pytest.mark.parametrize("name", ["two_moons", "spirals"])
def test_quadrature_against_scipy(name, noise):
    def curve(t):
        if name == "two_moons":
            return np.array([np.cos(np.pi * t) - 0.5, np.sin(np.pi * t) - 0.25])
        return 3 * np.pi * t / 3.2 * np.array([np.cos(3 * np.pi * t), np.sin(3 * np.pi * t)])

    def integrand(t, x, sign):
        weight = 1 if name == "two_moons" else 2 * t
        distance = np.sum((x - sign * curve(t)) ** 2)
        return weight / 2 * np.exp(-0.5 * distance / noise**2) / (2 * np.pi * noise**2)

    with jax.enable_x64(True):
        density = getattr(toys, name)(noise)
        ends = np.array([curve(0.0), curve(1.0)])
        near = np.asarray(draw(density, 2, 6))
        pieces = np.linspace(0, 1, 151)[1:-1]  # so that no narrow peak is overlooked
        points = np.concatenate([ends, near, ends + 3 * noise])
        for x, log_p in zip(points, log_prob(density, jnp.asarray(points))):
            parts = [integrate.quad(integrand, 0, 1, (x, s), points=pieces, limit=900, epsrel=1e-10) for s in (1, -1)]
            exact = sum(value for value, _ in parts)
            assert math.exp(log_p) == pytest.approx(exact, rel=1e-6)


def test_mixture_against_scipy():
    rng = np.random.default_rng(0)
    means, scales, weights = rng.normal(size=(4, 3)), rng.uniform(0.3, 1, 4), np.array([0.1, 0.2, 0.3, 0.4])
    density = toys.mixture(means, scales, weights)
    points = rng.normal(size=(20, 3))
    for x, log_p in zip(points, log_prob(density, jnp.asarray(points, float))):
        joint = [w * stats.multivariate_normal(m, s**2).pdf(x) for m, s, w in zip(means, scales, weights)]
        assert float(log_p) == pytest.approx(math.log(sum(joint)), abs=1e-4)
        np.testing.assert_allclose(density.responsibilities(jnp.asarray(x)), joint / np.sum(joint), atol=1e-5)


def test_mixture_on_the_line():
    means, scales, weights = [-2.0, 0.5, 3.0], [0.5, 1.0, 0.2], [0.5, 0.3, 0.2]
    density = toys.mixture_1d(means, scales, weights)
    samples = draw(density, 3, 20_000)
    assert samples.shape == (20_000, 1)
    law = stats.norm(np.array(means), np.array(scales))
    assert stats.kstest(np.asarray(samples)[:, 0], lambda x: law.cdf(x[:, None]) @ weights).pvalue > 1e-3
    x = np.linspace(-8, 8, 4001)
    p = law.pdf(x[:, None]) @ weights
    np.testing.assert_allclose(np.exp(log_prob(density, jnp.asarray(x, float)[:, None])), p, atol=1e-5)
    assert toys.entropy(density, -8.0, 8.0) == pytest.approx(integrate.simpson(-p * np.log(p), x=x), abs=1e-5)


def test_linear_gaussian_against_scipy_and_bayes():
    rng = np.random.default_rng(1)
    loadings, mean, sigma = rng.normal(size=(5, 2)), rng.normal(size=5), 0.7
    density = toys.linear_gaussian(loadings, sigma, mean)
    covariance = loadings @ loadings.T + sigma**2 * np.eye(5)
    joint = np.block([[np.eye(2), loadings.T], [loadings, covariance]])  # of (z, x)
    z, x = density.sample_joint(jax.random.key(4), 40_000)
    drawn = np.cov(np.concatenate([z, x], axis=1).T)
    spread = np.sqrt((np.outer(np.diag(joint), np.diag(joint)) + joint**2) / len(z))  # standard error of a covariance
    assert np.abs((drawn - joint) / spread).max() < 4.5
    for point in np.asarray(x[:3], float):
        exact = stats.multivariate_normal(mean, covariance).logpdf(point)
        assert float(density.log_prob(jnp.asarray(point))) == pytest.approx(exact, abs=1e-3)
        center, spread = density.posterior(jnp.asarray(point))
        gain = loadings.T @ np.linalg.inv(covariance)
        np.testing.assert_allclose(center, gain @ (point - mean), atol=1e-4)
        np.testing.assert_allclose(spread, np.eye(2) - gain @ loadings, atol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_score_is_the_gradient(name):
    with jax.enable_x64(True):
        density, step = PLANE[name](), 1e-5
        points = jnp.concatenate([draw(density, 5, 20), jnp.array([[0.0, 0.0], [0.0, 3.0]])])
        exact = score(density, points)
        for axis in jnp.eye(2):
            ahead, behind = (log_prob(density, points + sign * step * axis) for sign in (1, -1))
            slope = (ahead - behind) / (2 * step)
            np.testing.assert_allclose(exact @ axis, slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PLANE)
def test_score_is_finite_everywhere(name):
    far = jnp.array([[0.0, 0.0], [1e-20, 0.0], [40.0, -30.0], [0.0, -100.0], [1.5, 1.5]])
    assert jnp.isfinite(score(PLANE[name](), far)).all()


def test_entropy_against_closed_forms():
    one = math.log(2 * math.pi * math.e)
    assert toys.entropy(toys.checkerboard()) == pytest.approx(math.log(8), abs=1e-6)
    assert toys.entropy(toys.ring(scale=0.1)) == pytest.approx(math.log(8) + one + 2 * math.log(0.1), abs=1e-4)
    assert toys.entropy(toys.pinwheel(arms=1)) == pytest.approx(one + math.log(0.4 * 0.1), abs=1e-3)
    for low, high, points in [(-1.0, 1.0, 400), (-4.0, 4.0, 20)]:  # too small a window, too coarse a grid
        with pytest.raises(ValueError, match="mass of 1"):
            toys.entropy(toys.ring(scale=0.1), low, high, points)


def test_modes_covered_counts():
    density = toys.ring(modes=8, scale=0.05)
    good = draw(density, 6, 2500)
    full = density.modes_covered(good)
    assert full.modes == 8
    assert full.shares.sum() == pytest.approx(1)
    assert full.high_quality == pytest.approx(1 - math.exp(-8), abs=2e-3)  # P(chi-square with 2 degrees <= 16)
    assert density.modes_covered(good, within=1.0).high_quality == pytest.approx(1 - math.exp(-0.5), abs=0.03)
    lost = good[np.asarray(good)[:, 0] < 1.8]  # without the mode at (2, 0)
    assert density.modes_covered(lost).modes == 7
    assert density.modes_covered(lost).shares[0] == 0
    assert density.modes_covered(jnp.zeros((10, 2)))[:2] == (0, 0.0)
    few = jnp.concatenate([jnp.tile(density.means[:1], (990, 1)), jnp.tile(density.means[1:2], (10, 1))])
    assert density.modes_covered(few).modes == 1  # 10 of 1000 is under a tenth of 1/8
    assert density.modes_covered(few, share=0.05).modes == 2
    uneven = toys.mixture_1d([0.0, 10.0], [1.0, 1.0], [0.99, 0.01])
    assert uneven.modes_covered(jnp.array([[0.0]] * 998 + [[10.0]] * 2)).modes == 2


def test_same_key_same_points():
    for name, make in PLANE.items():
        a, b, c = (draw(make(), seed, 7) for seed in (0, 0, 1))
        assert a.dtype == jnp.float32
        assert (a == b).all(), name
        assert not (a == c).any(), name


NAN = float("nan")
BAD = [
    (toys.two_moons, (0.0,), "noise"), (toys.two_moons, (NAN,), "noise"), (toys.spirals, ("a",), "noise"),
    (toys.ring, (0,), "modes"), (toys.ring, (8.0,), "modes"), (toys.ring, (8, -1.0), "radius"),
    (toys.ring, (8, 1.0, 0.0), "scale"), (toys.grid, (True,), "side"), (toys.grid, (2, math.inf), "spacing"),
    (toys.pinwheel, (0,), "arms"), (toys.pinwheel, (5, 1.0, (0.1,)), "scales"), (toys.pinwheel, (5, 0.0), "radius"),
    (toys.pinwheel, (5, 1.0, (0.1, 0.0)), "scales"), (toys.pinwheel, (5, 1.0, (0.1, 0.1), NAN), "twist"),
    (toys.mixture, ([1.0, 2.0], [1.0, 1.0]), "means"), (toys.mixture, (np.zeros((0, 2)), []), "means"),
    (toys.mixture, ([[1.0]], [1.0, 1.0]), "scales"), (toys.mixture, ([[1.0]], [-1.0]), "scales"),
    (toys.mixture, ([[1.0], [2.0]], [1.0, 1.0], [0.5, 0.6]), "weights"), (toys.mixture, ([["a"]], [1.0]), "means"),
    (toys.mixture, ([[1.0], [2.0]], [1.0, 1.0], [1.0, 0.0]), "weights"), (toys.mixture, ([[NAN]], [1.0]), "means"),
    (toys.mixture_1d, ([[1.0]], [1.0]), "means"), (toys.mixture_1d, ([], []), "means"),
    (toys.linear_gaussian, ([1.0], 1.0), "loadings"), (toys.linear_gaussian, ([[1.0]], 0.0), "noise_scale"),
    (toys.linear_gaussian, ([[1.0]], 1.0, [1.0, 2.0]), "mean"), (toys.linear_gaussian, ([[]], 1.0), "loadings"),
    (toys.entropy, (toys.ring(), NAN), "low"), (toys.entropy, (toys.ring(), 1.0, 0.0), "high"),
    (toys.entropy, (toys.ring(), -4.0, 4.0, 0), "points"),
    (toys.entropy, (toys.linear_gaussian(np.ones((3, 1)), 1.0),), "density"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "name"), BAD)
def test_bad_arguments_are_named(function, arguments, name):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}\b"):
        inspect.unwrap(function)(*arguments)


@pytest.mark.parametrize("name", PLANE)
def test_bad_points_and_keys_are_named(name):
    density = PLANE[name]()
    sample, log_prob = (inspect.unwrap(getattr(type(density), verb)) for verb in ("sample", "log_prob"))
    for key, n, word in [(0, 1, "key"), (jax.random.key(0), 0, "n"), (jax.random.key(0), 1.5, "n")]:
        with pytest.raises((ValueError, TypeError), match=rf"^{word}\b"):
            sample(density, key, n)
    for x in [jnp.zeros(3), jnp.zeros((2, 2)), jnp.array([NAN, 0.0]), "point", jnp.zeros(())]:
        with pytest.raises((ValueError, TypeError), match=r"^x\b"):
            log_prob(density, x)


def test_bad_coverage_arguments_are_named():
    covered, density = inspect.unwrap(toys.Mixture.modes_covered), toys.ring()
    for arguments, word in [((jnp.zeros((0, 2)),), "samples"), ((jnp.zeros((3, 3)),), "samples"),
                            ((jnp.full((3, 2), NAN),), "samples"), ((jnp.zeros((3, 2)), 0.0), "within"),
                            ((jnp.zeros((3, 2)), 1.0, 2.0), "share")]:  # fmt: skip
        with pytest.raises(ValueError, match=rf"^{word}\b"):
            covered(density, *arguments)
