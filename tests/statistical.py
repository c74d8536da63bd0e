"""What statistical tests share: a generator with a fixed key, bounds of 4 standard errors (two-sided alpha 6e-5)."""

import jax
import numpy as np
from scipy import stats

from genai_course.data import rng_from_key


def draw(seed: int) -> np.random.Generator:
    return rng_from_key(jax.random.key(seed))


def assert_mean(values, truth: float) -> None:
    """The mean of independent ``values`` is within 4 standard errors of ``truth``."""
    values = np.asarray(values, float)
    assert abs(values.mean() - truth) < 4 * stats.sem(values), (values.mean(), truth, stats.sem(values))


def assert_variance(values, truth: float) -> None:
    """So is the variance."""
    values = np.asarray(values, float)
    assert_mean((values - values.mean()) ** 2 * len(values) / (len(values) - 1), truth)
