"""Distances and tests between two sets of samples, each with what it gives when both sets have one distribution.

Samples are the rows of arrays of shapes (n, d) and (m, d), NumPy or JAX; the arithmetic is NumPy in float64.
Pictures are flattened first: ``x.reshape(len(x), -1)``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Key, Real
from scipy import stats
from sklearn.metrics.pairwise import euclidean_distances

from genai_course import _check
from genai_course.data import rng_from_key
from genai_course.metrics._inputs import AnyArray, pair, real
from genai_course.metrics.gaussian import squared_w2


def frechet_distance(x: Real[AnyArray, "n d"], y: Real[AnyArray, "m d"]) -> float:
    """Squared Fréchet distance between the Gaussians that have the means and covariances of ``x`` and ``y``.

    |μ_x−μ_y|² + tr(Σ_x + Σ_y − 2 (Σ_x^½ Σ_y Σ_x^½)^½), with the unbiased covariances (divisor n−1); squared data units.

    FID is this number in the features of one Inception network (Heusel et al., 2017). It sees only two moments, and n
    may be below d: no matrix is inverted and none loses digits in a square root.
    Null: positive. For samples of N(μ, Σ) its mean is ``frechet_bias(Σ, n, m)`` to first order, and nm/(n+m) times it
    tends to Σᵢ λᵢ A_i + Σᵢ (λᵢ/2) B_i + Σ_{i<j} λᵢλⱼ/(λᵢ+λⱼ) C_ij, all letters independent χ² with 1 degree of freedom.
    Raises ValueError for fewer than 2 rows, unequal widths, NaN or infinity.
    Source: Fréchet (1957); Dowson & Landau (1982).
    """
    x, y = pair(x, y)
    roots = []
    for sample in (x, y):
        centered = sample - sample.mean(axis=0)
        roots.append(np.linalg.qr(centered, mode="r").T / np.sqrt(len(sample) - 1))  # root rootᵀ is the covariance
    return squared_w2(x.mean(axis=0) - y.mean(axis=0), *roots)


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _mean_of_pairs(kernel: Kernel, a: np.ndarray, block: int) -> float:
    """Mean of k(aᵢ,aⱼ) over i ≠ j, a block of rows at a time."""
    total = 0.0
    for start in range(0, len(a), block):
        rows = kernel(a[start : start + block], a)
        total += rows.sum() - np.trace(rows, offset=start)
    return total / (len(a) * (len(a) - 1))


def _unbiased_squared_mmd(kernel: Kernel, x: np.ndarray, y: np.ndarray, block: int = 1024) -> float:
    """Σ_{i≠j} k(xᵢ,xⱼ)/n(n−1) + Σ_{i≠j} k(yᵢ,yⱼ)/m(m−1) − 2 Σᵢⱼ k(xᵢ,yⱼ)/nm."""
    cross = sum(kernel(x[start : start + block], y).sum() for start in range(0, len(x), block))
    return float(_mean_of_pairs(kernel, x, block) + _mean_of_pairs(kernel, y, block) - 2 * cross / (len(x) * len(y)))


def _gaussian_kernel(bandwidth) -> Kernel:
    """Mean over the bandwidths h of exp(−|a−b|²/2h²)."""
    if not isinstance(bandwidth, Sequence) or isinstance(bandwidth, str):
        bandwidth = (bandwidth,)
    if not bandwidth:
        raise ValueError("bandwidth must be a positive number or a sequence of them, got an empty sequence")
    widths = [_check.number("bandwidth", width, least=1e-30, most=1e45) for width in bandwidth]

    def kernel(a, b):
        squares = euclidean_distances(a, b, squared=True)
        return sum(np.exp(squares / (-2 * width**2)) for width in widths) / len(widths)

    return kernel


def median_bandwidth(x: Real[AnyArray, "n d"], y: Real[AnyArray, "m d"]) -> float:
    """Median distance between two different points of ``x`` and ``y`` pooled: the usual bandwidth of a Gaussian kernel.

    Being symmetric in the pooled points, it leaves the null mean of ``mmd`` at 0. Memory: (n+m)² numbers.
    Raises ValueError if more than half of the pairs coincide. Source: Gretton et al. (2012).
    """
    pooled = np.concatenate(pair(x, y))
    distances = euclidean_distances(pooled - pooled.mean(axis=0))
    median = float(np.median(distances[~np.eye(len(pooled), dtype=bool)]))
    if median == 0:
        raise ValueError("x and y must not be mostly equal points: their median distance is 0; pass a bandwidth")
    return median


def mmd(x: Real[AnyArray, "n d"], y: Real[AnyArray, "m d"], bandwidth: float | Sequence[float] | None = None) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, E k(x,x') + E k(y,y') − 2 E k(x,y).

    The kernel is Gaussian, exp(−|a−b|²/2h²), or the mean of several over a sequence of bandwidths h;
    ``None`` takes ``median_bandwidth``. No unit. A fixed bandwidth needs the memory of 1024·max(n, m) numbers only.
    Null: mean 0 exactly, with values below 0 as a matter of course; with the centered kernel
    k̃(a,b) = k(a,b) − E k(a,·) − E k(·,b) + E k its variance is [2/n(n−1) + 2/m(m−1) + 4/nm] E k̃², and the law is no
    normal but a weighted sum of centered χ²: take p-values from ``mmd_permutation_test``.
    Raises ValueError for fewer than 2 rows, unequal widths, NaN, infinity or a bandwidth outside [1e-30, 1e45].
    Source: Gretton et al. (2012).
    """
    x, y = pair(x, y)
    kernel = _gaussian_kernel(median_bandwidth(x, y) if bandwidth is None else bandwidth)
    center = x.mean(axis=0)  # the kernel does not see a shift of everything, rounding does
    return _unbiased_squared_mmd(kernel, x - center, y - center)


class PermutationTest(NamedTuple):
    """A statistic, its one-sided p-value, and its values under random relabelings of the pooled samples."""

    value: float
    p_value: float
    null: np.ndarray


def mmd_permutation_test(
    key: Key[Array, ""],
    x: Real[AnyArray, "n d"],
    y: Real[AnyArray, "m d"],
    bandwidth: float | Sequence[float] | None = None,
    n_permutations: int = 500,
) -> PermutationTest:
    """Test of "x and y have one distribution" by ``mmd``: relabel the pooled points at random and compare.

    p = (1 + number of relabelings with a value as large) / (1 + n_permutations), so never below 1/(1 + n_permutations).
    Null: p is at most u with probability at most u, at every sample size. Memory: (n+m)² numbers.
    Raises what ``mmd`` raises, and ValueError for fewer than 1 permutation.
    Source: Gretton et al. (2012); the "1 +" is Phipson & Smyth (2010).
    """
    _check.key("key", key)
    x, y = pair(x, y)
    n_permutations = _check.integer("n_permutations", n_permutations)
    kernel = _gaussian_kernel(median_bandwidth(x, y) if bandwidth is None else bandwidth)
    rng = rng_from_key(key)
    pooled = np.concatenate([x, y]) - x.mean(axis=0)
    n, m = len(x), len(y)
    table = kernel(pooled, pooled)
    in_x = np.zeros((n + m, 1 + n_permutations))  # column 0 is the true labeling
    in_x[:n] = 1
    in_x[:, 1:] = rng.permuted(in_x[:, 1:], axis=0)
    within_x = np.sum(in_x * (table @ in_x), axis=0)
    with_x = table.sum(axis=0) @ in_x
    within_y = table.sum() - 2 * with_x + within_x
    values = (within_x - n) / (n * (n - 1)) + (within_y - m) / (m * (m - 1)) - 2 * (with_x - within_x) / (n * m)
    as_large = np.sum(values[1:] >= values[0] - 1e-12)  # a tie counts, whatever the order of summation did to it
    return PermutationTest(float(values[0]), float((1 + as_large) / (1 + n_permutations)), values[1:])


def _cubic_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    base = a @ b.T / a.shape[1] + 1
    return base * base * base  # ten times as fast as base**3


def kid(x: Real[AnyArray, "n d"], y: Real[AnyArray, "m d"]) -> float:
    """Kernel distance: the unbiased squared MMD with the kernel (a·b/d + 1)³, which compares three moments.

    The KID of the literature is this number in Inception features, averaged over subsets; here all pairs count once.
    It depends on the scale of the features. Memory: 1024·max(n, m) numbers.
    Null: mean 0 exactly at every n, which the Fréchet distance has not; variance as for ``mmd``, with this kernel.
    Raises ValueError for fewer than 2 rows, unequal widths, NaN or infinity. Source: Bińkowski et al. (2018).
    """
    return _unbiased_squared_mmd(_cubic_kernel, *pair(x, y))


def wasserstein_1d(x: Real[AnyArray, " n"], y: Real[AnyArray, " m"]) -> float:
    """Exact 1-Wasserstein distance between two empirical distributions on the line, in the units of the data.

    W₁ = ∫ |F_x(t) − F_y(t)| dt, the area between the two cumulative step functions.

    Null: positive, E W₁ ≤ √(1/n + 1/m) ∫ √(F(1−F)) dt, and about √(2/π) = 0.80 times that for large n and m.
    Raises ValueError for an empty sample, NaN, infinity or more than one dimension.
    Source: Vallender (1974); computed by SciPy.
    """
    x, y = (real(name, value, shape=(None,)) for name, value in (("x", x), ("y", y)))
    pair(x[:, None], y[:, None], least=1)
    return float(stats.wasserstein_distance(x, y))


def sliced_wasserstein(
    key: Key[Array, ""], x: Real[AnyArray, "n d"], y: Real[AnyArray, "m d"], n_projections: int = 100
) -> float:
    """Sliced 1-Wasserstein distance: ``wasserstein_1d`` of the projections on a random direction, averaged.

    SW₁ = E_θ W₁(θ·x, θ·y) with θ uniform on the unit sphere, in the units of the data. A shift of all points by δ gives
    |δ| Γ(d/2) / (√π Γ((d+1)/2)), about |δ| √(2/πd): less in more dimensions.
    Null: positive, as for ``wasserstein_1d`` with the distribution function of θ·x.
    Raises ValueError for fewer than 2 rows, unequal widths, NaN, infinity or fewer than 1 projection.
    Source: Rabin et al. (2011).
    """
    _check.key("key", key)
    x, y = pair(x, y)
    n_projections = _check.integer("n_projections", n_projections)
    directions = rng_from_key(key).standard_normal((x.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    return float(np.mean([stats.wasserstein_distance(a, b) for a, b in zip((x @ directions).T, (y @ directions).T)]))
