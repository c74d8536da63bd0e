"""Graphs of live figures, computed by ``runtime.js`` in Node, against JAX.

A new version of JAX may write functions with other primitives. These tests then fail by naming the one without a rule.
"""

import inspect
import json
import os
import shutil
import subprocess
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genai_course import live, nets
from genai_course.models import diffusion, flow, vae

RUNTIME = Path(live.__file__).with_name("runtime.js")
NODE = shutil.which("node")
if NODE is None and not os.environ.get("CI"):
    pytest.skip("node is not installed", allow_module_level=True)


def key(i: int):
    """A key made anew at every call: a test that traces a function twice uses its key twice."""
    return jax.random.fold_in(jax.random.key(0), i)


VECTOR, MATRIX, IMAGE = (jax.random.normal(key(i), shape) for i, shape in enumerate(((7,), (5, 6), (2, 8, 8))))
W = [jax.random.normal(k, (6, 6)) for k in jax.random.split(key(3), 4)]
KERNELS = jax.random.normal(key(4), (4, 2, 3, 3))
CAUSAL = jnp.tril(jnp.ones((5, 5), bool))
IDS = jnp.array([3, 0, 2, 4])


def computed(*cases):
    """Outputs of cases ``(function, inputs, weights)`` in Node, as lists of flat arrays."""
    spec = [
        {"graph": live.export(f, *xs, weights=weights), "inputs": [np.ravel(x).tolist() for x in xs]}
        for f, xs, weights in cases
    ]
    run = subprocess.run(
        [NODE, str(Path(__file__).with_name("run_live.js")), str(RUNTIME)],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [[np.array(y, float) for y in outputs] for outputs in json.loads(run.stdout)]


def lstm(x):
    cell = eqx.nn.LSTMCell(6, 5, key=key(5))

    def step(state, row):
        state = cell(row, state)
        return state, state[0]

    return jax.lax.scan(step, (jnp.zeros(5), jnp.zeros(5)), x)[1]


def energy_gradient(x):
    net = nets.MLP((7, 8, 1), key=key(6))
    return jax.grad(lambda x: net(x)[0])(x)


FUNCTIONS = {
    "arithmetic": (lambda x: (x + 1) * x - x / 3 + x**3 - 2.0**x, VECTOR),
    "exp and log": (lambda x: jnp.exp(x) + jnp.log1p(jnp.abs(x)) + jnp.expm1(x) + jnp.exp2(x), VECTOR),
    "trigonometry": (lambda x: jnp.sin(x) + jnp.cos(x) * jnp.tan(x / 9) + jnp.arctan2(x, x + 2), VECTOR),
    "activations": (lambda x: jax.nn.gelu(x) + jax.nn.silu(x) + jax.nn.softplus(x) + jax.nn.elu(x), VECTOR),
    "exact gelu": (lambda x: jax.nn.gelu(x, approximate=False), VECTOR),
    "sigmoid, tanh": (lambda x: jax.nn.sigmoid(x) * jnp.tanh(5 * x) + jnp.tanh(x / 1000), VECTOR),
    "roots": (lambda x: jnp.sqrt(jnp.abs(x)) + jax.lax.rsqrt(x**2 + 1), VECTOR),
    "rounding": (lambda x: jnp.floor(x) + jnp.ceil(3 * x) + jnp.round(2 * x) + jnp.sign(x), VECTOR),
    "rounding halves": (lambda x: jnp.round(x) + 10 * jax.lax.round(x), jnp.array([0.5, 1.5, 2.5, -0.5, -1.5, 3.4])),
    "integers": (lambda x: (x // 2) * 3 + x % 2 - jax.lax.div(x, 2), jnp.array([5, 4, 3, 0, 7])),
    "comparisons": (lambda x: jnp.where((x > 0) & (x < 1) | ~(x != x[0]), x, -x), VECTOR),
    "clip": (lambda x: jnp.clip(x, -0.5, 0.5), VECTOR),
    "reductions": (lambda x: x.sum(0) + x.max(0) * x.min(1).mean() + jnp.prod(x, axis=0) + x.var(), MATRIX),
    "all, any": (lambda x: (x > -9).all() + 2.0 * (x > 9).any() + (x > 0).any(axis=0), MATRIX),
    "argmax": (lambda x: jnp.argmax(x, axis=1) - jnp.argmin(x, axis=0)[:5], MATRIX),
    "one-hot of argmax": (lambda x: jax.nn.one_hot(x.argmax(1), 6), MATRIX),
    "log-softmax": (lambda x: jax.nn.log_softmax(x) + jax.nn.softmax(x, axis=0), MATRIX),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, axis=1), MATRIX),
    "cumulative": (lambda x: jnp.cumsum(x, 0) + jnp.cumprod(x, 1) + jax.lax.cummax(x, 1, reverse=True), MATRIX),
    "sort": (lambda x: jnp.sort(x, axis=1) + jnp.argsort(x, axis=0), MATRIX),
    "top k by sorting": (lambda x: jnp.where(x >= jnp.sort(x)[-3], x, -jnp.inf).max(), VECTOR),
    "slices": (lambda x: x[1:4, ::2] + x[::-1, :3][:3] + jnp.split(x, 3, axis=1)[1][:3, :1], MATRIX),
    "transposes": (lambda x: jnp.einsum("chw->whc", x).reshape(16, 8) + x.swapaxes(1, 2).reshape(16, 8), IMAGE),
    "broadcasting": (lambda x: x[:, None] * x + jnp.arange(7) + jnp.ones((7, 1)), VECTOR),
    "concatenate, pad": (
        lambda x: jnp.pad(jnp.concatenate([x, 2 * x], 1), ((1, 2), (0, 1)), constant_values=3.0),
        MATRIX,
    ),
    "dilated pad": (lambda x: jax.lax.pad(x, 1.0, [(1, 0, 2), (0, 2, 1)]), MATRIX),
    "products": (lambda x: x @ W[0] @ x.T + jnp.einsum("ij,kj->ik", x, x), MATRIX),
    "batched products": (lambda x: jnp.einsum("bij,bjk->bik", x, x + 1), IMAGE),
    "convolution": (lambda x: jax.lax.conv_general_dilated(x[None], KERNELS, (1, 1), "SAME"), IMAGE),
    "strided convolution": (lambda x: jax.lax.conv_general_dilated(x[None], KERNELS, (2, 2), ((1, 1), (0, 1))), IMAGE),
    "dilated convolution": (
        lambda x: jax.lax.conv_general_dilated(x[None], KERNELS, (1, 1), "SAME", rhs_dilation=(2, 2)),
        IMAGE,
    ),
    "grouped convolution": (
        lambda x: jax.lax.conv_general_dilated(x[None], KERNELS[:, :1], (1, 1), "SAME", feature_group_count=2),
        IMAGE,
    ),
    "transposed convolution": (eqx.nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1, key=key(7)), IMAGE),
    "one-dimensional convolution": (eqx.nn.Conv1d(5, 3, 3, padding=1, key=key(7)), MATRIX),
    "pooling": (lambda x: eqx.nn.MaxPool2d(3, 2, padding=1)(x) + eqx.nn.AvgPool2d(3, 2, padding=1)(x), IMAGE),
    "resize": (lambda x: jax.image.resize(x, (2, 16, 12), "bilinear"), IMAGE),
    "embedding": (lambda ids: W[0][ids] * jnp.take(W[1], ids, axis=1).T, IDS),
    "outside with fill": (lambda ids: VECTOR.at[ids].get(mode="fill", fill_value=7.0), jnp.array([0, 6, 7, 99])),
    "outside with clip": (lambda ids: VECTOR.at[ids].get(mode="clip"), jnp.array([0, 6, 7, 99])),
    "take along an axis": (lambda x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), axis=1), MATRIX),
    "scatter": (lambda x: x.at[IDS].set(0.0).at[IDS, 1].add(x[:4, 0]).at[0, 0].multiply(3.0), MATRIX),
    "dynamic slices": (
        lambda x, i: jax.lax.dynamic_update_slice(x, jax.lax.dynamic_slice(x, (i, 0), (2, 3)), (1, i)),
        MATRIX,
        jnp.array(2),
    ),
    "scan": (lambda x: jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c), jnp.zeros(6), x, reverse=True), MATRIX),
    "LSTM": (lstm, MATRIX),
    "gradient of an energy": (energy_gradient, VECTOR),
    "layer norm": (lambda x: jax.vmap(eqx.nn.LayerNorm(6))(x), MATRIX),
    "attention": (
        lambda x: eqx.nn.MultiheadAttention(2, 6, key=key(8))(x, x, x, mask=jnp.tril(jnp.ones((5, 5), bool))),
        MATRIX,
    ),
}


def test_functions_in_single_precision():
    cases = {name: (f, inputs) for name, (f, *inputs) in FUNCTIONS.items()}
    results = computed(*((f, inputs, "float32") for f, inputs in cases.values()))
    assert len(results) >= 30
    for (name, (f, inputs)), outputs in zip(cases.items(), results):
        expected = jax.tree.leaves(f(*inputs))
        assert len(outputs) == len(expected), name
        for ours, theirs in zip(outputs, expected):
            np.testing.assert_allclose(ours, np.ravel(theirs), atol=1e-5, rtol=1e-5, err_msg=name)


def models():
    """The kinds of network that the book's figures use, with their inputs."""
    decoder = nets.ConvDecoder(2, key=key(0))
    unet = nets.UNet(key=key(1), classes=10)
    transformer, gru = nets.Transformer(30, 32, key=key(2)), nets.GRU(30, 30, key=key(3), embed=16)
    denoiser = diffusion.Diffusion(nets.ResidualMLP(96, key=key(4), width=128, classes=(10, 20)), (96,))
    coupling = flow.RealNVP(2, key=key(5))
    dense = vae.VAE(nets.MLP((784, 64, 4), key=key(6)), nets.MLP((2, 64, 784), key=key(7), out_shape=(28, 28)), 2)
    ids = jnp.arange(32) % 30
    return {
        "dense decoder": (lambda z: jax.nn.sigmoid(dense.decoder(z)), [VECTOR[:2]]),
        "convolutional decoder": (lambda z: jax.nn.sigmoid(decoder(z)), [VECTOR[:2]]),
        "flow": (lambda z: coupling.forward(z), [VECTOR[:2]]),
        "U-Net": (lambda x, t: unet(x, t, 3), [jax.random.normal(key(8), (16, 16)), jnp.float32(0.4)]),
        "denoiser": (
            lambda x, t, label: denoiser.net(x, t, label),
            [jax.random.normal(key(9), (96,)), jnp.float32(0.3), jnp.array([4, -1])],
        ),
        "transformer": (transformer, [ids]),
        "GRU": (gru, [ids]),
    }


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("float16", 2e-3), ("int8", 2e-2)])
def test_models(weights, tolerance):
    cases = models()
    results = computed(*((f, xs, weights) for f, xs in cases.values()))
    for (name, (f, xs)), outputs in zip(cases.items(), results):
        for ours, theirs in zip(outputs, jax.tree.leaves(f(*xs))):
            scale = max(1.0, float(jnp.abs(theirs).max()))
            np.testing.assert_allclose(ours, np.ravel(theirs), atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: jnp.linalg.inv(x[:5, :5]), "primitive 'lu'"),
        (lambda x: x + jax.random.normal(jax.random.key(x[0, 0].astype(int)), x.shape), "random"),
        (lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c + 1, x), "primitive 'while'"),
        (lambda x: x.astype(int) & 3, "'and' on the bits of integers"),
        (lambda x: jax.lax.scan(lambda c, _: (c + 1, None), x, None, length=1000)[0], "at most 256 steps, got 1000"),
    ],
)
def test_what_has_no_counterpart_is_named_in_the_notebook(f, message):
    with pytest.raises(NotImplementedError, match=message):
        live.export(f, MATRIX)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, VECTOR), TypeError, "^fn must"),
        ((jnp.sin, "x"), (TypeError, ValueError), r"^example\[0\] must"),
    ],
)
def test_a_bad_argument_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        inspect.unwrap(live.export)(*arguments)


def test_weights_are_checked():
    with pytest.raises(ValueError, match=r"^weights must"):
        inspect.unwrap(live.export)(jnp.sin, VECTOR, weights="float8")


def test_payload_shrinks_with_the_weights_and_dead_code_is_dropped():
    def f(x):
        _ = x @ jnp.ones((7, 500))
        return nets.MLP((7, 100, 7), key=key(0))(x)

    byte, half, single = (len(live.export(f, VECTOR, weights=w)["data"]) for w in ("int8", "float16", "float32"))
    assert half < 0.6 * single
    assert byte < 0.75 * half  # its scales are in single precision
    assert single < 4 / 3 * 4 * (7 * 100 * 2 + 107) + 200


def test_large_weights_stay_in_single_precision():
    big = jnp.full((10, 10), 1e5)
    (outputs,) = computed((lambda x: big @ x, [jnp.ones(10)], "float16"))
    np.testing.assert_allclose(outputs[0], 1e6)


def test_another_version_of_the_graph_is_refused():
    graph = live.export(jnp.sin, VECTOR) | {"version": 0}
    run = subprocess.run(
        [NODE, str(Path(__file__).with_name("run_live.js")), str(RUNTIME)],
        input=json.dumps([{"graph": graph, "inputs": [[0.0] * 7]}]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "graph of version 0, expected 1" in run.stderr
