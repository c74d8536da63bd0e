"""Argument checks: whatever comes in is returned unchanged or refused with an error that begins with its name."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from genai_course import _check

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.fractions(),
    st.integers(-5, 5).map(np.int64),
    st.floats(width=32).map(np.float32),
)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int32, np.bool_, np.complex64, "U2", "M8[s]", object]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


def result(check, *arguments, **options):
    """What a check returns, or the error that it raises if that begins with the argument's name."""
    try:
        return check("name", *arguments, **options)
    except (TypeError, ValueError) as error:
        if not str(error).startswith("name must"):
            raise
        return error


@given(ANYTHING, st.integers(-3, 3))
def test_integer(value, least):
    found = result(_check.integer, value, least=least)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and value >= least:
        assert type(found) is int
        assert found == value
    else:
        assert type(found) is (ValueError if whole else TypeError)


@given(ANYTHING)
def test_integers(value):
    found = result(_check.integers, value)
    good = isinstance(value, list) and all(type(v) in (int, np.int64) and v >= 1 for v in value)
    if good or value in ("", b""):
        assert found == tuple(value)
    elif not (isinstance(value, bytes) and 0 not in value):  # the items of bytes are whole numbers
        assert isinstance(found, Exception)


def test_integers_takes_arrays_and_tuples():
    assert _check.integers("name", np.array([2, 3])) == (2, 3)
    assert _check.integers("name", (0, 3), least=0) == (0, 3)


@given(ANYTHING, st.sampled_from(["none", "above", "least", "most"]), st.floats(-3, 3))
def test_number(value, bound, limit):
    found = result(_check.number, value, **({} if bound == "none" else {bound: limit}))
    real = isinstance(value, int | float | Fraction | np.number) and not isinstance(value, bool)
    inside = (
        real
        and {
            "none": lambda: True,
            "above": lambda: value > limit,
            "least": lambda: value >= limit,
            "most": lambda: value <= limit,
        }[bound]()
    )
    if real and abs(value) < 1e300 and inside:
        assert type(found) is float
        assert found == float(value)
    elif not real or not math.isfinite(value) or not inside:
        assert type(found) is (ValueError if real else TypeError)


def test_number_names_its_bounds():
    with pytest.raises(ValueError, match=r"^rate must be > 0 and <= 1, got 2$"):
        _check.number("rate", 2, above=0.0, most=1.0)
    with pytest.raises(ValueError, match=r"^rate must be >= -1, got -2.5$"):
        _check.number("rate", -2.5, least=-1.0)


@given(ANYTHING)
def test_choice(value):
    found = result(_check.choice, value, ("", "half"))
    if value in ("", "half"):
        assert found == value
    else:
        assert type(found) is ValueError


@given(ANYTHING)
def test_function_and_key_refuse_values(value):
    assert type(result(_check.function, value)) is TypeError
    assert type(result(_check.key, value)) is TypeError


def test_function_and_key_return_functions_and_keys():
    key = jax.random.key(0)
    assert _check.function("name", math.exp) is math.exp
    assert _check.key("name", key) is key
    for bad, error in [
        (jax.random.key_data(key), TypeError),  # the raw numbers of a key
        (jax.random.split(key, 2), ValueError),
        (jax.random.split(jax.random.key(1), 2)[:0], ValueError),
    ]:
        assert type(result(_check.key, bad)) is error


def test_key_passes_inside_jit():
    draw = jax.jit(lambda key: jax.random.normal(_check.key("key", key)))
    assert draw(jax.random.key(0)) == jax.random.normal(jax.random.key(0))


@given(ARRAYS)
def test_array(value):
    found = result(_check.array, value)
    if value.dtype.kind not in "fciub":
        assert type(found) is TypeError
    elif not np.all(np.isfinite(value)):
        assert type(found) is ValueError
        assert _check.array("name", value, finite=False) is value
    else:
        assert found is value


@given(ARRAYS.filter(lambda a: a.dtype.kind in "ib"), st.lists(st.sampled_from([None, 0, 1, 2, 3]), max_size=3))
def test_array_shape(value, wanted):
    fits = len(wanted) == value.ndim and all(w in (None, size) for w, size in zip(wanted, value.shape))
    found = result(_check.array, value, shape=tuple(wanted))
    assert found is value if fits else type(found) is ValueError
    found = result(_check.array, value, ndim=len(wanted))
    assert found is value if len(wanted) == value.ndim else type(found) is ValueError


@given(ANYTHING)
def test_array_of_anything_else(value):
    """Numbers and rectangular lists of them become arrays; the rest is refused by name."""
    found = result(_check.array, value)
    assert isinstance(found, np.ndarray | TypeError | ValueError)
    if isinstance(value, int | float | complex) and np.isfinite(np.asarray(value, complex)):
        assert found.shape == ()
    if value is None or isinstance(value, str | bytes):
        assert type(found) is TypeError


def test_array_looks_at_values_only_where_there_are_any():
    bad = jnp.array([1.0, jnp.nan])
    assert isinstance(result(_check.array, bad), ValueError)
    assert jnp.isnan(jax.jit(lambda x: _check.array("x", x).sum())(bad))
    with pytest.raises(ValueError, match=r"^x must have 2 dimensions"):
        jax.jit(lambda x: _check.array("x", x, ndim=2))(bad)
    with pytest.raises(TypeError, match=r"^x must hold numbers"):
        _check.array("x", jax.random.split(jax.random.key(0)))


def test_array_keeps_the_kind_of_array():
    x = jnp.ones(3)
    assert _check.array("x", x) is x
    assert isinstance(_check.array("x", [1, 2]), np.ndarray)
    assert _check.array("x", jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
