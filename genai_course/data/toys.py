"""Toy densities: a point is cheap to draw and its exact log-density is known.

Data card
    Origin    our own definitions; no license needed, nothing to download
    Size      any number of points in one or two dimensions (``linear_gaussian``: any), float32
    Splits    none; draw fresh points with a new key
    Known     ``log_prob`` in closed form; for moons and spirals an integral over a curve, by Gauss-Legendre quadrature
              with a relative error below 1e-6; means, scales, weights of mixtures; entropy by quadrature; posteriors

Every density has ``sample(key, n) -> [n, d]`` and ``log_prob(x)``, in nats, for one point ``x [d]``.
``jax.vmap(density.log_prob)`` makes the batch, ``jax.grad(density.log_prob)`` the score; compile with
``eqx.filter_jit``.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import multivariate_normal
from jaxtyping import Array, Float
from scipy.special import roots_legendre

from genai_course import _check

Numbers = Sequence | np.ndarray | Array


def _positive(name, value, shape):
    if np.min(_check.array(name, value, shape=shape)) <= 0:
        raise ValueError(f"{name} must be positive, got {value!r:.60}")
    return jnp.asarray(value, float)


class Coverage(NamedTuple):
    """How samples spread over the modes of a mixture."""

    modes: int  # modes covered
    high_quality: float  # share of samples close to a mean
    shares: np.ndarray  # [k] share of samples nearest to each mean


class Mixture(eqx.Module):
    """Isotropic Gaussian mixture: p(x) = sum_k weights[k] N(x; means[k], scales[k]^2 I)."""

    means: Float[Array, "k d"]
    scales: Float[Array, " k"]
    weights: Float[Array, " k"]

    def sample(self, key: Array, n: int) -> Float[Array, "n d"]:
        """Draw ``n`` points: a component by its weight, then a Gaussian."""
        which, noise = jax.random.split(_check.key("key", key))
        k = jax.random.categorical(which, jnp.log(self.weights), shape=(_check.integer("n", n),))
        return self.means[k] + self.scales[k, None] * jax.random.normal(noise, (n, self.means.shape[1]))

    def _log_joint(self, x) -> Float[Array, " k"]:
        z = (_check.array("x", x, shape=self.means.shape[1:]) - self.means) / self.scales[:, None]
        log_norm = self.means.shape[1] * (jnp.log(self.scales) + 0.5 * math.log(2 * math.pi))
        return jnp.log(self.weights) - log_norm - 0.5 * jnp.sum(z**2, axis=1)

    def log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Return log p(x) in nats."""
        return jax.nn.logsumexp(self._log_joint(x))

    def responsibilities(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """Return p(k | x), the posterior over the components."""
        return jax.nn.softmax(self._log_joint(x))

    def modes_covered(self, samples: Float[Array, "n d"], within: float = 4.0, share: float = 0.1) -> Coverage:
        """Count the modes that ``samples [n, d]`` reach.

        A sample is of high quality within ``within`` scales of its nearest mean (papers use 3); a mode is covered
        from ``share`` of the number of high-quality samples that its weight entitles it to.
        """
        x = np.asarray(_check.array("samples", samples, shape=(None, self.means.shape[1])))
        if not len(x):
            raise ValueError("samples must hold at least one point, got none")
        _check.number("within", within, above=0.0), _check.number("share", share, above=0.0, most=1.0)
        distance = np.linalg.norm(x[:, None] - np.asarray(self.means), axis=-1) / np.asarray(self.scales)
        nearest, good = distance.argmin(1), distance.min(1) <= within
        good_count, count = (np.bincount(a, minlength=len(self.weights)) for a in (nearest[good], nearest))
        covered = (good_count > 0) & (good_count >= share * len(x) * np.asarray(self.weights))
        return Coverage(int(covered.sum()), float(good.mean()), count / len(x))


class NoisyCurve(eqx.Module):
    """A curve and its mirror image through the origin, blurred by Gaussian noise.

    p(x) = 1/2 sum_{s=+-1} int_0^1 power t^(power-1) N(x; s curve(t), noise^2 I) dt. ``nodes`` is the integral by
    Gauss-Legendre quadrature: a mixture with one component for each node and sign.
    """

    curve: Callable = eqx.field(static=True)
    power: int = eqx.field(static=True)
    noise: float
    nodes: Mixture

    def __init__(self, curve, power, speed, noise):
        self.curve, self.power, self.noise = curve, power, _check.number("noise", noise, least=0.02)
        t, w = roots_legendre(16 + math.ceil(1.5 * speed / noise))  # resolves the noise at the curve's top speed
        t, w = (t + 1) / 2, np.tile(w / 4, 2)
        points = np.stack(curve(t, np), axis=1)
        weights = w * power * np.tile(t, 2) ** (power - 1)
        self.nodes = mixture(np.concatenate([points, -points]), np.full(len(w), noise), weights)

    def sample(self, key: Array, n: int) -> Float[Array, "n 2"]:
        """Draw ``n`` points: a place on the curve, a side, then noise."""
        place, side, noise = jax.random.split(_check.key("key", key), 3)
        t = jax.random.uniform(place, (_check.integer("n", n),)) ** (1 / self.power)
        sign = jax.random.rademacher(side, (n, 1), t.dtype)
        return sign * jnp.stack(self.curve(t), axis=1) + self.noise * jax.random.normal(noise, (n, 2))

    def log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        """Return log p(x) in nats."""
        return self.nodes.log_prob(_check.array("x", x, shape=(2,)))


class Pinwheel(eqx.Module):
    """Gaussian arms, each point turned by an angle that depends on its radius alone, so that volume is kept.

    z ~ N((radius, 0), diag(scales^2)) and x = R(2 pi k / arms + twist |z|^2) z with k uniform. The map has Jacobian
    determinant 1 and keeps |z|, hence p(x) = mean_k N(R(-2 pi k / arms - twist |x|^2) x; (radius, 0), diag(scales^2)).
    """

    arms: int = eqx.field(static=True)
    radius: float
    scales: Float[Array, "2"]
    twist: float

    def _angle(self, k, square):
        return 2 * jnp.pi * k / self.arms + self.twist * square

    def sample(self, key: Array, n: int) -> Float[Array, "n 2"]:
        """Draw ``n`` points: an arm, a Gaussian along it, then the turn."""
        which, noise = jax.random.split(_check.key("key", key))
        k = jax.random.randint(which, (_check.integer("n", n),), 0, self.arms)
        z = jnp.array([self.radius, 0.0]) + self.scales * jax.random.normal(noise, (n, 2))
        x = jax.lax.complex(*z.T) * jnp.exp(1j * self._angle(k, jnp.sum(z**2, axis=1)))
        return jnp.stack([x.real, x.imag], axis=1)

    def log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        """Return log p(x) in nats."""
        x = jnp.asarray(_check.array("x", x, shape=(2,)), float)
        z = jax.lax.complex(*x) * jnp.exp(-1j * self._angle(jnp.arange(self.arms), jnp.sum(x**2)))
        quadratic = ((z.real - self.radius) / self.scales[0]) ** 2 + (z.imag / self.scales[1]) ** 2
        return jax.nn.logsumexp(-0.5 * quadratic) - jnp.log(2 * math.pi * self.arms * jnp.prod(self.scales))


class Checkerboard(eqx.Module):
    """Uniform on the 8 unit squares of [-2, 2]^2 whose integer corners have an even sum: p(x) = 1/8 there, else 0.

    The score is 0 wherever it exists: the shape is all in the edges.
    """

    def sample(self, key: Array, n: int) -> Float[Array, "n 2"]:
        """Draw ``n`` points: a dark square, then a uniform place in it."""
        square, place = jax.random.split(_check.key("key", key))
        column, pair = jnp.divmod(jax.random.randint(square, (_check.integer("n", n),), 0, 8), 2)
        corner = jnp.stack([column, 2 * pair + column % 2], axis=1) - 2.0
        return corner + jax.random.uniform(place, (n, 2), maxval=1 - 1e-6)

    def log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        """Return -log 8 on a dark square and minus infinity elsewhere."""
        i = jnp.floor(_check.array("x", x, shape=(2,)))
        return jnp.where(jnp.all((i >= -2) & (i < 2)) & (jnp.sum(i) % 2 == 0), -math.log(8), -jnp.inf)


class LinearGaussian(eqx.Module):
    """Probabilistic PCA (Tipping & Bishop, 1999): z ~ N(0, I), x = loadings z + mean + noise_scale eps.

    p(x) = N(x; mean, W W' + sigma^2 I) and p(z | x) = N(M^-1 W'(x - mean), sigma^2 M^-1) with M = W'W + sigma^2 I.
    """

    loadings: Float[Array, "d k"]
    noise_scale: Float[Array, ""]
    mean: Float[Array, " d"]

    def sample_joint(self, key: Array, n: int) -> tuple[Float[Array, "n k"], Float[Array, "n d"]]:
        """Draw ``n`` pairs of latent and point, ``(z, x)``."""
        latent, noise = jax.random.split(_check.key("key", key))
        d, k = self.loadings.shape
        z = jax.random.normal(latent, (_check.integer("n", n), k))
        return z, z @ self.loadings.T + self.mean + self.noise_scale * jax.random.normal(noise, (n, d))

    def sample(self, key: Array, n: int) -> Float[Array, "n d"]:
        """Draw ``n`` points from the marginal."""
        return self.sample_joint(_check.key("key", key), _check.integer("n", n))[1]

    def log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Return the log marginal density of ``x`` in nats."""
        covariance = self.loadings @ self.loadings.T + self.noise_scale**2 * jnp.eye(len(self.mean))
        return multivariate_normal.logpdf(_check.array("x", x, shape=self.mean.shape), self.mean, covariance)

    def posterior(self, x: Float[Array, " d"]) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
        """Return mean and covariance of the latent given ``x``."""
        centered = _check.array("x", x, shape=self.mean.shape) - self.mean
        m = self.loadings.T @ self.loadings + self.noise_scale**2 * jnp.eye(self.loadings.shape[1])
        return jnp.linalg.solve(m, self.loadings.T @ centered), self.noise_scale**2 * jnp.linalg.inv(m)


def mixture(means: Numbers, scales: Numbers, weights: Numbers | None = None) -> Mixture:
    """Return the isotropic Gaussian mixture of ``means [k, d]``, ``scales [k]`` and ``weights [k]`` (default: equal).

    Raises ValueError unless scales and weights are positive and the weights sum to 1.
    """
    k, d = _check.array("means", means, ndim=2).shape
    if not k * d:
        raise ValueError(f"means must hold at least one point, got shape {(k, d)}")
    scales = _positive("scales", scales, (k,))
    weights = _positive("weights", np.full(k, 1 / k) if weights is None else weights, (k,))
    if abs(jnp.sum(weights) - 1) > 1e-5:
        raise ValueError(f"weights must sum to 1, got {jnp.sum(weights)}")
    return Mixture(jnp.asarray(means, float), scales, weights)


def mixture_1d(means: Numbers, scales: Numbers, weights: Numbers | None = None) -> Mixture:
    """Return the Gaussian mixture on the line with ``means``, ``scales`` and ``weights [k]``; a point has shape [1]."""
    return mixture(_check.array("means", means, ndim=1)[:, None], scales, weights)


def ring(modes: int = 8, radius: float = 2.0, scale: float = 0.15) -> Mixture:
    """Return equal Gaussians at equal angles on a circle."""
    angle = 2 * np.pi * np.arange(_check.integer("modes", modes)) / modes
    means = _check.number("radius", radius, above=0.0) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return mixture(means, np.full(modes, _check.number("scale", scale, above=0.0)))


def grid(side: int = 5, spacing: float = 1.0, scale: float = 0.05) -> Mixture:
    """Return ``side`` x ``side`` equal Gaussians on a square lattice around the origin."""
    line = _check.number("spacing", spacing, above=0.0) * (np.arange(_check.integer("side", side)) - (side - 1) / 2)
    means = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    return mixture(means, np.full(side**2, _check.number("scale", scale, above=0.0)))


def _moon(t, xp=jnp):
    return xp.cos(xp.pi * t) - 0.5, xp.sin(xp.pi * t) - 0.25


def _spiral(t, xp=jnp):
    angle = 3 * xp.pi * t
    return angle * xp.cos(angle) / 3.2, angle * xp.sin(angle) / 3.2


def two_moons(noise: float = 0.08) -> NoisyCurve:
    """Return scikit-learn's ``make_moons`` of Gaussian noise ``noise`` >= 0.02, moved by (-1/2, -1/4)."""
    return NoisyCurve(_moon, 1, math.pi, noise)


def spirals(noise: float = 0.08) -> NoisyCurve:
    """Return two spiral arms of one and a half turns, about even along their length, of ``noise`` >= 0.02."""
    return NoisyCurve(_spiral, 2, 9 * math.pi**2 / 3.2, noise)


def pinwheel(arms: int = 5, radius: float = 1.4, scales: Numbers = (0.4, 0.1), twist: float = 0.4) -> Pinwheel:
    """Return ``arms`` bent Gaussians of standard deviations ``scales`` along and across the arm."""
    radius, twist = _check.number("radius", radius, above=0.0), _check.number("twist", twist)
    return Pinwheel(_check.integer("arms", arms), radius, _positive("scales", scales, (2,)), twist)


def checkerboard() -> Checkerboard:
    """Return the uniform density on the 8 dark squares of a 4 x 4 board of side 4."""
    return Checkerboard()


def linear_gaussian(loadings: Numbers, noise_scale: float, mean: Numbers | None = None) -> LinearGaussian:
    """Return x = W z + mean + sigma eps with ``loadings`` W [d, k], ``noise_scale`` sigma > 0, ``mean`` [d] or zero."""
    loadings = _check.array("loadings", loadings, ndim=2)
    if not loadings.size:
        raise ValueError(f"loadings must have at least one row and one column, got shape {loadings.shape}")
    mean = _check.array("mean", np.zeros(len(loadings)) if mean is None else mean, shape=(len(loadings),))
    sigma = _check.number("noise_scale", noise_scale, above=0.0)
    return LinearGaussian(jnp.asarray(loadings, float), jnp.asarray(sigma, float), jnp.asarray(mean, float))


def entropy(density, low: float = -4.0, high: float = 4.0, points: int = 400) -> float:
    """Return -int p log p in nats by the midpoint rule on ``points`` cells a side of [low, high]^d, d = 1 or 2.

    A cell should be no wider than the smallest scale. Raises ValueError where the cells miss a mass of 1 by over 1e-3.
    """
    if (d := density.sample(jax.random.key(0), 1).shape[1]) > 2:
        raise ValueError(f"density must have 1 or 2 dimensions, got {d}")
    step = (_check.number("high", high, above=_check.number("low", low)) - low) / _check.integer("points", points)
    line = low + step * (np.arange(points) + 0.5)
    x = jnp.asarray(np.stack(np.meshgrid(*[line] * d), axis=-1).reshape(-1, d), float)
    log_p = np.asarray(jax.lax.map(density.log_prob, x, batch_size=points), float)
    p = np.exp(log_p) * step**d
    if abs(p.sum() - 1) > 1e-3:
        raise ValueError(f"low, high and points must catch a mass of 1, got {p.sum():.4f}")
    return float(-np.sum(p[p > 0] * log_p[p > 0]))
