"""GAN losses against closed forms, penalties against finite differences, the game against its exact dynamics."""

import math
import os
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
from statistical import assert_mean

from genai_course import metrics, nets
from genai_course.data import toys
from genai_course.models.gan import GAN, fit_gan, r1_penalty, unit_slope_penalty


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


class Shift(eqx.Module):
    """G(z) = z + theta, or theta alone where ``spread`` is 0."""

    theta: jax.Array
    spread: float = 1.0

    def __call__(self, z):
        return self.spread * z + self.theta


class Linear(eqx.Module):
    """D(x) = w·x + b."""

    w: jax.Array
    b: float

    def __call__(self, x):
        return self.w @ x + self.b


def pair(theta=(0.0,), w=(0.0,), b: float = 0.0, spread: float = 1.0, **options) -> GAN:
    theta, w = jnp.asarray(theta), jnp.asarray(w)
    return GAN(Shift(theta, spread), Linear(w, b), len(theta), **options)


def softplus(t):
    return np.logaddexp(0, t)


# Losses


@pytest.mark.parametrize("b", [0.0, -1.5, 3.0])
def test_losses_of_a_discriminator_that_cannot_tell(b):
    x = jnp.array([0.7])
    losses = {name: pair(b=b, loss=name) for name in ("nonsaturating", "saturating", "wasserstein")}
    for name, expected in (("nonsaturating", softplus(b) + softplus(-b)), ("wasserstein", 0.0)):
        loss, penalty = losses[name].discriminator_loss(x, key())
        assert float(loss) == pytest.approx(expected, rel=1e-6)
        assert penalty == 0
    assert losses["saturating"].discriminator_loss(x, key()) == losses["nonsaturating"].discriminator_loss(x, key())
    assert float(losses["nonsaturating"].generator_loss(key())) == pytest.approx(softplus(-b), rel=1e-6)
    assert float(losses["saturating"].generator_loss(key())) == pytest.approx(-softplus(b), rel=1e-6)
    assert float(losses["wasserstein"].generator_loss(key())) == pytest.approx(-b)
    if b == 0:  # D* = 1/2, the value of the game when the generator has won
        assert float(losses["nonsaturating"].discriminator_loss(x, key())[0]) == pytest.approx(math.log(4))


@pytest.mark.parametrize("delta", [0.0, 1.0, 2.5])
def test_best_discriminator_has_the_loss_log_4_minus_2_js(delta):
    """Data N(0, 1), fakes N(δ, 1): the best logit is log p − log q = δ²/2 − δ x (Goodfellow et al., 2014)."""
    gan = pair(theta=(delta,), w=(-delta,), b=delta**2 / 2)
    data, keys = jax.random.normal(key(1), (40_000, 1)), jax.random.split(key(2), 40_000)
    loss, _ = jax.vmap(gan.discriminator_loss)(data, keys)
    best = math.log(4) - 2 * metrics.jensen_shannon_unit_gaussians(delta)
    assert_mean(loss, best) if delta else np.testing.assert_allclose(loss, best, rtol=1e-6)
    worse = pair(theta=(delta,), w=(-delta - 0.5,), b=delta**2 / 2)
    assert jax.vmap(worse.discriminator_loss)(data, jax.random.clone(keys))[0].mean() > loss.mean()


@pytest.mark.parametrize("logit", [-8.0, 0.0, 3.0])
def test_slope_of_the_generator_losses(logit):
    """By the fake's logit: −s(l) if saturating, −s(−l) if not; so only the first dies where D is sure of the fake."""
    for name, expected in (("saturating", -special.expit(logit)), ("nonsaturating", -special.expit(-logit))):
        gan = pair(theta=(logit,), w=(1.0,), spread=0.0, loss=name)
        slope = eqx.filter_grad(lambda gan: gan.generator_loss(key()))(gan).generator.theta[0]
        assert float(slope) == pytest.approx(expected, rel=1e-5)


def test_losses_stay_finite_for_a_sure_discriminator():
    gan = pair(theta=(1.0,), w=(200.0,), spread=0.0)
    assert float(gan.discriminator_loss(jnp.array([-1.0]), key())[0]) == pytest.approx(400)
    assert float(pair(theta=(-1.0,), w=(200.0,), spread=0.0).generator_loss(key())) == pytest.approx(200)


def test_samples_are_the_generator_at_a_standard_normal():
    gan = pair(theta=(2.0, -1.0), w=(0.0, 0.0))
    samples = jax.vmap(gan.sample)(jax.random.split(key(3), 20_000))
    for column, mean in zip(samples.T, (2.0, -1.0)):
        assert_mean(column, mean)
        assert_mean((column - mean) ** 2, 1.0)
    np.testing.assert_array_equal(gan.generate(jnp.ones(2)), [3, 0])


def test_labels_reach_both_networks():
    generator = lambda z, label: z + 10 * label  # noqa: E731
    gan = GAN(generator, lambda x, label: jnp.sum(x) - 10 * label, 1)
    for label in (0.0, 3.0):
        z = jax.random.normal(key(4), (1,))
        np.testing.assert_allclose(gan.sample(jax.random.clone(key(4)), label), z + 10 * label, rtol=1e-5)
        assert float(gan.generator_loss(jax.random.clone(key(4)), label)) == pytest.approx(softplus(-float(z[0])), 1e-4)
        assert float(gan.logit(jnp.ones(1), label)) == 1 - 10 * label


def test_networks_of_the_wrong_shape_are_named():
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=r"discriminator must return one number, a scalar, got shape \(1,\)"):
        GAN(lambda z: z, lambda x: x[:1], 2).discriminator_loss(x, key())
    with pytest.raises(ValueError, match=r"generator must return the shape of x, \(2,\), got \(3,\)"):
        GAN(lambda z: z, jnp.sum, 3).discriminator_loss(x, key())


# Penalties


def network(seed: int = 5) -> nets.MLP:
    return nets.MLP((3, 8, 1), key=key(seed), activation=jnp.tanh, out_shape=())


def in_float64(net: nets.MLP, x, theta=None) -> float:
    """The network by NumPy; ``theta`` replaces the first layer's weights."""
    first, last = net.layers
    weight = np.asarray(first.weight, float) if theta is None else theta
    h = np.tanh(weight @ np.asarray(x, float) + np.asarray(first.bias, float))
    return float(np.asarray(last.weight, float)[0] @ h + float(last.bias[0]))


def slope_squared(net, x, theta=None, step: float = 1e-5) -> float:
    """‖∇D(x)‖² by central differences."""
    moves = step * np.eye(len(x))
    return sum(((in_float64(net, x + m, theta) - in_float64(net, x - m, theta)) / (2 * step)) ** 2 for m in moves)


def test_r1_penalty_and_its_gradient_are_those_of_finite_differences():
    net, x = network(), np.array([0.3, -1.2, 0.8])
    assert float(r1_penalty(net, jnp.asarray(x, jnp.float32))) == pytest.approx(slope_squared(net, x) / 2, rel=1e-4)
    gradient = eqx.filter_grad(lambda net: r1_penalty(net, jnp.asarray(x, jnp.float32)))(net).layers[0].weight
    weight = np.asarray(net.layers[0].weight, float)
    for index in np.ndindex(weight.shape):
        up, down = weight.copy(), weight.copy()
        up[index] += 1e-4
        down[index] -= 1e-4
        difference = (slope_squared(net, x, up) - slope_squared(net, x, down)) / (2 * 2e-4)
        assert float(gradient[index]) == pytest.approx(difference, rel=2e-3, abs=1e-5)


def test_unit_slope_penalty_is_that_of_finite_differences_and_flat_at_slope_0():
    net, x = network(), np.array([0.3, -1.2, 0.8])
    expected = (math.sqrt(slope_squared(net, x)) - 1) ** 2
    assert float(unit_slope_penalty(net, jnp.asarray(x, jnp.float32))) == pytest.approx(expected, rel=1e-4)
    value, gradient = jax.value_and_grad(lambda w: unit_slope_penalty(lambda x: w @ x, jnp.ones(2)))(jnp.zeros(2))
    assert float(value) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(gradient, 0)


def test_penalties_are_weighed_and_added():
    """D(x) = 3 x₁ + 4 x₂ has slope 5 everywhere: R1 is 25/2, the other penalty 16."""
    x = jnp.array([0.2, 0.1])
    for r1, weight in ((2.0, 0.0), (0.0, 3.0), (0.5, 0.1)):
        gan = pair(theta=(1.0, 1.0), w=(3.0, 4.0), r1=r1, gradient_penalty=weight)
        assert float(gan.discriminator_loss(x, key())[1]) == pytest.approx(r1 * 12.5 + weight * 16, rel=1e-5)


def test_unit_slope_is_asked_for_between_data_and_fakes():
    """D(x) = x²/2 has slope x: with data at 2 and the fake at 6, the penalty is (2 + 4v − 1)², v uniform on [0, 1]."""
    gan = GAN(Shift(jnp.array([6.0]), 0.0), lambda x: jnp.sum(x**2) / 2, 1, loss="wasserstein", gradient_penalty=1.0)
    penalty = jax.vmap(lambda key: gan.discriminator_loss(jnp.array([2.0]), key)[1])(jax.random.split(key(6), 5000))
    assert_mean(penalty, (5**3 - 1) / 12)
    assert penalty.min() >= 1
    assert penalty.max() <= 25


# The game


def simultaneous_steps(gan: GAN, h: float, steps: int) -> np.ndarray:
    """Radius of (θ, ψ) at the start and after each step of simultaneous gradient descent."""

    @jax.jit
    def step(theta, psi):
        gan_at = lambda theta, psi: eqx.tree_at(lambda g: (g.generator.theta, g.discriminator.w), gan, (theta, psi))  # noqa: E731
        d_slope = jax.grad(lambda psi: sum(gan_at(theta, psi).discriminator_loss(jnp.zeros(1), key())))(psi)
        g_slope = jax.grad(lambda theta: gan_at(theta, psi).generator_loss(key()))(theta)
        return theta - h * g_slope, psi - h * d_slope

    path = [(gan.generator.theta, gan.discriminator.w)]
    for _ in range(steps):
        path.append(step(*path[-1]))
    return np.linalg.norm(np.array(path, float)[..., 0], axis=1)


def dirac(**options) -> GAN:
    """Data at 0, fakes at θ, D(x) = ψ x (Mescheder et al., 2018)."""
    return pair(theta=(0.006,), w=(-0.008,), spread=0.0, **options)


def test_dirac_gan_spirals_out_by_its_exact_factor():
    """By √(1 + h² f′(0)²) a step, f′(0) = ½ near the origin; the Wasserstein game has f′ = 1 everywhere."""
    for loss, slope in (("saturating", 0.5), ("nonsaturating", 0.5), ("wasserstein", 1.0)):
        radii = simultaneous_steps(dirac(loss=loss), h=0.1, steps=100)
        law = 0.01 * math.sqrt(1 + (0.1 * slope) ** 2) ** np.arange(101)
        np.testing.assert_allclose(radii, law, rtol=1e-3)
    assert simultaneous_steps(dirac(loss="saturating"), 0.1, 100)[-1] / 0.01 == pytest.approx(1.133, abs=1e-3)


def test_r1_makes_the_dirac_gan_converge():
    radii = simultaneous_steps(dirac(loss="nonsaturating", r1=1.0), h=0.1, steps=100)
    assert radii[-1] < 0.1 * radii[0]


# fit_gan


def by_hand(theta, psi, h, steps, d_steps, r1, ema):
    """Alternating gradient descent on the Dirac-GAN, in float64; the rows of the history and the averaged θ."""
    average, rows = theta, []
    for t in range(1, steps + 1):
        for _ in range(d_steps):
            row = [softplus(0) + softplus(psi * theta), 0.0, r1 * psi**2 / 2]
            psi -= h * (special.expit(psi * theta) * theta + r1 * psi)
        row[1] = softplus(-psi * theta)
        theta += h * special.expit(-psi * theta) * psi
        average += max(1 - ema, 1 / t) * (theta - average)
        rows.append(row)
    return np.array(rows), theta, psi, average


@pytest.mark.parametrize(("d_steps", "r1", "ema"), [(1, 0.0, 0.0), (1, 0.5, 0.9), (3, 0.0, 1.0)])
def test_fit_gan_is_alternating_descent(d_steps, r1, ema):
    gan = pair(theta=(1.0,), w=(0.5,), spread=0.0, r1=r1)
    options = {"optimizer": optax.sgd(0.1), "discriminator_steps": d_steps, "ema": ema, "batch_size": 4}
    run = fit_gan(gan, jnp.zeros((7, 1)), key=key(), steps=30, **options)
    rows, theta, psi, average = by_hand(1.0, 0.5, 0.1, 30, d_steps, r1, ema)
    for column, name in enumerate(("discriminator", "generator", "penalty")):
        np.testing.assert_allclose(run.history[name], rows[:, column], rtol=1e-4, atol=1e-6)
    assert float(run.last.generator.theta[0]) == pytest.approx(theta, rel=1e-4)
    assert float(run.model.generator.theta[0]) == pytest.approx(average, rel=1e-4)
    assert float(run.model.discriminator.w[0]) == float(run.last.discriminator.w[0]) == pytest.approx(psi, rel=1e-4)
    assert run.finished
    assert float(gan.generator.theta[0]) == 1.0  # the caller's pair is untouched


def test_fit_gan_is_reproducible_and_uses_both_optimizers():
    gan, data = pair(theta=(1.0,), w=(0.5,)), toys.mixture_1d([0.0], [1.0]).sample
    options = {"key": key(), "steps": 10, "optimizer": optax.sgd(0.1)}
    first, again = fit_gan(gan, data, **options), fit_gan(gan, data, **options)
    assert eqx.tree_equal(first.last, again.last)
    frozen = fit_gan(gan, data, discriminator_optimizer=optax.sgd(0.0), **options)
    assert float(frozen.last.discriminator.w[0]) == 0.5
    assert float(frozen.last.generator.theta[0]) != 1.0
    assert len(fit_gan(gan, data, key=key(), steps=0).history["penalty"]) == 0


def test_fakes_have_the_labels_of_the_batch():
    """A generator with one θ a label: only the labels that the data have are trained."""
    generator = eqx.nn.Embedding(weight=jnp.zeros((3, 1)))
    gan = GAN(Labelled(generator), lambda x, label: x[0] * (label + 1), 1, loss="wasserstein")
    data = jnp.zeros((9, 1)), jnp.array([0, 2, 0, 0, 2, 0, 0, 0, 2])
    run = fit_gan(gan, data, key=key(), steps=50, optimizer=optax.sgd(1.0), ema=0.0)
    theta = np.asarray(run.last.generator.table.weight[:, 0])
    assert theta[1] == 0
    assert theta[0] + theta[2] / 3 == pytest.approx(50, rel=1e-5)  # every example adds (label + 1)/128
    assert theta[2] / 3 / 50 == pytest.approx(1 / 3, abs=0.03)


class Labelled(eqx.Module):
    table: eqx.nn.Embedding

    def __call__(self, z, label):
        return self.table(label)


def test_first_loss_that_is_not_finite_is_named():
    gan = pair(theta=(1.0,), w=(1.0,), spread=0.0, loss="wasserstein")
    broken = eqx.tree_at(lambda gan: gan.generator, gan, Breaking(jnp.zeros(1)))
    with pytest.raises(FloatingPointError, match=r"loss is not finite at step 6: discriminator nan"):
        fit_gan(
            *(broken, jnp.zeros((3, 1))),
            key=key(),
            steps=100,
            optimizer=optax.sgd(1.0),
            discriminator_optimizer=optax.sgd(0.0),
        )


class Breaking(eqx.Module):
    """θ, which a slope of 1 moves by 1 a step, until it is above 5½."""

    theta: jax.Array

    def __call__(self, z):
        return jnp.where(self.theta > 5.5, jnp.nan, self.theta)


def test_interrupt_returns_the_run_so_far():
    calls = []

    def interrupt_once(_):
        calls.append(1)
        if len(calls) == 60:
            os.kill(os.getpid(), signal.SIGINT)

    def data(key, n):
        jax.debug.callback(interrupt_once, jax.random.key_data(key))
        return jnp.zeros((n, 1))

    handler = signal.getsignal(signal.SIGINT)
    gan, options = pair(theta=(1.0,), w=(0.5,)), {"key": key(1), "optimizer": optax.sgd(0.1)}
    run = fit_gan(gan, data, steps=100_000, **options)
    done = len(run.history["generator"])
    assert not run.finished
    assert 30 <= done < 1000
    assert signal.getsignal(signal.SIGINT) is handler
    assert eqx.tree_equal(run.last, fit_gan(gan, lambda key, n: jnp.zeros((n, 1)), steps=done, **options).last)


def test_a_small_gan_covers_the_ring():
    """Eight narrow Gaussians on a circle: six or more are found, and most points lie close to one."""
    ring = toys.ring(scale=0.05)
    g_key, d_key, fit_key, sample_key = jax.random.split(key(7), 4)
    generator = nets.MLP((16, 64, 64, 2), key=g_key, activation=jax.nn.relu)
    leaky = lambda a: jax.nn.leaky_relu(a, 0.2)  # noqa: E731
    discriminator = nets.MLP((2, 64, 64, 1), key=d_key, activation=leaky, out_shape=())
    run = fit_gan(
        GAN(generator, discriminator, 16),
        ring.sample,
        key=fit_key,
        steps=4000,
        optimizer=optax.adam(1e-3, b1=0.5, b2=0.99),
    )
    coverage = ring.modes_covered(jax.vmap(run.model.sample)(jax.random.split(sample_key, 2500)))
    assert coverage.modes >= 6
    assert coverage.high_quality > 0.7
    assert 1.0 < run.history["discriminator"][-500:].mean() < math.log(4) + 0.05  # near the value of a game that is won
