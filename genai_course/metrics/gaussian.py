"""Divergences between Gaussians in closed form, and the bias law of the Fréchet distance.

All of it is exact and computed in float64 with NumPy, except ``kl_diagonal_to_standard``, which is JAX and
differentiable because it is a term of a training loss. Nothing here is estimated from samples, so two equal
Gaussians give 0 up to rounding.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real
from scipy import integrate, linalg, stats

from genai_course import _check
from genai_course.metrics._inputs import AnyArray, real, symmetric


def _gaussians(mean_0, cov_0, mean_1, cov_1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check two Gaussians and return the difference of their means and both covariances."""
    cov_0 = symmetric("cov_0", cov_0)
    cov_1 = symmetric("cov_1", cov_1, len(cov_0))
    mean_0, mean_1 = (real(n, mean, shape=(len(cov_0),)) for n, mean in (("mean_0", mean_0), ("mean_1", mean_1)))
    return mean_1 - mean_0, cov_0, cov_1


def _cholesky(name: str, cov: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(cov)[0]
        raise ValueError(f"{name} must be positive definite, got a smallest eigenvalue of {least:.3g}") from None


def kl_gaussians(
    mean_0: Real[AnyArray, " d"],
    cov_0: Real[AnyArray, "d d"],
    mean_1: Real[AnyArray, " d"],
    cov_1: Real[AnyArray, "d d"],
) -> float:
    """Kullback–Leibler divergence KL(N(mean_0, cov_0) ‖ N(mean_1, cov_1)), in nats.

    ½ [tr(Σ₁⁻¹Σ₀) + (μ₁−μ₀)ᵀΣ₁⁻¹(μ₁−μ₀) − d + ln det Σ₁ − ln det Σ₀]

    It is not symmetric. Null: 0 for equal Gaussians.
    Raises ValueError if a covariance is not symmetric positive definite or the shapes disagree.
    Source: Kullback & Leibler (1951).
    """
    gap, cov_0, cov_1 = _gaussians(mean_0, cov_0, mean_1, cov_1)
    root_0, root_1 = _cholesky("cov_0", cov_0), _cholesky("cov_1", cov_1)
    whitened = linalg.solve_triangular(root_1, np.column_stack([root_0, gap]), lower=True)
    log_det_ratio = 2 * np.sum(np.log(np.diag(root_1)) - np.log(np.diag(root_0)))
    return float((np.sum(whitened**2) - len(gap) + log_det_ratio) / 2)


def kl_diagonal_to_standard(mu: Float[AnyArray, " d"], log_var: Float[AnyArray, " d"]) -> Float[Array, ""]:
    """KL(N(mu, diag exp(log_var)) ‖ N(0, I)) of one example, in nats; JAX, differentiable.

    ½ Σᵢ (exp(log_varᵢ) + muᵢ² − 1 − log_varᵢ)

    A sum over the dimensions, not a mean: use ``jax.vmap`` for a batch. Null: 0 exactly at mu = 0, log_var = 0.
    Raises ValueError if an argument is not a vector or the lengths differ.
    Source: Kingma & Welling (2014), appendix B.
    """
    mu = _check.array("mu", mu, ndim=1)
    log_var = _check.array("log_var", log_var, shape=mu.shape)
    return 0.5 * jnp.sum(jnp.expm1(log_var) - log_var + jnp.square(mu))  # expm1 keeps the digits near log_var = 0


def _eigen_psd(name: str, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a positive semi-definite matrix; eigenvalues that are rounding become 0."""
    values, vectors = np.linalg.eigh(cov)
    scale = np.abs(values).max()
    if values[0] < -1e-6 * scale:
        raise ValueError(f"{name} must be positive semi-definite, got a smallest eigenvalue of {values[0]:.3g}")
    return np.where(values > 10 * len(values) * np.finfo(np.float64).eps * scale, values, 0.0), vectors


def _sqrt(name: str, cov: np.ndarray) -> np.ndarray:
    values, vectors = _eigen_psd(name, cov)
    return (vectors * np.sqrt(values)) @ vectors.T


def sqrt_psd(cov: Real[AnyArray, "d d"]) -> np.ndarray:
    """Symmetric square root S of a positive semi-definite matrix, S S = cov, by its eigenvalues.

    cov = V diag(λ) Vᵀ gives S = V diag(√λ) Vᵀ. Singular matrices are fine: eigenvalues that are zero up to rounding
    count as zero. Raises ValueError if ``cov`` is not symmetric or has a negative eigenvalue.
    """
    return _sqrt("cov", symmetric("cov", cov))


def squared_w2(gap: np.ndarray, root_0: np.ndarray, root_1: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of Gaussians whose means differ by ``gap`` and whose covariances are F Fᵀ.

    |gap|² + ‖F₀‖² + ‖F₁‖² − 2‖F₀ᵀF₁‖_*. The sum ‖·‖_* of the singular values equals tr (Σ₀^½ Σ₁ Σ₀^½)^½ for any
    factors F, also for thin ones, and keeps the digits that a matrix square root of a product loses.
    """
    cross = linalg.svdvals(root_0.T @ root_1).sum()
    return max(float(gap @ gap + np.sum(root_0**2) + np.sum(root_1**2) - 2 * cross), 0.0)


def wasserstein2_gaussians(
    mean_0: Real[AnyArray, " d"],
    cov_0: Real[AnyArray, "d d"],
    mean_1: Real[AnyArray, " d"],
    cov_1: Real[AnyArray, "d d"],
) -> float:
    """2-Wasserstein distance W₂ between two Gaussians, in the units of the data (its square is the Fréchet distance).

    W₂² = |μ₀−μ₁|² + tr(Σ₀ + Σ₁ − 2 (Σ₀^½ Σ₁ Σ₀^½)^½)

    Covariances may be singular. Null: 0 for equal Gaussians, up to the square root of rounding (about 1e-8).
    Raises ValueError if a covariance is not symmetric positive semi-definite or the shapes disagree.
    Source: Dowson & Landau (1982).
    """
    gap, cov_0, cov_1 = _gaussians(mean_0, cov_0, mean_1, cov_1)
    return math.sqrt(squared_w2(gap, _sqrt("cov_0", cov_0), _sqrt("cov_1", cov_1)))


def total_variation_unit_gaussians(shift: float) -> float:
    """Total variation distance between N(0, I) and N(δ, I) with |δ| = ``shift``, from 0 to 1.

    TV = 2Φ(|δ|/2) − 1. The best classifier of the two has accuracy ½ + TV/2. Null: 0 at shift 0.
    Raises ValueError if ``shift`` is negative.
    """
    return float(2 * stats.norm.cdf(_check.number("shift", shift, least=0.0) / 2) - 1)


def jensen_shannon_unit_gaussians(shift: float) -> float:
    """Jensen–Shannon divergence between N(0, I) and N(δ, I) with |δ| = ``shift``, in nats, from 0 to ln 2.

    JS = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2. Both halves are equal here, and the log-density ratio along δ is
    Gaussian, so JS = ln 2 − E ln(1 + exp(δ Z − δ²/2)) with Z ~ N(0, 1), by adaptive quadrature.
    Null: 0 at shift 0. Raises ValueError if ``shift`` is negative. Source: Lin (1991).
    """
    shift = _check.number("shift", shift, least=0.0)
    expectation, _ = integrate.quad(
        lambda z: stats.norm.pdf(z) * np.logaddexp(0.0, shift * z - shift**2 / 2),
        -40,
        40,
        points=[0, min(shift / 2, 39)],
    )
    return float(math.log(2) - expectation)


def frechet_bias(cov: Real[AnyArray, "d d"], n: int, m: int | None = None) -> float:
    """Mean squared Fréchet distance of ``n`` samples of N(μ, cov) to the truth, or to ``m`` other samples of it.

    To first order, with λ the eigenvalues of cov and 1/m = 0 for ``m=None``:
    (1/n + 1/m) (Σᵢ λᵢ + ¼ Σᵢ λᵢ + ½ Σᵢⱼ λᵢλⱼ / (λᵢ+λⱼ)); for cov = I it is d/n + d(d+1)/(4n).

    So the distance of a perfect model is not zero, and it falls with the sample size: compare models at equal n only.
    It holds for Gaussian samples and n well above the rank of cov; other data: split the real samples and measure.
    Raises ValueError if ``cov`` is not symmetric positive semi-definite.
    Source: the Wishart covariance of a sample covariance in the second-order expansion of the squared distance;
    Chong & Forsyth (2020) show the effect on FID.
    """
    n = _check.integer("n", n, least=2)
    rate = 1 / n + (0.0 if m is None else 1 / _check.integer("m", m, least=2))
    values, _ = _eigen_psd("cov", symmetric("cov", cov))
    values = values[values > 0]
    pairs = np.sum(np.outer(values, values) / np.add.outer(values, values))
    return float(rate * (1.25 * values.sum() + pairs / 2))
