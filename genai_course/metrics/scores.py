"""Scores of probabilities: bits per dimension and per character, perplexity, calibration, and a mean with its error."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, Real

from genai_course import _check
from genai_course.metrics._inputs import AnyArray, real


def bits_per_dimension(nats: float, dims: int, bin_width: float = 1.0) -> float:
    """Code length in bits per dimension from a negative log-likelihood of ``nats`` per example.

    nats / (dims · ln 2) − log₂ bin_width

    ``bin_width`` is the width of one level of the data in the units of the density: 1 for probabilities of whole
    levels, 1/256 for a density over 8-bit pixels that were dequantized by uniform noise and scaled to [0, 1). With it
    a density bounds the code length of the levels from above (Theis et al., 2016).
    Null: not 0. The truth gets the entropy of the data, and a uniform distribution over 256 levels gets 8 bits.
    Raises ValueError for NaN, infinity, ``dims`` below 1 or a width that is not positive.
    """
    nats, bin_width = _check.number("nats", nats), _check.number("bin_width", bin_width, above=0.0)
    return nats / (_check.integer("dims", dims) * math.log(2)) - math.log2(bin_width)


def bits_per_character(nats: float, characters: int) -> float:
    """Code length in bits per character of a text with negative log-likelihood ``nats``, whatever its tokens are.

    nats / (characters · ln 2). Null: the truth gets the entropy rate of the source in the mean, a uniform guess over an
    alphabet of V characters log₂ V. Raises ValueError for NaN, infinity or ``characters`` below 1.
    """
    return _check.number("nats", nats) / (_check.integer("characters", characters) * math.log(2))


def perplexity(nats: float, tokens: int) -> float:
    """Perplexity per token, exp(nats / tokens), of a text with negative log-likelihood ``nats``.

    Null: a uniform guess over V tokens gets V. Comparable for one tokenization only.
    Raises ValueError for NaN, infinity or ``tokens`` below 1.
    """
    with np.errstate(over="ignore"):  # infinity is the right answer there
        return float(np.exp(_check.number("nats", nats) / _check.integer("tokens", tokens)))


class MeanSE(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float


def mean_se(values: Real[AnyArray, " n"]) -> MeanSE:
    """Mean of independent values and its standard error, s/√n with the unbiased variance s².

    Null: (mean − truth)/se follows Student's t with n−1 degrees of freedom for Gaussian values, N(0, 1) for large n.
    Raises ValueError for fewer than 2 values, more than one dimension, NaN or infinity.
    """
    values = real("values", values, shape=(None,))
    if len(values) < 2:
        raise ValueError(f"values must hold at least 2 numbers, got {len(values)}")
    return MeanSE(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


class Calibration(NamedTuple):
    """Expected calibration error, what a calibrated model would get, and the table of a reliability diagram.

    error: expected calibration error; null_mean, null_sd: its mean and standard deviation for a calibrated model.
    edges: the borders of the bins; confidence, accuracy: means by bin (NaN where empty); count: examples by bin.
    """

    error: float
    null_mean: float
    null_sd: float
    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def calibration(
    probabilities: Real[AnyArray, "n classes"], labels: Integer[AnyArray, " n"], bins: int = 10
) -> Calibration:
    """Do predictions made with confidence c come true in a share c of the cases?

    ECE = Σ_b (n_b/n) |accuracy_b − confidence_b| over bins of equal width, where the confidence of an example is its
    largest probability and it is accurate if that class is its label.

    Null: not 0. For a calibrated model each term is |Σ_{i∈b} (Bernoulli(cᵢ) − cᵢ)| / n, so with v_b = Σ_{i∈b} cᵢ(1−cᵢ)
    the mean is √(2/π) Σ_b √v_b / n and the variance (1 − 2/π) Σ_b v_b / n² (normal approximation, v_b ≳ 5).
    Raises ValueError if rows are no probabilities summing to 1 (to 1e-3), a label is no column, or shapes disagree.
    Source: Guo et al. (2017); Naeini et al. (2015).
    """
    probabilities = real("probabilities", probabilities, shape=(None, None))
    n, classes = probabilities.shape
    if n < 1 or classes < 2:
        raise ValueError(f"probabilities must have at least 1 row and 2 columns, got shape {(n, classes)}")
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("probabilities must be at least 0 and sum to 1 in each row, got others")
    labels = np.asarray(_check.array("labels", labels, shape=(n,)))
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must hold integers, got dtype {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    bins = _check.integer("bins", bins)
    top = np.minimum(probabilities.max(axis=1), 1.0)
    hit = probabilities.argmax(axis=1) == labels
    which = np.minimum((top * bins).astype(int), bins - 1)
    count, sum_top, sum_hit, variance = (
        np.bincount(which, weight, minlength=bins) for weight in (None, top, hit, top * (1 - top))
    )
    per_example = np.where(count > 0, count, np.nan)
    return Calibration(
        error=float(np.abs(sum_hit - sum_top).sum() / n),
        null_mean=float(math.sqrt(2 / math.pi) * np.sqrt(variance).sum() / n),
        null_sd=float(math.sqrt((1 - 2 / math.pi) * variance.sum()) / n),
        edges=np.linspace(0, 1, bins + 1),
        confidence=sum_top / per_example,
        accuracy=sum_hit / per_example,
        count=count,
    )
