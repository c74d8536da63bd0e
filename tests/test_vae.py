"""The VAE's bounds against models whose likelihood is known: probabilistic PCA, quadrature, enumeration."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from genai_course import nets
from genai_course.data import rng_from_key
from genai_course.models.vae import VAE


class Affine(eqx.Module):
    """x ↦ W x + b, reshaped."""

    weight: jax.Array
    bias: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x):
        return (self.weight @ x.ravel() + self.bias).reshape(self.shape)


def affine(weight, bias, shape=None) -> Affine:
    shape = np.shape(bias) if shape is None else shape
    return Affine(jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32).ravel(), shape)


class LinearGaussian:
    """Probabilistic PCA (Tipping and Bishop, 1999): x = W z + b + scale · noise, in float64.

    W has orthogonal columns, so that the posterior N(M⁻¹ Wᵀ(x − b), scale² M⁻¹), M = WᵀW + scale² I, has a diagonal
    covariance, as the encoder of a VAE needs.
    """

    scale = 0.7

    def __init__(self, data: int = 5, latent: int = 2):
        rng = rng_from_key(jax.random.key(0))
        self.w = np.linalg.qr(rng.normal(size=(data, latent)))[0] * np.array([1.5, 0.6])[:latent]
        self.b = rng.normal(size=data)
        self.x = rng.normal(size=data) * 1.3
        self.m = np.sum(self.w**2, axis=0) + self.scale**2
        self.posterior_map = self.w.T / self.m[:, None]
        self.posterior_var = self.scale**2 / self.m
        self.marginal = stats.multivariate_normal(self.b, self.w @ self.w.T + self.scale**2 * np.eye(data))

    def vae(self, *, exact: bool, beta: float = 1.0) -> VAE:
        """A VAE with this decoder and the exact posterior as its encoder, or another one."""
        if exact:
            encode, var = self.posterior_map, self.posterior_var
        else:
            encode, var = 0.5 * self.posterior_map + 0.1, 1.7 * self.posterior_var
        latent = len(var)
        weight = np.vstack([encode, np.zeros_like(encode)])
        bias = np.concatenate([-encode @ self.b, np.log(var)])
        decoder = affine(self.w, self.b)
        return VAE(affine(weight, bias), decoder, latent, likelihood="gaussian", scale=self.scale, beta=beta)

    def terms(self, mu, var) -> tuple[float, float]:
        """Distortion −E_q[log p(x|z)] and rate KL(q ‖ p) for q = N(mu, diag var)."""
        at_mean = stats.norm.logpdf(self.x, self.w @ mu + self.b, self.scale).sum()
        spread = np.sum(self.w**2 @ var) / (2 * self.scale**2)
        return spread - at_mean, 0.5 * np.sum(mu**2 + var - 1 - np.log(var))


TRUTH = LinearGaussian()
X = jnp.asarray(TRUTH.x, jnp.float32)


def draws(function, seed: int, n: int = 20_000) -> np.ndarray:
    """``function(key)`` for ``n`` keys."""
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), n)), float)


def assert_reaches(values, one, k: int, log_p: float) -> None:
    """The mean of ``values``, bounds of ``k`` draws, is log p(x) but for chance and twice their bias.

    The bias is −Var(w)/2k to first order (delta method); the bounds of a single draw ``one`` are log w + log p(x).
    """
    bias = np.var(np.exp(one - log_p)) / (2 * k)
    assert bias < 0.01
    assert abs(values.mean() - log_p) < 4 * stats.sem(values) + 2 * bias


def assert_mean(values, truth) -> None:
    """The mean of independent ``values`` is within 4 standard errors of ``truth``."""
    error = stats.sem(values, axis=0)
    assert np.all(np.abs(np.mean(values, axis=0) - truth) < 4 * error), (np.mean(values, axis=0), truth, error)


# Gaussian likelihood


def test_elbo_is_the_bound_in_closed_form():
    vae = TRUTH.vae(exact=False)
    mu, log_var = (np.asarray(a, float) for a in vae.encode(X))
    distortion, rate = TRUTH.terms(mu, np.exp(log_var))
    values = draws(lambda key: jnp.stack(vae.terms(X, key)), seed=1)
    assert_mean(values[:, 0], distortion)
    np.testing.assert_allclose(values[:, 1], rate, rtol=1e-5)  # the rate is not sampled
    assert_mean(draws(lambda key: vae.elbo(X, key), seed=2), -distortion - rate)
    assert -distortion - rate < TRUTH.marginal.logpdf(TRUTH.x) - 0.1  # a bound, and not tight for this encoder


def test_exact_posterior_makes_the_bounds_tight():
    vae = TRUTH.vae(exact=True)
    log_p = TRUTH.marginal.logpdf(TRUTH.x)
    assert_mean(draws(lambda key: vae.elbo(X, key), seed=3), log_p)
    for k in (1, 2, 7):  # p(x, z)/q(z|x) is p(x) at every z: nothing is left to chance
        values = draws(lambda key: vae.iwae_bound(X, key, k), seed=4, n=200)  # noqa: B023
        np.testing.assert_allclose(values, log_p, atol=2e-5)


def test_iwae_bound_climbs_from_the_elbo_to_the_likelihood():
    vae = TRUTH.vae(exact=False)
    mu, log_var = (np.asarray(a, float) for a in vae.encode(X))
    log_p = TRUTH.marginal.logpdf(TRUTH.x)
    values = {k: draws(lambda key: vae.iwae_bound(X, key, k), seed=k) for k in (1, 4, 32)}  # noqa: B023
    assert_mean(values[1], -sum(TRUTH.terms(mu, np.exp(log_var))))
    for less, more in ((1, 4), (4, 32)):
        gap = values[more].mean() - values[less].mean()
        assert gap > 4 * np.hypot(stats.sem(values[more]), stats.sem(values[less]))
    assert values[32].mean() < log_p
    many = draws(lambda key: vae.iwae_bound(X, key, 2000), seed=5, n=200)
    assert_reaches(many, values[1], 2000, log_p)


def test_gaussian_log_likelihood_is_scipys():
    z = np.array([0.3, -1.1])
    expected = stats.norm.logpdf(TRUTH.x, TRUTH.w @ z + TRUTH.b, TRUTH.scale).sum()
    assert float(TRUTH.vae(exact=True).log_likelihood(X, jnp.asarray(z, jnp.float32))) == pytest.approx(
        expected, rel=1e-5
    )


def test_gaussian_samples_have_the_mean_and_covariance_of_the_model():
    vae = TRUTH.vae(exact=True)
    samples = draws(vae.sample, seed=6)
    assert_mean(samples, TRUTH.b)
    centered = samples - TRUTH.b
    assert_mean(centered[:, :, None] * centered[:, None, :], TRUTH.marginal.cov)
    means = draws(vae.sample_mean, seed=7) - TRUTH.b
    assert_mean(means[:, :, None] * means[:, None, :], TRUTH.w @ TRUTH.w.T)


def test_the_learned_scale_has_the_gradient_of_its_formula():
    """d(−ELBO)/d(log scale) = n − ‖x − decoder(z)‖²/scale², at the z that the key draws."""
    vae = TRUTH.vae(exact=False)
    key = jax.random.key(8)
    mu, log_var = vae.encode(X)
    z = mu + jnp.exp(log_var / 2) * jax.random.normal(jax.random.clone(key), mu.shape)
    residual = np.asarray(X - vae.decoder(z), float)
    gradient = eqx.filter_grad(lambda vae: vae.loss(X, key)[0])(vae)
    expected = residual.size - np.sum(residual**2) / TRUTH.scale**2
    assert float(gradient.log_scale) == pytest.approx(expected, rel=1e-4)


# Bernoulli likelihood: two-by-two pictures and a one-dimensional latent, so that integrals over z are a quadrature


LOGIT_W, LOGIT_B = np.array([[1.2, -0.7], [0.4, 2.0]]), np.array([[0.3, -0.2], [-1.0, 0.1]])
GRAY = np.array([[0.2, 0.9], [0.5, 1.0]])
ENCODED = np.array([0.4, math.log(0.3)])  # mu and log_var, whatever the picture
PICTURES = [np.reshape(y, (2, 2)).astype(float) for y in itertools.product((0, 1), repeat=4)]


def pixel_vae(beta: float = 1.0) -> VAE:
    encoder = affine(np.zeros((2, 4)), ENCODED)
    return VAE(encoder, affine(LOGIT_W.reshape(4, 1), LOGIT_B, (2, 2)), 1, beta=beta)


def log_bernoulli(y, z: float) -> float:
    """Log-probability of a black-and-white picture, by SciPy."""
    return stats.bernoulli.logpmf(y, special.expit(LOGIT_W * z + LOGIT_B)).sum()


def average(function, mean: float, var: float) -> float:
    """E[function(z)] for z ~ N(mean, var)."""
    density = stats.norm(mean, math.sqrt(var)).pdf
    reach = 12 * math.sqrt(var)
    return integrate.quad(lambda z: function(z) * density(z), mean - reach, mean + reach, epsabs=1e-10)[0]


def chance(y) -> float:
    """Probability that pixels drawn with probabilities GRAY give the picture ``y``."""
    return float(np.prod(np.where(y == 1, GRAY, 1 - GRAY)))


@pytest.mark.parametrize("z", [-2.0, 0.0, 1.3])
def test_bernoulli_log_likelihood_is_scipys(z):
    vae = pixel_vae()
    for y in PICTURES:
        got = float(vae.log_likelihood(jnp.asarray(y, jnp.float32), jnp.array([z])))
        assert got == pytest.approx(log_bernoulli(y, z), abs=1e-5)


def test_bernoulli_log_likelihood_is_finite_for_sure_decoders():
    """−log(1 + e^a) must not overflow: with logits ±200, being wrong in a pixel costs 200 nats."""
    vae = VAE(affine(np.zeros((2, 4)), ENCODED), affine(np.zeros((4, 1)), np.array([[200, -200], [200, -200]])), 1)
    value = float(vae.log_likelihood(jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.zeros(1)))
    assert value == pytest.approx(-400)


def test_gray_values_stand_for_the_black_and_white_pictures_drawn_from_them():
    """Both claims of the class's docstring, by adding up all 16 pictures."""
    vae, x, z = pixel_vae(), jnp.asarray(GRAY, jnp.float32), 0.8
    assert sum(map(chance, PICTURES)) == pytest.approx(1)
    expected = sum(chance(y) * log_bernoulli(y, z) for y in PICTURES)
    assert float(vae.log_likelihood(x, jnp.array([z]))) == pytest.approx(expected, abs=1e-5)

    mu, var = ENCODED[0], math.exp(ENCODED[1])
    rate = 0.5 * (mu**2 + var - 1 - math.log(var))
    elbo = sum(chance(y) * average(lambda z: log_bernoulli(y, z), mu, var) for y in PICTURES if chance(y)) - rate  # noqa: B023
    assert_mean(draws(lambda key: vae.elbo(x, key), seed=9), elbo)
    log_p = sum(
        chance(y) * math.log(average(lambda z: math.exp(log_bernoulli(y, z)), 0, 1))  # noqa: B023
        for y in PICTURES
        if chance(y)
    )
    assert elbo < log_p


def test_bernoulli_iwae_bound_reaches_the_likelihood():
    y = PICTURES[9]
    log_p = math.log(average(lambda z: math.exp(log_bernoulli(y, z)), 0, 1))
    vae, x = pixel_vae(), jnp.asarray(y, jnp.float32)
    one = draws(lambda key: vae.iwae_bound(x, key, 1), seed=11)
    many = draws(lambda key: vae.iwae_bound(x, key, 2000), seed=10, n=200)
    assert one.mean() < log_p
    assert_reaches(many, one, 2000, log_p)
    importance = np.exp(one - log_p)  # with one draw the bound is log p(x,z)/q(z|x), and E[p(x,z)/q(z|x)] = p(x)
    assert_mean(importance, 1.0)


def test_bernoulli_samples_are_black_and_white_with_the_models_mean():
    vae = pixel_vae()
    expected = np.array(
        [[average(lambda z: special.expit(w * z + b), 0, 1) for w, b in zip(*row)] for row in zip(LOGIT_W, LOGIT_B)]  # noqa: B023
    )
    samples = draws(vae.sample, seed=12)
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert_mean(samples, expected)
    assert_mean(draws(vae.sample_mean, seed=13), expected)
    pair = average(lambda z: special.expit(1.2 * z + 0.3) * special.expit(2.0 * z + 0.1), 0, 1)
    assert_mean(samples[:, 0, 0] * samples[:, 1, 1], pair)  # pixels of one draw share one z
    z = jnp.array([0.5])
    np.testing.assert_allclose(vae.mean(z), special.expit(0.5 * LOGIT_W + LOGIT_B), rtol=1e-5)


# Loss


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_loss_is_distortion_plus_beta_rate(beta):
    vae, x, key = pixel_vae(beta), jnp.asarray(GRAY, jnp.float32), jax.random.key(14)
    loss, parts = vae.loss(x, key)
    assert set(parts) == {"distortion", "rate"}
    rate = 0.5 * (0.4**2 + 0.3 - 1 - math.log(0.3))
    assert float(parts["rate"]) == pytest.approx(rate, rel=1e-5)
    assert float(loss) == pytest.approx(float(parts["distortion"]) + beta * rate, rel=1e-6)
    bound = float(vae.elbo(x, jax.random.clone(key)))
    assert bound == pytest.approx(-float(parts["distortion"]) - rate, rel=1e-5)  # no beta in the bound


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradient_is_finite_and_reaches_every_parameter(likelihood):
    a, b = jax.random.split(jax.random.key(15))
    encoder, decoder = nets.MLP((16, 8, 6), key=a), nets.MLP((3, 8, 16), key=b, out_shape=(4, 4))
    vae = VAE(encoder, decoder, 3, likelihood=likelihood)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda vae, x: vae.loss(x, jax.random.key(16))[0]))
    found = [jax.tree.leaves(gradient(vae, x)) for x in (jnp.zeros((4, 4)), jnp.ones((4, 4)), jnp.eye(4))]
    assert len(found[0]) == 8 + (likelihood == "gaussian")
    assert all(np.all(np.isfinite(leaf)) for leaves in found for leaf in leaves)
    assert all(any(np.any(leaf != 0) for leaf in leaves) for leaves in zip(*found))


def test_networks_of_the_wrong_shape_are_named():
    x, key = jnp.zeros((2, 2)), jax.random.key(17)
    with pytest.raises(ValueError, match=r"encoder must return shape \(6,\), mu then log_var, got \(2,\)"):
        VAE(affine(np.zeros((2, 4)), ENCODED), lambda z: z, 3).elbo(x, key)
    flat = affine(LOGIT_W.reshape(4, 1), LOGIT_B.ravel())
    with pytest.raises(ValueError, match=r"decoder must return the shape of x, \(2, 2\), got \(4,\)"):
        VAE(affine(np.zeros((2, 4)), ENCODED), flat, 1).elbo(x, key)
