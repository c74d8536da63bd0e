"""What there is to learn from. Nothing here needs a download except ``benchmarks``.

Every source takes its randomness as a key, gives the same draws for the same key, and knows its own truth
(a density, an entropy, the factors that made a picture), so that a model can be held to it.
"""

import jax
import numpy as np

from genai_course import _check


def rng_from_key(key: jax.Array) -> np.random.Generator:
    """NumPy generator seeded by a JAX key, for sources that are drawn with NumPy and SciPy.

    The key is consumed, so JAX's key-reuse check sees a source that draws twice from one key.
    """
    bits = jax.random.bits(_check.key("key", key), (4,), "uint32")
    return np.random.default_rng(np.asarray(bits).tolist())
