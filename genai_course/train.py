"""The one training loop of the course: a jitted step inside a plain Python loop.

The loop is not a ``lax.scan``: readable, interruptible, and on a CPU many times faster for convolutions, which XLA
runs on a slow path inside a scan. Everything random in step i comes from ``fold_in(key, i)``, so a run that was
stopped and resumed is the same run, bit for bit.
"""

import collections
import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, PRNGKeyArray, PyTree
from tqdm import tqdm

from genai_course import _check, _checkpoint

_LAG = 4  # steps started ahead of the one whose loss is read: the device never waits, the loop stays close to it


class Run(NamedTuple):
    """What ``fit`` returns."""

    model: eqx.Module  #: the trained model: the best one on ``valid`` if that was given, otherwise the last
    history: dict[str, Float[np.ndarray, " steps"]]  #: batch mean at each step of "loss" and of its named parts
    valid: Float[np.ndarray, "evaluations 2"]  #: one row an evaluation: steps done, mean loss over ``valid``
    finished: bool  #: False if it was interrupted before its last step


class _State(NamedTuple):
    params: PyTree
    opt_state: PyTree
    step: jax.Array


def fit(
    model: eqx.Module,
    data: PyTree | Callable,
    *,
    key: PRNGKeyArray,
    steps: int,
    loss: Callable | None = None,
    batch_size: int = 128,
    optimizer: optax.GradientTransformation | None = None,
    valid: PyTree | None = None,
    valid_every: int = 200,
    patience: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
    mesh: jax.sharding.Mesh | None = None,
) -> Run:
    """Minimize the mean of ``loss(model, x, key)`` over the data by stochastic gradient descent.

    Step i draws a batch x₁ … x_B uniformly with replacement and hands the gradient of (1/B) Σ_b loss(θ, x_b, key_b)
    to the optimizer.

    data        arrays with a common first axis (or a pytree of them: ``loss`` gets the same pytree for one example),
                or a traceable function ``(key, n) -> batch`` for fresh draws at each step
    loss        the loss of one example: a scalar, or ``(scalar, {name: scalar})`` to have parts of it recorded;
                default ``model.loss(x, key)``
    optimizer   any Optax transformation; default ``optax.adam(1e-3)``
    valid       held-out data, evaluated every ``valid_every`` steps with the same keys each time; the best model is
                returned, and training ends after ``patience`` evaluations without improvement
    checkpoint  a file, written atomically every ``checkpoint_every`` steps and at the end; if it exists, training
                goes on from it
    mesh        devices among which each batch is split, a multiple of their number; every one holds all parameters

    An interrupt (Ctrl-C, the stop button) ends training after the steps under way and returns the run so far; a second
    one raises. Raises ``FloatingPointError`` naming the first step whose loss is not finite, and, before anything
    compiles, ``ValueError`` or ``TypeError`` naming the argument that is wrong. A progress bar appears after two
    seconds unless the environment variable ``GENAI_COURSE_PROGRESS`` is 0.
    """
    steps = _check.integer("steps", steps, least=0)
    batch_size = _check.integer("batch_size", batch_size)
    valid_every = _check.integer("valid_every", valid_every)
    checkpoint_every = _check.integer("checkpoint_every", checkpoint_every)
    _check.key("key", key)
    if not isinstance(model, eqx.Module):
        raise TypeError(f"model must be an equinox.Module, got {type(model).__name__}")
    if patience is not None:
        _check.integer("patience", patience)
        if valid is None:
            raise ValueError("patience needs valid, the held-out data that it watches")
    if loss is None and not callable(getattr(model, "loss", None)):
        raise TypeError(f"loss must be given, because {type(model).__name__} has no method loss(x, key)")
    loss = _own_loss if loss is None else _check.function("loss", loss)
    optimizer = optax.adam(1e-3) if optimizer is None else _check.optimizer("optimizer", optimizer)
    if checkpoint is not None:
        checkpoint = _checkpoint.file("checkpoint", checkpoint)
    if mesh is not None:
        mesh = _automatic(mesh, batch_size)
    data = data if callable(data) else _arrays("data", data)
    valid = valid if valid is None else _arrays("valid", valid)

    params, static = eqx.partition(model, eqx.is_inexact_array)
    objective = _objective(loss, static)
    update, names = _compile_update(objective, params, data, key, batch_size, optimizer, mesh)
    # Steps overwrite their input. The copy leaves the caller the untrained model.
    state = jax.tree.map(jnp.copy, _State(params, optimizer.init(params), jnp.int32(0)))
    arrays = None if callable(data) else data
    if mesh is not None:  # every device holds the state and the data; the batch is what is split
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        # A key travels as the numbers in it: device_put takes no typed key to the devices of another process.
        state, arrays, numbers = jax.device_put((state, arrays, jax.random.key_data(key)), everywhere)
        key = jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(key))
    rows, evaluations, best = [], [], params
    header = {"batch_size": batch_size, "key": np.asarray(jax.random.key_data(key)).tolist(), "names": names}
    if checkpoint is not None and checkpoint.exists():
        (state, best), rows, evaluations = _checkpoint.load(checkpoint, header, (state, params))
    evaluate = None if valid is None else _compile_evaluate(objective, valid, key)
    waiting = collections.deque()

    def record(leave: int) -> None:
        """Read all but the newest ``leave`` losses from the device."""
        while len(waiting) > leave:
            rows.append(np.asarray(waiting.popleft()))
            if not np.isfinite(rows[-1][0]):
                raise FloatingPointError(f"loss is {rows[-1][0]} at step {len(rows) - 1}; all steps before were finite")

    def save() -> None:
        record(leave=0)
        _checkpoint.save(checkpoint, header, (state, best), rows, evaluations)

    def stale() -> bool:
        if patience is None or len(evaluations) <= patience:
            return False
        return min(value for _, value in evaluations[-patience:]) >= min(v for _, v in evaluations[:-patience])

    step = len(rows)
    hidden = os.environ.get("GENAI_COURSE_PROGRESS") == "0"
    with _Interrupt() as stop, tqdm(total=steps, initial=step, delay=2, disable=hidden, leave=False) as bar:
        while step < steps and not stop.requested and not stale():
            state, values = update(state, arrays, key)
            waiting.append(values)
            record(leave=_LAG)
            step += 1
            bar.update()
            if evaluate is not None and step % valid_every == 0:
                record(leave=0)
                value = evaluate(state.params)
                if not np.isfinite(value):
                    raise FloatingPointError(f"loss over valid is {value} after {step} steps")
                if not evaluations or value < min(v for _, v in evaluations):
                    best = jax.tree.map(jnp.copy, state.params)
                evaluations.append((step, value))
            if checkpoint is not None and step % checkpoint_every == 0:
                save()
        record(leave=0)
    if checkpoint is not None:
        save()
    history = dict(zip(names, np.array(rows).reshape(-1, len(names)).T))
    trained = best if evaluations else state.params
    finished = step >= steps or stale()
    return Run(eqx.combine(trained, static), history, np.array(evaluations).reshape(-1, 2), finished)


def _own_loss(model, x, key):
    return model.loss(x, key)


def _arrays(name: str, data: PyTree) -> PyTree:
    """The data as device arrays with a common, non-empty first axis."""
    leaves, tree = jax.tree.flatten(data)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got {data!r:.60}")
    leaves = [_check.array(name, leaf) for leaf in leaves]
    if any(leaf.ndim == 0 for leaf in leaves) or len({len(leaf) for leaf in leaves}) > 1:
        raise ValueError(f"{name} must be arrays with the same first axis, got shapes {[x.shape for x in leaves]}")
    if len(leaves[0]) == 0:
        raise ValueError(f"{name} must hold at least one example, got shapes {[x.shape for x in leaves]}")
    return jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in leaves])


def _automatic(mesh: jax.sharding.Mesh, batch_size: int) -> jax.sharding.Mesh:
    """The mesh with axes along which the compiler splits by itself; those of ``jax.make_mesh`` it does not."""
    if not isinstance(mesh, jax.sharding.Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, got {type(mesh).__name__}")
    if batch_size % mesh.size:
        raise ValueError(f"batch_size must be a multiple of the mesh's {mesh.size} devices, got {batch_size}")
    return jax.sharding.Mesh(mesh.devices, mesh.axis_names)


def _objective(loss: Callable, static: PyTree) -> Callable:
    """``loss`` as a function of the parameters that always returns ``(scalar, parts)``."""

    def objective(params, x, key):
        value = loss(eqx.combine(params, static), x, key)
        return value if isinstance(value, tuple) else (value, {})

    return objective


def _loss_names(objective: Callable, params: PyTree, batch: PyTree, key: PRNGKeyArray) -> list[str]:
    """Check, without computing, that one example's loss is a scalar; return the names of what it reports."""
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)
    returned = jax.eval_shape(objective, params, example, key)
    if len(returned) != 2 or not isinstance(returned[1], dict) or "loss" in returned[1]:
        raise ValueError(f"loss must return a number, or a number and a dict of others with names, got {returned}")
    value, parts = returned
    for name, part in {"loss": value, **parts}.items():
        if not hasattr(part, "shape") or part.shape or not jnp.issubdtype(part.dtype, jnp.floating):
            raise ValueError(
                f"loss must return one real number for one example, got {name} = {part}; "
                "sum over the dimensions of the example (a mean would change the weights of the loss's terms)"
            )
    return ["loss", *parts]


def _compile_update(objective, params, data, key, batch_size, optimizer, mesh):
    """One training step, jitted, its state overwritten in place; and the names of the numbers that it reports."""

    def draw(key, arrays):
        if callable(data):
            return data(key, batch_size)
        index = jax.random.randint(key, (batch_size,), 0, len(jax.tree.leaves(arrays)[0]))
        return jax.tree.map(lambda x: x[index], arrays)

    batch = jax.eval_shape(draw, key, None if callable(data) else data)
    shapes = [x.shape for x in jax.tree.leaves(batch)]
    if not shapes or any(shape[:1] != (batch_size,) for shape in shapes):
        raise ValueError(f"data must return {batch_size} examples along the first axis, got shapes {shapes}")
    names = _loss_names(objective, params, batch, key)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state, arrays, key):
        batch_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch, keys = draw(batch_key, arrays), jax.random.split(loss_key, batch_size)
        if mesh is not None:
            by_example = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names))
            batch, keys = jax.lax.with_sharding_constraint((batch, keys), by_example)

        def mean_loss(params):
            value, parts = jax.vmap(objective, (None, 0, 0))(params, batch, keys)
            return value.mean(), [parts[name].mean() for name in names[1:]]

        (value, parts), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        direction, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, direction)
        return _State(params, opt_state, state.step + 1), jnp.stack([value, *parts])

    return update, names


def _compile_evaluate(objective, valid, key):
    """Mean loss over ``valid``, in blocks, with the same key for the same example at every evaluation."""
    n = len(jax.tree.leaves(valid)[0])
    key = jax.random.fold_in(key, 2**32 - 1)  # a number that no step has

    @jax.jit
    def total(params, batch, start):
        index = start + jnp.arange(len(jax.tree.leaves(batch)[0]))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        return jax.vmap(objective, (None, 0, 0))(params, batch, keys)[0].sum()

    def evaluate(params) -> float:
        blocks = [(jax.tree.map(lambda x: x[start : start + 1000], valid), start) for start in range(0, n, 1000)]  # noqa: B023
        return sum(float(total(params, *block)) for block in blocks) / n

    return evaluate


class _Interrupt:
    """While active, the first interrupt only asks the loop to stop after its step; a second one raises."""

    requested = False

    def __enter__(self):
        self.previous = None
        if threading.current_thread() is threading.main_thread():  # elsewhere Python delivers no signals
            self.previous = signal.signal(signal.SIGINT, self._request)
        return self

    def _request(self, number, frame):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *_):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
