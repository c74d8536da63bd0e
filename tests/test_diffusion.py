"""Diffusion and flow matching with exact denoisers plugged in, so that every law has a closed form to meet."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from exact_diffusion import MIXTURE, compiled, exact, key
from scipy import integrate, stats
from statistical import assert_mean, assert_variance

from genai_course import nets
from genai_course.data import toys
from genai_course.models.diffusion import PATHS, QUANTITIES, Diffusion, convert, logit_normal
from genai_course.train import fit

# Conversions


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_conversions_agree_with_the_definitions(path, t):
    x, eps = jax.random.normal(key(), (2, 3))
    a, b = (float(c) for c in PATHS[path](jnp.float32(t)))
    slope = [float(c) for c in jax.jacfwd(PATHS[path])(jnp.float32(t))]
    x_t = a * x + b * eps
    truth = {"x": x, "eps": eps, "v": slope[0] * x + slope[1] * eps, "score": -eps / b}
    for given, wanted in itertools.product(QUANTITIES, repeat=2):
        found = convert(truth[given], x_t, t, given=given, wanted=wanted, path=path)
        scale = 1 + np.max(np.abs(truth[wanted]))
        np.testing.assert_allclose(found, truth[wanted], atol=2e-4 * scale, err_msg=f"{given} to {wanted}")


@pytest.mark.parametrize("path", PATHS)
def test_v_is_the_speed_along_the_path(path):
    x, eps, h = np.array([0.5, -2.0]), np.array([1.0, 0.3]), 1e-4

    def at(t):
        with jax.enable_x64(True):
            a, b = PATHS[path](jnp.float64(t))
            return float(a) * x + float(b) * eps

    expected = (at(0.6 + h) - at(0.6 - h)) / (2 * h)
    x_t = jnp.asarray(at(0.6), jnp.float32)
    found = convert(jnp.asarray(x, jnp.float32), x_t, 0.6, given="x", wanted="v", path=path)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("path", PATHS)
def test_paths_begin_at_the_data(path):
    np.testing.assert_array_equal(np.asarray(PATHS[path](jnp.float32(0)), float), [1, 0])


def test_the_linear_v_is_eps_minus_x_and_the_cosine_v_that_of_salimans_and_ho():
    x, eps, t = jnp.array([0.5, -2.0]), jnp.array([1.0, 0.3]), 0.3
    a, b = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
    linear = convert(x, (1 - t) * x + t * eps, t, given="x", wanted="v", path="linear")
    np.testing.assert_allclose(linear, eps - x, atol=1e-5)
    cosine = convert(x, a * x + b * eps, t, given="x", wanted="v", path="cosine")
    np.testing.assert_allclose(cosine, np.pi / 2 * (a * eps - b * x), atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("predict", ["x", "eps", "v"])
def test_the_score_is_the_gradient_of_the_log_density(path, predict):
    """Whatever the network predicts; so Tweedie's formula E[x | x_t] = (x_t + b² score) / a holds as well."""
    model, x_t, t = exact(path, predict), jnp.array([0.4, 0.7]), jnp.float32(0.4)
    expected = compiled(lambda x_t: jax.grad(model.net.noisy(t).log_prob)(x_t), x_t)
    np.testing.assert_allclose(model.estimate("score", x_t, t), expected, rtol=1e-3, atol=1e-4)
    a, b = PATHS[path](t)
    np.testing.assert_allclose(model.estimate("x", x_t, t), (x_t + b**2 * expected) / a, rtol=1e-3, atol=1e-4)


# The loss


def losses(model, data, n: int, seed: int = 0) -> np.ndarray:
    keys = jax.random.split(key(seed), n)
    return np.asarray(
        compiled(jax.vmap(lambda model, x, key: model.loss(x, key), (None, 0, 0)), model, data, keys), float
    )


def test_the_loss_is_the_squared_error_at_a_point_of_the_path():
    """With a network that says 0, on the variance-preserving path with t = 1/3 fixed: E‖v‖² in closed form."""
    model = Diffusion(
        lambda x_t, t, label: 0 * x_t, (2,), path="cosine", times=lambda u: 1 / 3 + 0 * u, t_range=(0.0, 1.0)
    )
    x = jnp.array([2.0, -1.0])
    found = losses(model, jnp.tile(x, (20_000, 1)), 20_000)
    angle = np.pi / 6
    assert_mean(found, (np.pi / 2) ** 2 * (np.sin(angle) ** 2 * 5 + np.cos(angle) ** 2 * 2))


def test_flow_matching_loss_of_the_exact_velocity_is_the_variance_that_remains():
    """Data N(m, s²), u = eps - x: Var(u | x_t) = Var u - Cov(u, x_t)²/Var x_t, averaged over t; not zero."""
    data, s = toys.mixture([[0.7]], [0.5]), 0.5
    low, high = 0.001, 0.999

    def remains(t):
        return 1 + s**2 - (t - (1 - t) * s**2) ** 2 / ((1 - t) ** 2 * s**2 + t**2)

    floor = integrate.quad(remains, low, high)[0] / (high - low)
    found = losses(exact("linear", "v", data), data.sample(key(1), 50_000), 50_000)
    assert_mean(found, floor)
    assert floor > 0.3
    worse = eqx.tree_at(lambda m: m.net.data.means, exact("linear", "v", data), data.means + 0.3)
    assert losses(worse, data.sample(key(1), 50_000), 50_000).mean() > floor + 0.01


@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_losses_on_other_quantities_are_the_same_loss_weighted(path):
    """v - v̂ = -(D/b) (x - x̂) with D = a b' - a' b, and eps - ε̂ = -(a/b) (x - x̂), at the same x_t."""
    data = MIXTURE.sample(key(2), 200)
    options = {"t_range": (0.05, 0.95), "path": path}
    determinant = {"linear": 1.0, "cosine": np.pi / 2}[path]

    def found(**changes):
        return losses(
            Diffusion(lambda x_t, t, label: jnp.tanh(x_t), (2,), predict="x", **options, **changes), data, 200
        )

    for what, numerator in (("v", lambda a: determinant), ("eps", lambda a: a)):

        def weight(t, numerator=numerator):
            a, b = PATHS[path](t)
            return (numerator(a) / b) ** 2

        np.testing.assert_allclose(found(weight=weight), found(loss_on=what), rtol=2e-2, atol=1e-4)


def test_the_least_loss_is_that_of_the_exact_network_whatever_is_predicted():
    """The exact mean, the same under three names, has the same loss on v; any other has a greater one."""
    data = MIXTURE.sample(key(3), 2000)
    found = {p: losses(exact("linear", p, loss_on="v", t_range=(0.05, 0.95)), data, 2000) for p in ("x", "eps", "v")}
    np.testing.assert_allclose(found["x"], found["v"], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(found["eps"], found["v"], rtol=1e-2, atol=1e-3)


def test_times_are_drawn_as_asked():
    """With the weight t and an error of 1, the loss is t."""

    def times(**options):
        model = Diffusion(lambda x_t, t, label: 0 * x_t, (1,), predict="x", weight=lambda t: t, **options)
        return losses(model, jnp.ones((5000, 1)), 5000)

    low, high = 0.2, 0.8
    assert stats.kstest(times(t_range=(low, high)), stats.uniform(low, high - low).cdf).pvalue > 1e-4
    found = (times(t_range=(low, high), times=logit_normal(0.4, 1.5)) - low) / (high - low)
    assert stats.kstest(np.log(found / (1 - found)), stats.norm(0.4, 1.5).cdf).pvalue > 1e-4


def test_labels_are_dropped_each_on_its_own():
    """A network that returns its label shows what the loss gave it."""

    class Shows(eqx.Module):
        def __call__(self, x_t, t, label):
            return label.astype(float)

    model = Diffusion(Shows(), (2,), predict="x", label_dropout=0.3)
    label, x = jnp.array([3, 5]), jnp.array([3.0, 5.0])
    found = compiled(jax.vmap(lambda k: model.loss((x, label), k)), jax.random.split(key(4), 20_000))
    shares = [np.mean(found == value) for value in (0, 16, 36, 52)]  # none, first, second, both dropped
    for share, truth in zip(shares, (0.49, 0.21, 0.21, 0.09)):
        assert abs(share - truth) < 4 * math.sqrt(truth * (1 - truth) / 20_000)
    real = compiled(jax.vmap(lambda k: model.loss((x, x), k)), jax.random.split(key(4), 100))
    np.testing.assert_array_equal(real, 0)  # features are never dropped


# Steps

POINT = jnp.array([0.4, -0.7])


@pytest.mark.parametrize("path", PATHS)
def test_ddim_is_euler_in_the_coordinates_of_the_noise_to_signal_ratio(path):
    """With x̄ = x/a and σ̄ = b/a, the equation is dx̄/dσ̄ = ε̂; one Euler step of that is a DDIM step."""
    model, x_t = exact(path, "eps"), POINT
    a, b = (np.asarray(c, float) for c in PATHS[path](jnp.linspace(0.9, 0.3, 5)))
    for i, (t, s) in enumerate(itertools.pairwise(np.linspace(0.9, 0.3, 5, dtype=np.float32))):
        eps = np.asarray(model.estimate("eps", x_t, jnp.asarray(t)), float)
        expected = a[i + 1] * (np.asarray(x_t, float) / a[i] + (b[i + 1] / a[i + 1] - b[i] / a[i]) * eps)
        x_t = model.step(x_t, jnp.asarray(t), jnp.asarray(s))
        np.testing.assert_allclose(x_t, expected, rtol=1e-5, atol=1e-5)


def test_on_the_linear_path_ddim_is_euler():
    model, t, s = exact("linear", "v"), jnp.float32(0.8), jnp.float32(0.5)
    np.testing.assert_allclose(model.step(POINT, t, s), model.step(POINT, t, s, method="euler"), atol=1e-6)
    expected = POINT - 0.3 * model.estimate("v", POINT, t)
    np.testing.assert_allclose(model.step(POINT, t, s, method="euler"), expected, atol=1e-6)


def test_heun_is_the_trapezoid():
    model, t, s = exact("cosine", "v"), jnp.float32(0.8), jnp.float32(0.5)
    first = model.estimate("v", POINT, t)
    second = model.estimate("v", POINT - 0.3 * first, s)
    np.testing.assert_allclose(
        model.step(POINT, t, s, method="heun"), POINT - 0.3 * (first + second) / 2, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_ddpm_step_is_a_draw_from_the_posterior(path):
    """With the truth x in the network's place: Bayes' rule for the Gaussians x_s given x and x_t given x_s."""
    x, t, s = np.array([0.8]), 0.6, 0.4
    (a_t, b_t), (a_s, b_s) = ([float(c) for c in PATHS[path](jnp.float32(time))] for time in (t, s))
    ratio = a_t / a_s
    forward = b_t**2 - ratio**2 * b_s**2  # variance of x_t given x_s
    x_t = a_t * x + 0.9 * b_t
    variance = 1 / (1 / b_s**2 + ratio**2 / forward)
    mean = variance * (a_s * x / b_s**2 + ratio * x_t / forward)
    model = Diffusion(lambda x_t, t, label: jnp.full(1, 0.8), (1,), path=path, predict="x")
    x_t, times = jnp.asarray(x_t, jnp.float32), (jnp.float32(t), jnp.float32(s))
    step = jax.vmap(lambda k: model.step(x_t, *times, k, method="ddpm"))
    found = np.asarray(compiled(step, jax.random.split(key(5), 20_000)), float)[:, 0]
    assert_mean(found, mean[0])
    assert_variance(found, variance)


@pytest.mark.parametrize(
    ("method", "path"), [("euler", "linear"), *itertools.product(["ddim", "ddpm"], ["linear", "cosine"])]
)
def test_the_last_step_gives_the_estimate_of_x(method, path):
    model, t = exact(path, "v"), jnp.float32(0.1)
    found = model.step(POINT, t, jnp.float32(0), key(), method=method)
    np.testing.assert_allclose(found, model.estimate("x", POINT, t), atol=1e-5)


# Training


def test_training_approaches_the_exact_velocity():
    data = toys.mixture([[1.0], [-1.0]], [0.3, 0.3])
    net = nets.ResidualMLP(1, key=key(), width=32, depth=2, classes=2)

    def draw(k, n):
        sign_key, noise_key = jax.random.split(k)
        label = jax.random.randint(sign_key, (n,), 0, 2)
        return data.means[label] + 0.3 * jax.random.normal(noise_key, (n, 1)), label

    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, 600))
    model = fit(
        Diffusion(net, (1,), label_dropout=0.3), draw, key=key(1), steps=600, batch_size=256, optimizer=optimizer
    ).model
    x, label = draw(key(3), 2000)
    time_key, noise_key = jax.random.split(key(4))
    t, eps = jax.random.uniform(time_key, (2000,)), jax.random.normal(noise_key, (2000, 1))
    x_t = (1 - t)[:, None] * x + t[:, None] * eps
    velocity = jax.vmap(lambda m, x, t, c: m.estimate("v", x, t, c), (None, 0, 0, 0))
    one = toys.mixture([[1.0]], [0.3])  # the second class is the first one mirrored
    sign = 1.0 - 2.0 * label[:, None]
    for given, truth in (
        (label, sign * compiled(velocity, exact("linear", "v", one), sign * x_t, t, label)),
        (jnp.full(2000, -1), compiled(velocity, exact("linear", "v", data), x_t, t, label)),
    ):
        error = compiled(velocity, model, x_t, t, given) - truth
        assert float(jnp.mean(error**2)) < 0.05 * float(jnp.mean(truth**2))
    samples = model.sample_batch(key(2), 500, 20, labels=jnp.zeros(500, int))
    assert np.mean(np.asarray(samples) > 0) > 0.97
