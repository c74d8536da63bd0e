"""Argument checks shared by the package: a bad argument gets an error that names it, before anything compiles."""

import math
import numbers
from collections.abc import Callable, Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np


def integer(name: str, value, *, least: int = 1) -> int:
    """Return ``value`` as an ``int`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} ({value!r:.60})")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def integers(name: str, value, *, least: int = 1) -> tuple[int, ...]:
    """Return ``value`` as a tuple if it is a sequence of whole numbers of at least ``least``."""
    if not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a sequence of integers, got {type(value).__name__} ({value!r:.60})")
    return tuple(integer(name, item, least=least) for item in value)


def number(name: str, value, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> float:
    """Return ``value`` as a ``float`` if it is finite, greater than ``above`` and within [``least``, ``most``]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} ({value!r:.60})")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if value <= above or value < least or value > most:
        bounds = [f"> {above:g}"] * (above > -math.inf) + [f">= {least:g}"] * (least > -math.inf)
        bounds += [f"<= {most:g}"] * (most < math.inf)
        raise ValueError(f"{name} must be {' and '.join(bounds)}, got {value}")
    return float(value)


def choice(name: str, value, allowed: Collection[str]) -> str:
    """Return ``value`` if it is one of the ``allowed`` words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r:.60}")
    return value


def function(name: str, value) -> Callable:
    """Return ``value`` if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {type(value).__name__} ({value!r:.60})")
    return value


def optimizer(name: str, value):
    """Return ``value`` if it is an Optax transformation."""
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise TypeError(f"{name} must be an Optax transformation, got {type(value).__name__}")
    return value


def key(name: str, value) -> jax.Array:
    """Return ``value`` if it is one typed PRNG key, as ``jax.random.key`` makes it."""
    if not isinstance(value, jax.Array) or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name} must be a key from jax.random.key(seed), got {type(value).__name__} ({value!r:.60})")
    if value.ndim:
        raise ValueError(f"{name} must be one key, got an array of keys of shape {value.shape}; use one of them")
    return value


def array(
    name: str, value, *, shape: tuple[int | None, ...] | None = None, ndim: int | None = None, finite: bool = True
) -> np.ndarray | jax.Array:
    """Return ``value`` as a numeric array of the given ``shape`` (``None``: any size) or number of dimensions.

    Values are looked at only where they exist: inside ``jax.jit`` an array has a shape but no values yet.
    """
    if not isinstance(value, np.ndarray | jax.Array):
        try:
            value = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be an array, got {type(value).__name__}: {error}") from None
    if value.dtype != bool and not jnp.issubdtype(value.dtype, jnp.number):
        raise TypeError(f"{name} must hold numbers, got dtype {value.dtype}")
    if shape is not None:
        ndim = len(shape)
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {value.shape}")
    if shape is not None and any(want is not None and want != got for want, got in zip(shape, value.shape)):
        raise ValueError(f"{name} must have shape {tuple('any' if s is None else s for s in shape)}, got {value.shape}")
    if finite and not isinstance(value, jax.core.Tracer) and not bool(np.all(np.isfinite(np.asarray(value)))):
        raise ValueError(f"{name} must be finite, got NaN or infinity in shape {value.shape}")
    return value
