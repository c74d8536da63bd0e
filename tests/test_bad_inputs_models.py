"""Bad arguments for the flows and the GAN."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import (
    NOT_A_COUNT,
    NOT_A_FUNCTION,
    NOT_A_KEY,
    NOT_A_WHOLE,
    NOT_AN_ARRAY,
    NOT_FINITE,
    assert_named,
    spoiled,
    table,
    two_keys,
)

from genai_course import nets
from genai_course.models.flow import MAF, RealNVP
from genai_course.models.gan import GAN, fit_gan, r1_penalty, unit_slope_penalty

KEYS = [*NOT_A_KEY, two_keys]
POINTS = [*NOT_AN_ARRAY, *spoiled((3,)), np.ones(2), np.ones((2, 3))]
NOT_A_WEIGHT = [*NOT_FINITE, -0.5]  # never a number of at least 0


def key() -> jax.Array:
    return jax.random.key(0)


@functools.cache
def flow(kind) -> eqx.Module:
    return kind(3, key=key(), layers=2, width=4)


FLOWS = [
    case
    for kind, sizes in ((RealNVP, [*NOT_A_COUNT, 1]), (MAF, NOT_A_COUNT))
    for case in [
        *table(
            kind,
            lambda: {"size": 3, "key": key()},
            {"size": sizes, "key": KEYS, "layers": NOT_A_COUNT, "width": NOT_A_COUNT, "depth": NOT_A_COUNT},
        ),
        *table(lambda z, kind=kind: flow(kind).forward(z), dict, {"z": POINTS}),
        *table(lambda x, kind=kind: flow(kind).inverse(x), dict, {"x": POINTS}),
        *table(lambda x, kind=kind: flow(kind).log_prob(x), dict, {"x": POINTS}),
        *table(lambda x, kind=kind: flow(kind).loss(x, key()), dict, {"x": POINTS}),
        *table(lambda key, kind=kind: flow(kind).sample(key), dict, {"key": KEYS}),
    ]
]


@functools.cache
def gan() -> GAN:
    a, b = jax.random.split(jax.random.key(1))
    return GAN(nets.MLP((3, 4, 2), key=a), nets.MLP((2, 4, 1), key=b, out_shape=()), 3)


def networks() -> dict:
    return {"generator": gan().generator, "discriminator": gan().discriminator, "latent_size": 3}


def training() -> dict:
    return {"gan": gan(), "data": jnp.ones((8, 2)), "key": key(), "steps": 1}


PICTURES = [*NOT_AN_ARRAY, *spoiled((2,))[:3]]
ROWS = [[], (), {}, np.ones((0, 2)), np.float64(1.0), (np.ones((3, 2)), np.ones((4, 2))), "rows", [object()], None]
WRONG_PAIRS = [(np.ones((8, 2)),), (np.ones((8, 2)),) * 3, {"x": np.ones((8, 2))}, *spoiled((8, 2))[:3]]
OPTIMIZERS = [3, "adam", {}, optax.adam, [optax.adam(1e-3)]]
GANS = [
    *table(
        GAN,
        networks,
        {
            "generator": NOT_A_FUNCTION,
            "discriminator": NOT_A_FUNCTION,
            "latent_size": NOT_A_COUNT,
            "loss": ["hinge", "", None, 3, ["saturating"]],
            "r1": NOT_A_WEIGHT,
            "gradient_penalty": NOT_A_WEIGHT,
        },
    ),
    *table(lambda z: gan().generate(z), dict, {"z": [*NOT_AN_ARRAY, *spoiled((3,)), np.ones(2)]}),
    *table(lambda key: gan().sample(key), dict, {"key": KEYS}),
    *table(lambda x: gan().logit(x), dict, {"x": PICTURES}),
    *table(
        lambda **arguments: gan().discriminator_loss(**arguments),
        lambda: {"x": jnp.ones(2), "key": key()},
        {"x": PICTURES, "key": KEYS},
    ),
    *table(lambda key: gan().generator_loss(key), dict, {"key": KEYS}),
    *(
        case
        for penalty in (r1_penalty, unit_slope_penalty)
        for case in table(
            penalty, lambda: {"logit": jnp.sum, "x": jnp.ones(2)}, {"logit": NOT_A_FUNCTION, "x": PICTURES}
        )
    ),
    *table(
        fit_gan,
        training,
        {
            "gan": [None, 3, "gan", np.ones(3), GAN, nets.MLP((2, 2), key=key())],
            "data": [*ROWS, *WRONG_PAIRS, lambda key, n: jnp.ones((n + 1, 2)), lambda key, n: None],
            "key": KEYS,
            "steps": [*NOT_A_WHOLE, -1],
            "batch_size": NOT_A_COUNT,
            "optimizer": OPTIMIZERS,
            "discriminator_optimizer": OPTIMIZERS,
            "discriminator_steps": NOT_A_COUNT,
            "ema": [*NOT_FINITE, -0.1, 1.1],
        },
    ),
]
BAD = FLOWS + GANS


@pytest.mark.parametrize(("function", "good", "argument", "value"), BAD)
def test_bad_arguments_are_named(function, good, argument, value):
    assert_named(function, good, argument, value)


@pytest.mark.parametrize("function", [RealNVP, MAF, GAN, fit_gan])
def test_the_good_arguments_of_the_table_are_good(function):
    """Otherwise an error could be about something else."""
    good = next(case.values[1] for case in BAD if case.values[0] is function)
    function(**good())
