"""Argument checks of the metrics: real numbers in float64, sample sets that fit together, symmetric matrices."""

import jax
import jax.numpy as jnp
import numpy as np

from genai_course import _check

AnyArray = np.ndarray | jax.Array
LARGEST = float(np.finfo(np.float32).max)  # so that no sixth power (KID) overflows in float64


def real(name: str, value, *, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return ``value`` in float64 if it is a finite array of real numbers of that shape."""
    value = _check.array(name, value, shape=shape)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}")
    value = np.asarray(value, np.float64)
    if value.size and np.abs(value).max() > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST:.1e} in size, got {np.abs(value).max():.1e}")
    return value


def pair(x, y, names: tuple[str, str] = ("x", "y"), least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return two sample sets in float64 if they have equal widths and ``least`` rows or more."""
    x = real(names[0], x, shape=(None, None))
    width = x.shape[1]
    y = real(names[1], y, shape=(None, width))
    for name, value in zip(names, (x, y)):
        if len(value) < least or not width:
            raise ValueError(f"{name} must have at least {least} rows and 1 column, got shape {value.shape}")
    return x, y


def symmetric(name: str, value, size: int | None = None) -> np.ndarray:
    """Return ``value`` in float64 if it is a square matrix, symmetric up to the rounding of float32."""
    matrix = real(name, value, shape=(size, size))
    if matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"{name} must be square, got shape {matrix.shape}")
    difference = np.abs(matrix - matrix.T).max()
    if difference > 1e-5 * np.abs(matrix).max():
        raise ValueError(f"{name} must be symmetric, got entries that differ by {difference:.3g} from their mirror")
    return (matrix + matrix.T) / 2
