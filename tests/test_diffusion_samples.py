"""Samples of diffusion models against orders of convergence, moments of the data and laws of guidance."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_inputs import (
    NOT_A_COUNT,
    NOT_A_FUNCTION,
    NOT_A_KEY,
    NOT_AN_ARRAY,
    NOT_FINITE,
    assert_named,
    spoiled,
    table,
    two_keys,
)
from exact_diffusion import COV, MEAN, MIXTURE, Exact, exact, guided, key
from statistical import assert_mean

from genai_course import nets
from genai_course.models.diffusion import METHODS, PATHS, QUANTITIES, Diffusion, convert, logit_normal

POINT = jnp.array([0.4, -0.7])


# Samples


@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_eulers_error_halves_and_heuns_quarters_when_steps_double(path):
    """The same starting points; the reference is Heun with very many steps."""
    model, n = exact(path, "x"), 300
    reference = model.sample_batch(key(6), n, 512, method="heun")

    def error(method, steps):
        return float(jnp.mean(jnp.linalg.norm(model.sample_batch(key(6), n, steps, method=method) - reference, axis=1)))

    for method, factor in (("euler", 2), ("ddim", 2), ("heun", 4)):
        errors = [error(method, steps) for steps in (16, 32, 64, 128)]
        ratios = [a / b for a, b in itertools.pairwise(errors)]
        assert ratios[-1] == pytest.approx(factor, rel=0.2), (method, errors)
    assert error("heun", 64) < error("euler", 64) / 5


def moments(samples):
    """Rows to test against the mean and the covariance of the mixture."""
    x = np.asarray(samples, float)
    outer = (x - MEAN)[:, :, None] * (x - MEAN)[:, None, :]
    for i in range(2):
        assert_mean(x[:, i], MEAN[i])
        for j in range(2):
            assert_mean(outer[:, i, j], COV[i, j])


@pytest.mark.parametrize(("method", "steps"), [("heun", 60), ("ddim", 250), ("ddpm", 250)])
@pytest.mark.parametrize("path", PATHS)
def test_samples_have_the_moments_of_the_data(path, method, steps):
    moments(exact(path, "x").sample_batch(key(7), 4000, steps, method=method))


def test_stochastic_and_deterministic_samples_have_the_modes_in_their_shares():
    for method in ("ddpm", "heun"):
        samples = exact("cosine", "x").sample_batch(key(8), 4000, 100, method=method)
        shares = MIXTURE.modes_covered(samples).shares
        truth = MIXTURE.modes_covered(MIXTURE.sample(key(9), 100_000)).shares
        assert abs(shares[0] - truth[0]) < 4 * math.sqrt(0.24 / 4000)


def test_a_batch_is_its_samples():
    model = exact("cosine", "v")
    for method in METHODS:
        batch = model.sample_batch(key(10), 3, 6, method=method)
        each = [model.sample(k, 6, method=method) for k in jax.random.split(key(10), 3)]
        np.testing.assert_allclose(batch, np.stack(each), rtol=1e-4, atol=1e-5)


def test_sampling_loops_in_python_around_one_compiled_step():
    """A convolution in a scan is slow on a CPU; and a step that is compiled anew each time is slower still."""
    traced = []

    class Counts(eqx.Module):
        convolution: eqx.nn.Conv2d

        def __call__(self, x_t, t, label):
            traced.append(t)
            return self.convolution(x_t) + label * t

    model = Diffusion(Counts(eqx.nn.Conv2d(1, 1, 3, padding=1, key=key())), (1, 4, 4))
    samples = model.sample_batch(key(1), 2, 5, method="ddim", labels=jnp.array([0, 2]))
    assert samples.shape == (2, 1, 4, 4)
    assert np.all(np.isfinite(samples))
    assert len(traced) == 1
    model.sample_batch(key(1), 2, 5, method="ddim", labels=jnp.array([1, -1]))
    assert len(traced) == 1
    for guidance in (2.0, 3.0):
        model.sample_batch(key(1), 2, 5, method="ddim", labels=jnp.array([0, 2]), guidance=guidance)
    assert len(traced) == 3  # once with the label and once without


# Guidance


def test_guidance_is_a_line_through_two_estimates():
    model, x_t, t = guided("linear"), jnp.array([0.9]), jnp.float32(0.5)
    for what in QUANTITIES:
        without, with_it = model.estimate(what, x_t, t, -1), model.estimate(what, x_t, t, 0)
        for g in (0.0, 1.0, 2.5):
            found = model.estimate(what, x_t, t, jnp.int32(0), g)
            np.testing.assert_allclose(found, without + g * (with_it - without), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_guided_gaussians_have_the_variances_of_bradley_and_nakkiran(path, w):
    """Neither sampler reaches the tilted target of variance 2/(w + 1): DDIM ends at 2^(1-w), DDPM in between."""
    n, labels = 20_000, jnp.zeros(20_000, int)
    found = {
        method: np.asarray(
            guided(path).sample_batch(key(11), n, steps, method=method, labels=labels, guidance=w), float
        )
        for method, steps in (("ddim", 300), ("ddpm", 300))
    }
    laws = {"ddim": 2 ** (1 - w), "ddpm": (2 - 2 ** (2 - 2 * w)) / (2 * w - 1)}
    for method, law in laws.items():
        variance = found[method].var()
        assert abs(variance / law - 1) < 4 * math.sqrt(2 / n) + 0.02, (method, variance, law)
    if w == 3:
        assert laws["ddim"] < laws["ddpm"] < 2 / (w + 1)


# Bad arguments

KEYS = [*NOT_A_KEY, two_keys]
POINTS = [*NOT_AN_ARRAY, *spoiled((2,)), jnp.ones(3)]
TIMES = [*NOT_AN_ARRAY, -0.1, 1.1, math.nan, jnp.ones(2)]
NO_METHOD = ["rk4", "", None, 3]


def labeled() -> Diffusion:
    return Diffusion(nets.ResidualMLP(2, key=key(), width=4, depth=1, classes=3), (2,))


def good_step() -> dict:
    return {"x_t": POINT, "t": 0.8, "s": 0.5, "key": key(), "method": "ddpm", "label": 1}


LABELS = [3, -2, 0.5, "a", jnp.array([0, 1])]
GUIDANCE = NOT_FINITE
SAMPLING = {"key": KEYS, "steps": NOT_A_COUNT, "method": NO_METHOD, "guidance": GUIDANCE}
BAD = [
    *table(
        convert,
        lambda: {"value": POINT, "x_t": POINT, "t": 0.5, "given": "x", "wanted": "eps", "path": "linear"},
        {
            "value": POINTS,
            "x_t": [*NOT_AN_ARRAY, *spoiled((2,))[:3]],
            "t": TIMES,
            "given": ["x0", "", None, 3],
            "wanted": ["x0", "", None, 3],
            "path": ["straight", "", None, 3],
        },
    ),
    *table(logit_normal, dict, {"mean": NOT_FINITE, "scale": [*NOT_FINITE, 0.0, -1.0]}),
    *table(
        Diffusion,
        lambda: {"net": Exact(MIXTURE, "linear", "x"), "shape": (2,)},
        {
            "net": NOT_A_FUNCTION,
            "shape": [2, None, (2.0,), (0,), (-1,), "2"],
            "path": ["straight", "", None, 3],
            "predict": ["x0", "score", "", None, 3],
            "loss_on": ["x0", "", 3],
            "weight": [3, "snr"],
            "times": [3, "uniform"],
            "t_range": [None, 0.5, (0.1,), (0.1, 0.5, 0.9), (0.5, 0.1), (-0.1, 1.0), (0.0, 1.1), ("a", "b"), "ab"],
            "label_dropout": [*NOT_FINITE, -0.1, 1.1],
        },
    ),
    *table(
        lambda x, key: labeled().loss((x, jnp.int32(0)), key),
        lambda: {"x": POINT, "key": key()},
        {"x": POINTS, "key": KEYS},
    ),
    *table(
        lambda **arguments: labeled().estimate(**arguments),
        lambda: {"what": "x", "x_t": POINT, "t": 0.5, "label": 1},
        {"what": ["x0", "", None, 3], "x_t": POINTS, "t": TIMES, "label": LABELS, "guidance": GUIDANCE},
    ),
    *table(lambda guidance: labeled().estimate("x", POINT, 0.5, guidance=guidance), dict, {"guidance": [2.0, 0.0]}),
    *table(
        lambda **arguments: labeled().step(**arguments),
        good_step,
        {
            "x_t": POINTS,
            "t": TIMES,
            "s": TIMES,
            "key": KEYS,
            "method": NO_METHOD,
            "label": LABELS,
            "guidance": GUIDANCE,
        },
    ),
    *table(
        lambda **arguments: labeled().sample(**arguments),
        lambda: {"key": key(), "steps": 2, "label": 1},
        SAMPLING | {"label": ["a", object(), jnp.array([0, 1])]},
    ),
    *table(
        lambda **arguments: labeled().sample_batch(**arguments),
        lambda: {"key": key(), "n": 2, "steps": 2, "labels": jnp.array([0, 1])},
        SAMPLING | {"n": NOT_A_COUNT, "labels": [3, "a", object(), jnp.array([0, 1, 2])]},
    ),
    *table(
        lambda net: Diffusion(net, (2,)).estimate("x", POINT, 0.5), dict, {"net": [lambda x_t, t, label: jnp.ones(3)]}
    ),
]


@pytest.mark.parametrize(("function", "good", "argument", "value"), BAD)
def test_bad_arguments_are_named(function, good, argument, value):
    assert_named(function, good, argument, value)
