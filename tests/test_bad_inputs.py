"""Bad arguments for glyphs, networks, the VAE, ``fit`` and the figures; the other modules' are in their own tests."""

import functools
import math

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
    NOT_POSITIVE,
    assert_named,
    spoiled,
    table,
    two_keys,
    unchecked,
)
from hypothesis import given
from hypothesis import strategies as st

from genai_course import nets, plot
from genai_course.data import glyphs, rng_from_key
from genai_course.models.vae import VAE
from genai_course.train import fit

KEYS = [*NOT_A_KEY, two_keys]
LETTER = glyphs.Face("nowhere.ttf", "Nowhere", bold=False, italic=False)


def one_glyph() -> dict:
    middle = [[sum(limits) / 2 for limits in glyphs.FACTORS.values()]]
    return {"character": np.array([3]), "face": np.array([0]), "factors": np.array(middle)}


def factors(**changes: float) -> np.ndarray:
    return np.array([[changes.get(name, 1.0) for name in glyphs.FACTORS]])


GLYPHS = [
    *table(rng_from_key, dict, {"key": KEYS}),
    *table(
        glyphs.sample,
        lambda: {"key": jax.random.key(0), "n": 2},
        {
            "key": KEYS,
            "n": [*NOT_A_WHOLE, -1],
            "characters": ["", "a", "0é", 7, None, ["0"], "0 1"],
            "faces": [(), None, "DejaVuSans", [0], [LETTER], [None], 3, [[glyphs.FACES[0]]]],
            "elastic": [*NOT_FINITE, -0.1],
        },
    ),
    *table(
        glyphs.render,
        one_glyph,
        {
            "character": [
                *NOT_AN_ARRAY,
                np.array([10]),
                np.array([-1]),
                np.array([1.0]),
                np.array([True]),
                np.array(3),
            ],
            "face": [*NOT_AN_ARRAY, np.array([20]), np.array([-1]), np.array([0.0]), np.array([0, 1]), np.array(0)],
            "factors": [
                *NOT_AN_ARRAY,
                *spoiled((1, 7)),
                np.ones((2, 7)),
                np.ones((1, 6)),
                factors(scale=0.0),
                factors(aspect=-1.0),
            ],
            "warp": [*[bad for bad in NOT_AN_ARRAY if bad is not None], *spoiled((1, 2, 4, 4)), np.ones((1, 2, 3, 4))],
            "characters": ["", 5],
            "faces": [[], glyphs.Face],
        },
    ),
]


def key() -> jax.Array:
    return jax.random.key(0)


NETS = [
    *table(
        nets.MLP,
        lambda: {"sizes": (4, 3, 6), "key": key()},
        {
            "sizes": [(), (4,), 4, "46", None, (4, 0), (4, -1), (4, 2.0), (4, True), (4, None), {4: 6}],
            "key": KEYS,
            "activation": NOT_A_FUNCTION,
            "out_shape": [(7,), (2, 2), (), 6, "6", (6, 1.0), (-6, -1), (0, 6)],
        },
    ),
    *table(
        lambda x: nets.MLP((4, 6), key=key())(x),
        dict,
        {"x": [*NOT_AN_ARRAY, *spoiled((4,))[:3], jnp.ones(5), jnp.ones((2, 4))]},
    ),
    *table(
        nets.space_to_depth, dict, {"x": [*NOT_AN_ARRAY, *spoiled((1, 4, 4)), np.ones((1, 3, 4)), np.ones((1, 4, 5))]}
    ),
    *table(
        nets.depth_to_space, dict, {"x": [*NOT_AN_ARRAY, *spoiled((4, 2, 2)), np.ones((3, 2, 2)), np.ones((6, 2, 2))]}
    ),
    *table(
        nets.ConvEncoder,
        lambda: {"out_size": 4, "key": key()},
        {"out_size": NOT_A_COUNT, "key": KEYS, "size": [*NOT_A_COUNT, 30], "width": NOT_A_COUNT, "hidden": NOT_A_COUNT},
    ),
    *table(
        nets.ConvDecoder,
        lambda: {"in_size": 4, "key": key()},
        {"in_size": NOT_A_COUNT, "key": KEYS, "size": [*NOT_A_COUNT, 30], "width": NOT_A_COUNT, "hidden": NOT_A_COUNT},
    ),
    *table(
        lambda x: nets.ConvEncoder(4, key=key(), size=8)(x),
        dict,
        {"x": [*NOT_AN_ARRAY, *spoiled((8, 8)), np.ones((8, 12))]},
    ),
    *table(
        lambda z: nets.ConvDecoder(4, key=key(), size=8)(z), dict, {"z": [*NOT_AN_ARRAY, *spoiled((4,)), np.ones(5)]}
    ),
    *table(nets.parameter_count, dict, {"model": [None, 3, "model", np.ones(3), VAE]}),
]

IDS = [*NOT_AN_ARRAY, np.array([[0]]), np.array([0.0, 1.0]), np.array([], int), np.array([0, 4]), np.array([-1, 0])]
ONE_ID = [*NOT_AN_ARRAY, np.array([0]), 0.0, 4, -1]
VECTORS = [*NOT_AN_ARRAY, *spoiled((5, 3)), np.ones((5, 4)), np.ones((5, 4, 1))]
STATES = [*NOT_AN_ARRAY, *spoiled((6,)), np.ones(5)]


@functools.cache
def gru(embed: int | None) -> nets.GRU:
    return nets.GRU(3 if embed is None else 4, 4, key=key(), hidden=6, embed=embed)


@functools.cache
def transformer() -> nets.Transformer:
    return nets.Transformer(4, 5, key=key(), width=8, heads=2)


SEQUENCES = [
    *table(
        nets.GRU,
        lambda: {"in_size": 4, "out_size": 4, "key": key()},
        {
            "in_size": NOT_A_COUNT,
            "out_size": NOT_A_COUNT,
            "key": KEYS,
            "hidden": NOT_A_COUNT,
            "embed": [bad for bad in NOT_A_COUNT if bad is not None],
        },
    ),
    *table(
        nets.Transformer,
        lambda: {"vocabulary_size": 4, "length": 5, "key": key()},
        {
            "vocabulary_size": NOT_A_COUNT,
            "length": NOT_A_COUNT,
            "key": KEYS,
            "width": [*NOT_A_COUNT, 62],
            "heads": NOT_A_COUNT,
            "layers": NOT_A_COUNT,
            "mlp": [None, 0, 1, "yes"],
            "position": ["learned", "", None, 3],
        },
    ),
    *table(lambda xs: gru(None)(xs), dict, {"xs": VECTORS}),
    *table(lambda xs: gru(3)(xs), dict, {"xs": IDS}),
    *table(
        lambda **inputs: gru(None).run(**inputs),
        lambda: {"state": np.zeros(6), "xs": np.ones((5, 3))},
        {"state": STATES, "xs": VECTORS},
    ),
    *table(
        lambda **inputs: gru(None).step(**inputs),
        lambda: {"state": np.zeros(6), "x": np.ones(3)},
        {"state": STATES, "x": [*NOT_AN_ARRAY, *spoiled((3,)), np.ones(4)]},
    ),
    *table(lambda x: gru(3).step(np.zeros(6), x), dict, {"x": ONE_ID}),
    *table(lambda length: gru(3).start(length), dict, {"length": [bad for bad in NOT_A_COUNT if bad is not None]}),
    *table(lambda ids: transformer()(ids), dict, {"ids": [*IDS, np.zeros(6, int)]}),
    *table(lambda ids: transformer().attention(ids), dict, {"ids": [*IDS, np.zeros(6, int)]}),
    *table(
        lambda **inputs: transformer().step(**inputs),
        lambda: {"cache": transformer().start(), "x": 0},
        {"cache": [None, 3, np.zeros(6), ()], "x": ONE_ID},
    ),
    *table(
        lambda length: transformer().start(length), dict, {"length": [*[b for b in NOT_A_COUNT if b is not None], 6]}
    ),
]

CLASSES = [None, "3", 2.5, (3, 0), (3, -1), (3, 2.0), 0, -1]
LABELS = [3, -2, 0.5, "a", object(), np.array([0, 1])]
DENOISERS = [
    *table(
        nets.time_embedding,
        lambda: {"t": 0.5, "size": 8},
        {"t": [*NOT_AN_ARRAY, math.nan, np.ones(2)], "size": [*NOT_A_COUNT, 7]},
    ),
    *table(
        nets.ResidualMLP,
        lambda: {"size": 4, "key": key()},
        {
            "size": NOT_A_COUNT,
            "key": KEYS,
            "width": NOT_A_COUNT,
            "depth": NOT_A_COUNT,
            "classes": CLASSES,
            "features": [*NOT_A_WHOLE, -1],
        },
    ),
    *table(
        nets.UNet,
        lambda: {"key": key(), "size": 4, "width": 4},
        {
            "key": KEYS,
            "size": [*NOT_A_COUNT, 18],
            "width": [*NOT_A_COUNT, 6],
            "classes": CLASSES,
            "features": [*NOT_A_WHOLE, -1],
        },
    ),
    *table(lambda features: nets.UNet(key=key(), classes=3, features=features), dict, {"features": [2]}),
    *table(
        lambda **inputs: nets.ResidualMLP(4, key=key(), width=4, depth=1, classes=3)(**inputs),
        lambda: {"x": np.ones(4), "t": 0.5, "label": 1},
        {"x": [*NOT_AN_ARRAY, *spoiled((4,))[:3], np.ones(5)], "t": [*NOT_AN_ARRAY, math.nan], "label": LABELS},
    ),
    *table(
        lambda **inputs: nets.ResidualMLP(4, key=key(), width=4, depth=1, features=2)(**inputs),
        lambda: {"x": np.ones(4), "t": 0.5},
        {"label": [None, 1, np.ones(3), np.array([0.0, math.nan])]},
    ),
    *table(
        lambda **inputs: nets.UNet(key=key(), size=4, width=4, classes=3)(**inputs),
        lambda: {"x": np.ones((4, 4)), "t": 0.5, "label": 1},
        {"x": [*NOT_AN_ARRAY, *spoiled((4, 4)), np.ones((4, 8))], "t": [*NOT_AN_ARRAY, math.nan], "label": LABELS},
    ),
]


@functools.cache
def vae() -> VAE:
    a, b = jax.random.split(jax.random.key(1))
    return VAE(nets.MLP((4, 6), key=a), nets.MLP((3, 4), key=b, out_shape=(2, 2)), 3)


PICTURES = [*NOT_AN_ARRAY, *spoiled((2, 2))[:3], np.ones(3), np.ones((3, 2))]
LATENTS = [*NOT_AN_ARRAY, *spoiled((3,)), np.ones(2)]


def x_and_key() -> dict:
    return {"x": jnp.ones((2, 2)), "key": key()}


MODEL = [
    *table(
        VAE,
        lambda: {"encoder": nets.MLP((4, 6), key=key()), "decoder": nets.MLP((3, 4), key=key()), "latent_size": 3},
        {
            "encoder": NOT_A_FUNCTION,
            "decoder": NOT_A_FUNCTION,
            "latent_size": NOT_A_COUNT,
            "likelihood": ["normal", "", None, 3, ["gaussian"]],
            "scale": NOT_POSITIVE,
            "beta": [*NOT_FINITE, -0.5],
        },
    ),
    *table(lambda **arguments: vae().elbo(**arguments), x_and_key, {"x": PICTURES, "key": KEYS}),
    *table(lambda **arguments: vae().loss(**arguments), x_and_key, {"x": PICTURES, "key": KEYS}),
    *table(lambda **arguments: vae().terms(**arguments), x_and_key, {"x": PICTURES, "key": KEYS}),
    *table(
        lambda **arguments: vae().iwae_bound(**arguments),
        lambda: x_and_key() | {"k": 2},
        {"x": PICTURES, "key": KEYS, "k": NOT_A_COUNT},
    ),
    *table(lambda x: vae().encode(x), dict, {"x": PICTURES}),
    *table(
        lambda **arguments: vae().log_likelihood(**arguments),
        lambda: {"x": jnp.ones((2, 2)), "z": jnp.ones(3)},
        {"x": [*NOT_AN_ARRAY, *spoiled((2, 2))[:3]], "z": LATENTS},
    ),
    *table(lambda z: vae().mean(z), dict, {"z": LATENTS}),
    *table(lambda key: vae().sample(key), dict, {"key": KEYS}),
    *table(lambda key: vae().sample_mean(key), dict, {"key": KEYS}),
]


def training() -> dict:
    return {"model": vae(), "data": jnp.ones((8, 2, 2)), "key": key(), "steps": 1}


ROWS = [[], (), {}, np.ones((0, 2, 2)), np.float64(1.0), (np.ones((3, 2)), np.ones((4, 2))), "rows", [object()]]
TRAIN = [
    *table(
        fit,
        training,
        {
            "model": [None, 3, "vae", np.ones(3), VAE, jax.nn.gelu],
            "data": [*ROWS, None, *spoiled((8, 2, 2))[:3], lambda key, n: jnp.ones((n + 1, 2, 2)), lambda key, n: None],
            "key": KEYS,
            "steps": [*NOT_A_WHOLE, -1],
            "loss": [3, "loss", [len], lambda model, x, key: x],
            "batch_size": NOT_A_COUNT,
            "optimizer": [3, "adam", {}, optax.adam, [optax.adam(1e-3)]],
            "valid": [*ROWS, *spoiled((8, 2, 2))[:3]],
            "valid_every": NOT_A_COUNT,
            "patience": [*[bad for bad in NOT_A_COUNT if bad is not None], 3],
            "checkpoint": [3, True, b"run", ["run"], ".", ""],
            "checkpoint_every": NOT_A_COUNT,
            "mesh": [8, "mesh", jax.devices, [1]],
        },
    ),
]

GRID = [*NOT_AN_ARRAY, *spoiled((2, 3, 3)), np.ones((0, 3, 3)), np.ones((2, 0, 3)), np.ones((2, 3, 0))]
PLOT = [
    *table(
        plot.image_grid,
        lambda: {"images": np.ones((2, 3, 3))},
        {"images": GRID, "columns": NOT_A_COUNT, "ax": [3, "ax", [None]]},
    ),
    *table(plot.image_rows, dict, {"rows": [None, {}, 3, "rows", np.ones((2, 3, 3)), *({"a": bad} for bad in GRID)]}),
    *table(
        plot.loss_curve,
        lambda: {"history": {"loss": np.ones(5)}},
        {
            "history": [None, {}, 3, np.ones(5), {"loss": "abc"}, {"loss": np.ones((5, 1))}, {"loss": [1.0, math.nan]}],
            "names": ["loss", 3, ["rate"], ["loss", "rate"], [3], [["loss"]]],
            "floor": [bad for bad in NOT_FINITE if bad is not None],
            "smooth": NOT_A_COUNT,
            "ax": [3, "ax"],
        },
    ),
    *table(
        plot.density,
        lambda: {"log_prob": lambda x: -(x @ x) / 2},
        {
            "log_prob": [*NOT_A_FUNCTION, lambda x: x],
            "extent": [*NOT_AN_ARRAY, (0, 1), (1, 0, 0, 1), (0, 1, 1, 1), (0, math.inf, 0, 1), (math.nan, 1, 0, 1)],
            "ax": [3, "ax"],
        },
    ),
]
BAD = GLYPHS + NETS + SEQUENCES + DENOISERS + MODEL + TRAIN + PLOT


@pytest.mark.parametrize(("function", "good", "argument", "value"), BAD)
def test_bad_arguments_are_named(function, good, argument, value):
    assert_named(function, good, argument, value)


@pytest.mark.parametrize(
    "function",
    [
        *(glyphs.sample, glyphs.render, nets.MLP, nets.ConvEncoder, VAE, fit, plot.loss_curve),
        *(nets.GRU, nets.Transformer, nets.ResidualMLP, nets.UNet, nets.time_embedding),
    ],
)
def test_the_good_arguments_of_the_table_are_good(function):
    """Otherwise an error could be about something else."""
    good = next(case.values[1] for case in BAD if case.values[0] is function)
    function(**good())


WRONG_SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@given(WRONG_SHAPES)
def test_any_shape_is_taken_or_refused_by_name(shape):
    x = np.zeros(shape)
    for function, argument, fits in [
        (lambda x: nets.MLP((4, 6), key=key())(x), "x", math.prod(shape) == 4),
        (nets.space_to_depth, "x", len(shape) == 3 and shape[1] % 2 == 0 and shape[2] % 2 == 0),
        (nets.depth_to_space, "x", len(shape) == 3 and shape[0] % 4 == 0),
        (lambda images: plot.image_grid(images), "images", len(shape) == 3 and 0 not in shape),
    ]:
        if fits:
            with unchecked():
                function(x)
        else:
            assert_named(function, dict, argument, x)
