"""Bad arguments for the package's public functions: each must give an error that begins with the argument's name.

A test module lists what is bad with ``table`` and hands the list to ``assert_named``::

    BAD = table(toys.ring, dict, {"modes": NOT_A_COUNT, "radius": NOT_POSITIVE})

    @pytest.mark.parametrize(("function", "good", "argument", "value"), BAD)
    def test_bad_arguments_are_named(function, good, argument, value):
        assert_named(function, good, argument, value)

The error must come from the package's own checks: neither from the type checker, which is switched off for the call,
nor from within JAX, NumPy or matplotlib.
"""

import contextlib
import math
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest

import genai_course

PACKAGE = Path(genai_course.__file__).parent

NOT_A_WHOLE = [2.5, True, "3", None, math.nan, [1]]  # never a whole number
NOT_A_COUNT = [*NOT_A_WHOLE, 0, -1]  # never a whole number above 0
NOT_FINITE = ["1", None, True, 1j, [1.0], math.nan, math.inf, -math.inf]  # never a finite number
NOT_POSITIVE = [*NOT_FINITE, 0.0, -1.0]  # never a number above 0
NOT_A_KEY = [0, None, "key", np.zeros(2, np.uint32)]  # never one typed JAX key; see also ``two_keys``
NOT_AN_ARRAY = ["abc", None, object(), [[1.0, 2.0], [3.0]], {"a": 1.0}]  # never an array of numbers
NOT_A_FUNCTION = [None, 3, "exp", [math.exp]]


def two_keys() -> jax.Array:
    """An array of keys, where one is wanted."""
    return jax.random.split(jax.random.key(0))


def spoiled(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays of the right ``shape`` with one value that is not finite, and of the wrong rank."""
    bad = [np.ones(shape) for _ in range(3)]
    for array, value in zip(bad, (math.nan, math.inf, -math.inf)):
        array.flat[0] = value
    return [*bad, np.ones((*shape, 1)), np.ones(shape[1:]) if len(shape) > 1 else np.float64(1.0)]


def table(function: Callable, good: Callable[[], dict], bad: dict[str, list]) -> list:
    """One test parameter for each bad value; ``good()`` makes the arguments that stay as they should be."""
    name = getattr(function, "__qualname__", repr(function))
    return [
        pytest.param(function, good, argument, value, id=f"{name}-{argument}-{i}")
        for argument, values in bad.items()
        for i, value in enumerate(values)
    ]


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Switch the type checker off, so that the package's own checks are what is tested."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def assert_named(function: Callable, good: Callable[[], dict], argument: str, value) -> None:
    """``function`` refuses ``value`` with a ``ValueError`` or ``TypeError`` that begins with the argument's name."""
    arguments = good() | {argument: value() if value is two_keys else value}
    with unchecked(), pytest.raises((ValueError, TypeError), match=rf"^{argument}\b") as caught:
        function(**arguments)
    raised_in = Path(traceback.extract_tb(caught.tb)[-1].filename)
    assert raised_in.is_relative_to(PACKAGE), f"raised by {raised_in}"
