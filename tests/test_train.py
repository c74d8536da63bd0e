"""The training loop against closed forms, and under interrupts, crashes, kills and bad arguments."""

import json
import multiprocessing
import os
import signal
import threading
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from train_worker import leaves, problem, regression, store_sharded, train_and_store

from genai_course import train
from genai_course.data import rng_from_key
from genai_course.train import fit


class Point(eqx.Module):
    """A model with parameters and nothing else."""

    w: jax.Array


def same(run, other) -> bool:
    """Whether two runs agree in every bit."""
    return all(np.array_equal(a, b) for a, b in zip(leaves(run), leaves(other), strict=True))


def climb(model, x, key):
    """Loss −w: gradient descent with rate 1 adds 1 to w at each step."""
    return -model.w


def at_zero() -> Point:
    return Point(jnp.float32(0))


ONES = jnp.ones(4)
UNIT_RATE = optax.sgd(1.0)


# What it minimizes


def test_gradient_descent_follows_its_closed_form():
    """On the whole data set at each step, w_t = w* + (I − rate H)^t (w_0 − w*)."""
    rng = rng_from_key(jax.random.key(0))
    a, b = rng.normal(size=(50, 3)), rng.normal(size=50)
    hessian = a.T @ a / 50
    best = np.linalg.lstsq(a, b)[0]
    start, rate, steps = np.array([2.0, -1.0, 0.5]), 0.3, 60

    def loss(model, row, key):
        return (row[0] @ model.w - row[1]) ** 2 / 2

    rows = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    run = fit(
        Point(jnp.asarray(start, jnp.float32)),
        lambda key, n: rows,
        loss=loss,
        key=jax.random.key(0),
        steps=steps,
        batch_size=50,
        optimizer=optax.sgd(rate),
    )
    path = [best + np.linalg.matrix_power(np.eye(3) - rate * hessian, t) @ (start - best) for t in range(steps + 1)]
    np.testing.assert_allclose(run.model.w, path[steps], atol=1e-5)
    np.testing.assert_allclose(run.history["loss"], [((a @ w - b) ** 2).mean() / 2 for w in path[:steps]], rtol=1e-5)
    assert run.finished


def test_drawn_batches_converge_to_least_squares():
    """Without noise in the data every batch agrees on the solution, so drawn batches must find it too."""
    rng = rng_from_key(jax.random.key(0))
    a = rng.normal(size=(200, 4)).astype(np.float32)
    b = a @ np.array([1, -2, 3, 0.5], np.float32)

    def loss(model, row, key):
        return (row["a"] @ model.w - row["b"]) ** 2

    run = fit(
        Point(jnp.zeros(4)),
        {"a": a, "b": b},
        loss=loss,
        key=jax.random.key(1),
        steps=800,
        batch_size=20,
        optimizer=optax.sgd(0.05),
    )
    np.testing.assert_allclose(run.model.w, np.linalg.lstsq(a, b)[0], atol=1e-4)


def test_batches_and_keys_are_uniform_and_independent():
    def loss(model, x, key):
        return model.w, {"index": x, "draw": jax.random.uniform(key)}

    run = fit(at_zero(), jnp.arange(10.0), loss=loss, key=jax.random.key(2), steps=3000, batch_size=1)
    index = run.history["index"].astype(int)
    assert stats.chisquare(np.bincount(index, minlength=10)).pvalue > 1e-4
    pairs = np.bincount(10 * index[:-1] + index[1:], minlength=100)  # with replacement: all 100 equally likely
    assert stats.chisquare(pairs).pvalue > 1e-4
    draw = run.history["draw"]
    assert stats.kstest(draw, "uniform").pvalue > 1e-4
    assert len(np.unique(draw)) > 2990  # 24-bit draws: 0.3 coincidences expected
    assert abs(stats.spearmanr(draw, index).statistic) < 4 / np.sqrt(3000)


def test_history_holds_batch_means_of_loss_and_parts():
    data = jnp.array([[1.0, 2.0], [3.0, 5.0]])

    def loss(model, x, key):
        return model.w + x[0], {"second": x[1], "square": x[1] ** 2}

    run = fit(at_zero(), lambda key, n: data, loss=loss, key=jax.random.key(0), steps=2, batch_size=2)
    assert list(run.history) == ["loss", "second", "square"]
    np.testing.assert_allclose(run.history["loss"][0], 2.0)
    np.testing.assert_allclose(run.history["second"], 3.5)
    np.testing.assert_allclose(run.history["square"], 14.5)


def test_default_loss_is_the_models_own():
    class Own(eqx.Module):
        w: jax.Array

        def loss(self, x, key):
            return -self.w

    run = fit(Own(jnp.float32(0)), ONES, key=jax.random.key(0), steps=3, optimizer=UNIT_RATE)
    assert run.model.w == 3


def test_same_key_same_run_and_other_key_another():
    run = regression(steps=30)
    assert same(run, regression(steps=30))
    assert not same(run, regression(steps=30, key=jax.random.key(2)))


def test_zero_steps_return_the_model():
    model, data, loss = problem(jax.random.key(0))
    run = fit(model, data, loss=loss, key=jax.random.key(0), steps=0)
    assert eqx.tree_equal(run.model, model)
    assert run.finished
    assert run.history["loss"].shape == (0,)
    assert run.valid.shape == (0, 2)


# An optimizer that remembers where it began: its state is, at first, the very arrays of the model.
REMEMBERS = optax.GradientTransformation(lambda params: params, lambda grads, state, params=None: (grads, state))


@pytest.mark.parametrize("optimizer", [optax.adam(1e-2), REMEMBERS], ids=["adam", "remembers"])
def test_the_callers_model_is_left_as_it_was(optimizer):
    """Steps overwrite their buffers, which must not be the caller's."""
    model, data, loss = problem(jax.random.key(0))
    before = [np.array(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]
    fit(model, data, loss=loss, key=jax.random.key(0), steps=3, optimizer=optimizer)
    after = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


# What it refuses


def vector(model, x, key):
    return jnp.ones(3) * model.w


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (vector, "sum over"),
        (lambda model, x, key: (model.w, {"part": jnp.ones(2)}), "part"),
        (lambda model, x, key: None, "loss must return one real number"),
        (lambda model, x, key: 1j * model.w, "real number"),
        (lambda model, x, key: (model.w, model.w), "loss must return"),
        (lambda model, x, key: (model.w, {}, {}), "loss must return"),
        (lambda model, x, key: (model.w, {"loss": model.w}), "loss must return"),
    ],
)
def test_loss_that_is_no_scalar_is_refused(loss, says):
    with pytest.raises(ValueError, match=says):
        fit(at_zero(), ONES, loss=loss, key=jax.random.key(0), steps=1)


def test_missing_loss_is_named():
    with pytest.raises(TypeError, match="loss must be given, because Point has no method loss"):
        fit(at_zero(), ONES, key=jax.random.key(0), steps=1)


def test_data_function_of_the_wrong_size_is_named():
    with pytest.raises(ValueError, match=r"data must return 128 examples"):
        fit(at_zero(), lambda key, n: jnp.ones((64, 2)), loss=climb, key=jax.random.key(0), steps=1)


def failing(step: int, value: float):
    """``climb`` with a loss that is NaN or infinite from ``step`` on, when w has become larger than ``step`` − ½."""

    def loss(model, x, key):
        return jnp.where(model.w > step - 0.5, value, -model.w)

    return loss


@pytest.mark.parametrize(("step", "value"), [(0, np.nan), (4, np.nan), (150, np.nan), (4, np.inf)])
def test_first_loss_that_is_not_finite_is_named(step, value):
    with pytest.raises(FloatingPointError, match=rf"loss is {value} at step {step}\b"):
        fit(at_zero(), ONES, loss=failing(step, value), key=jax.random.key(0), steps=step + 40, optimizer=UNIT_RATE)


def test_checkpoint_survives_a_loss_that_is_not_finite(tmp_path):
    options = {"key": jax.random.key(0), "optimizer": UNIT_RATE, "checkpoint": tmp_path / "run", "checkpoint_every": 2}
    with pytest.raises(FloatingPointError):
        fit(at_zero(), ONES, loss=failing(5, np.nan), steps=40, **options)
    run = fit(at_zero(), ONES, loss=failing(5, np.nan), steps=4, **options)
    assert run.model.w == 4
    assert len(run.history["loss"]) == 4


# Validation


def watched(model, x, key):
    """Training data 1: climb. Held-out data 0: (w − 5)², so after s steps it is (s − 5)²."""
    return jnp.where(x == 1, -model.w, (model.w - 5) ** 2)


def test_best_model_is_returned_and_patience_ends_training():
    options = {"loss": watched, "key": jax.random.key(0), "optimizer": UNIT_RATE, "valid": jnp.zeros(7)}
    run = fit(at_zero(), ONES, steps=100, valid_every=1, patience=3, **options)
    np.testing.assert_allclose(run.valid, [(s, (s - 5) ** 2) for s in range(1, 9)])
    assert run.model.w == 5
    assert run.finished
    assert len(run.history["loss"]) == 8

    run = fit(at_zero(), ONES, steps=10, valid_every=4, **options)
    np.testing.assert_allclose(run.valid, [(4, 1), (8, 9)])
    assert run.model.w == 4
    assert len(run.history["loss"]) == 10


def test_validation_is_the_mean_over_all_held_out_data_with_fixed_keys():
    def loss(model, x, key):
        return 0 * model.w + x + jax.random.normal(key)

    run = fit(at_zero(), ONES, loss=loss, key=jax.random.key(0), steps=3, valid=jnp.arange(2500.0), valid_every=1)
    values = run.valid[:, 1]
    assert values.min() == values.max()
    assert values[0] == pytest.approx(np.arange(2500).mean(), abs=4 / np.sqrt(2500))


def test_validation_that_is_not_finite_is_named():
    def loss(model, x, key):
        return jnp.where(x == 1, -model.w, jnp.where(model.w > 2.5, jnp.nan, 0.0))

    with pytest.raises(FloatingPointError, match=r"valid.* nan after 3 steps"):
        fit(
            *(at_zero(), ONES),
            loss=loss,
            key=jax.random.key(0),
            steps=9,
            optimizer=UNIT_RATE,
            valid=jnp.zeros(2),
            valid_every=1,
        )


# Interrupts


def test_interrupt_returns_the_run_so_far(tmp_path):
    """A Ctrl-C in the middle: what comes back is, bit for bit, the run of as many steps as were done."""
    model, (x, y), loss = problem(jax.random.key(0))
    calls = []

    def interrupt_once(key):
        calls.append(key)
        if len(calls) == 40:
            os.kill(os.getpid(), signal.SIGINT)

    def data(key, n):
        jax.debug.callback(interrupt_once, jax.random.key_data(key))
        index = jax.random.randint(key, (n,), 0, len(x))
        return x[index], y[index]

    def quiet(key, n):
        index = jax.random.randint(key, (n,), 0, len(x))
        return x[index], y[index]

    handler = signal.getsignal(signal.SIGINT)
    options = {"loss": loss, "key": jax.random.key(3)}
    run = fit(model, data, steps=100_000, checkpoint=tmp_path / "run", **options)
    done = len(run.history["loss"])
    assert not run.finished
    assert 40 <= done < 1000
    assert signal.getsignal(signal.SIGINT) is handler
    assert same(run, fit(model, quiet, steps=done, **options))
    resumed = fit(model, quiet, steps=done + 10, checkpoint=tmp_path / "run", **options)
    assert same(resumed, fit(model, quiet, steps=done + 10, **options))


def test_second_interrupt_raises_and_the_handler_is_put_back():
    handler = signal.getsignal(signal.SIGINT)
    stop = train._Interrupt()
    with stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


def test_trains_outside_the_main_thread():
    runs = []
    thread = threading.Thread(target=lambda: runs.append(regression(steps=3)))
    thread.start()
    thread.join()
    assert same(runs[0], regression(steps=3))


# Checkpoints


def test_resumed_run_is_the_uninterrupted_run(tmp_path):
    held_out = problem(jax.random.key(5))[1]
    options = {"valid": held_out, "valid_every": 5, "optimizer": optax.adam(1e-2)}
    whole = regression(steps=30, **options)
    path = tmp_path / "new folder" / "run.ckpt"
    for steps in (7, 12, 30):
        resumed = regression(steps=steps, checkpoint=path, **options)
    assert same(resumed, whole)
    assert len(whole.valid) == 6
    assert same(regression(steps=30, checkpoint=path, **options), whole)  # nothing left to do
    assert [file.name for file in path.parent.iterdir()] == ["run.ckpt"]


def test_resumed_run_keeps_its_patience(tmp_path):
    options = {"loss": watched, "key": jax.random.key(0), "optimizer": UNIT_RATE, "valid": jnp.zeros(7)}
    options |= {"valid_every": 1, "patience": 3, "checkpoint": tmp_path / "run"}
    fit(at_zero(), ONES, steps=6, **options)
    run = fit(at_zero(), ONES, steps=100, **options)
    assert run.model.w == 5
    assert len(run.history["loss"]) == 8
    assert run.finished


@pytest.mark.parametrize("fails", ["write", "fsync", "replace"])
def test_crash_while_saving_leaves_the_old_checkpoint(tmp_path, monkeypatch, fails):
    path = tmp_path / "run"
    regression(steps=4, checkpoint=path)
    before = path.read_bytes()

    def crash(*_):
        raise OSError("disk full")

    def write_half(file, tree):
        file.write(before[: len(before) // 2])
        crash()

    where = {"write": (eqx, "tree_serialise_leaves"), "fsync": (os, "fsync"), "replace": (os, "replace")}[fails]
    with monkeypatch.context() as patch:
        patch.setattr(*where, write_half if fails == "write" else crash)
        with pytest.raises(OSError, match="disk full"):
            regression(steps=8, checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "run.part").write_bytes(before[:50])  # as a kill in the middle of a save leaves it
    (tmp_path / "runabc.part").write_bytes(before[:50])
    assert same(regression(steps=8, checkpoint=path), regression(steps=8))


def altered(path, **changes):
    """Rewrite the header of a checkpoint; a value of None takes the entry out."""
    head, _, rest = path.read_bytes().partition(b"\n")
    header = {k: v for k, v in (json.loads(head) | changes).items() if v is not None}
    path.write_bytes(json.dumps(header).encode() + b"\n" + rest)


def wider(model, x, key):
    return problem(jax.random.key(0))[2](model, x, key)[0], {"other": jnp.float32(0)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 8}, r"batch_size 16 there, 8 here"),
        ({"key": jax.random.key(7)}, r"key \[0, 1\] there, \[0, 7\] here"),
        ({"loss": wider}, r"names \['loss', 'fitted'\] there, \['loss', 'other'\] here"),
        ({"optimizer": optax.sgd(0.1)}, "does not fit this model and optimizer"),
    ],
)
def test_checkpoint_of_another_run_is_refused(tmp_path, options, says):
    regression(steps=2, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=f"checkpoint .*{says}"):
        regression(steps=4, checkpoint=tmp_path / "run", **options)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    regression(steps=2, checkpoint=tmp_path / "run")
    _, data, loss = problem(jax.random.key(0))
    model = eqx.nn.MLP(3, 1, 9, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"checkpoint .* does not fit this model"):
        fit(model, data, loss=loss, key=jax.random.key(1), steps=4, batch_size=16, checkpoint=tmp_path / "run")


@pytest.mark.parametrize("cut", [0, 1, 40, 200, 500, 0.5, 0.9, -1])
def test_truncated_checkpoint_is_refused(tmp_path, cut):
    path = tmp_path / "run"
    regression(steps=2, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole)) if isinstance(cut, float) else cut])
    with pytest.raises(ValueError, match="checkpoint"):
        regression(steps=4, checkpoint=path)


@pytest.mark.parametrize("garbage", [b"\x93\xff\x00\xfe", b"{}\n", b"[1, 2]\n", b"3\n", b"null\n", b"\n"])
def test_garbage_is_no_checkpoint(tmp_path, garbage):
    path = tmp_path / "run"
    path.write_bytes(garbage)
    with pytest.raises(ValueError, match=r"checkpoint .* is not one that fit wrote"):
        regression(steps=4, checkpoint=path)
    assert path.read_bytes() == garbage


@pytest.mark.parametrize(
    "change", [{"batch_size": None}, {"key": None}, {"steps": "2"}, {"steps": -1}, {"evaluations": None}]
)
def test_checkpoint_with_a_damaged_header_is_refused(tmp_path, change):
    path = tmp_path / "run"
    regression(steps=2, checkpoint=path)
    altered(path, **change)
    with pytest.raises(ValueError, match=r"checkpoint .* is not one that fit wrote"):
        regression(steps=4, checkpoint=path)


# Processes of their own. The fork server imports JAX once and makes no device, so each fork is quick and clean.


@pytest.fixture(scope="module")
def process():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train_worker", "genai_course.train"])
    return context.Process


def finish(process, target, *args, **options):
    child = process(target=target, args=args, kwargs=options)
    child.start()
    child.join()
    assert child.exitcode == 0


@pytest.mark.slow
def test_twenty_kills_leave_the_uninterrupted_run(tmp_path, process):
    """Kill -9 at random moments, mostly around a save; each new process goes on from the last whole checkpoint."""
    path = tmp_path / "run"
    options = {"steps": 2000, "valid_every": 50, "checkpoint_every": 5}
    rng = rng_from_key(jax.random.key(4))

    def written() -> int:
        return path.stat().st_mtime_ns if path.exists() else 0

    deadline = time.monotonic() + 300
    for _ in range(20):
        before = written()
        child = process(target=train_and_store, args=(tmp_path / "never.npz",), kwargs=options | {"checkpoint": path})
        child.start()
        while written() == before:
            assert child.is_alive(), "the checkpoint that the kill left does not load"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "training ended before the kill: it needs more steps"
    finish(process, train_and_store, tmp_path / "killed.npz", **options, checkpoint=path)
    finish(process, train_and_store, tmp_path / "whole.npz", **options)
    killed, whole = np.load(tmp_path / "killed.npz"), np.load(tmp_path / "whole.npz")
    assert killed.files == whole.files
    assert all(np.array_equal(killed[name], whole[name]) for name in whole.files)


def test_eight_devices_give_the_losses_of_one(tmp_path, process):
    finish(process, store_sharded, tmp_path / "out.npz", 8, tmp_path / "run")
    found = np.load(tmp_path / "out.npz")
    assert found["devices"] == found["mesh_holders"] == found["made_holders"] == 8
    for name in ("mesh", "made", "resumed"):
        np.testing.assert_allclose(found[name], found["alone"], rtol=1e-4, atol=1e-6)


# Progress


def slow(key, n):
    """A batch that takes 30 ms to draw."""
    wait = jax.pure_callback(lambda _: (time.sleep(0.03), np.float32(0))[1], jax.ShapeDtypeStruct((), jnp.float32), n)
    return jnp.ones(n) + wait


@pytest.mark.parametrize(("setting", "steps", "shown"), [("0", 90, False), ("1", 90, True), ("1", 3, False)])
def test_progress_bar_after_two_seconds_unless_switched_off(monkeypatch, capfd, setting, steps, shown):
    monkeypatch.setenv("GENAI_COURSE_PROGRESS", setting)
    fit(at_zero(), slow, loss=lambda model, x, key: -model.w * x, key=jax.random.key(0), steps=steps)
    out, err = capfd.readouterr()
    assert out == ""
    if shown:
        assert "/90 [" in err  # the count,
        assert "it/s" in err  # the rate
    else:
        assert err == ""
