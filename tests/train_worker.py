"""Trainings that tests/test_train.py runs in processes of their own: to be killed, or to see eight devices."""

import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genai_course.nets import MLP
from genai_course.train import Run, fit


def problem(key, *, rows: int = 64):
    """A small regression: ``(model, data, loss)``. The loss also draws noise, so that the key matters."""
    x_key, net_key = jax.random.split(key)
    x = jax.random.normal(x_key, (rows, 3))
    y = jnp.sin(x.sum(1))

    def loss(model, example, key):
        x, y = example
        fitted = model(x + 0.01 * jax.random.normal(key, x.shape))[0]
        return (fitted - y) ** 2, {"fitted": fitted}

    return MLP((3, 8, 1), key=net_key), (x, y), loss


def regression(seed: int = 0, **options) -> Run:
    """Train ``problem(seed)``; ``options`` go to ``fit``."""
    model, data, loss = problem(jax.random.key(seed))
    return fit(model, data, **{"loss": loss, "key": jax.random.key(1), "batch_size": 16} | options)


def leaves(run: Run) -> list[np.ndarray]:
    """All numbers in what ``fit`` returned."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter((run.model, run.history, run.valid), eqx.is_array))]


def train_and_store(out: Path, **options) -> None:
    """Train and store all numbers of the run in the file ``out``."""
    options = {"valid": problem(jax.random.key(5))[1], "optimizer": optax.adam(1e-2)} | options
    np.savez(out, *leaves(regression(**options)))


def store_sharded(out: Path, devices: int, checkpoint: Path) -> None:
    """Train on one device and on meshes of ``devices`` of them, and store each run's losses and weights."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"  # read when the devices are made
    meshes = {
        "mesh": jax.sharding.Mesh(np.array(jax.devices()), ("batch",)),
        "made": jax.make_mesh((devices // 2, 2), ("a", "b")),
    }
    numbers = {"devices": jax.device_count(), "alone": regression(steps=40).history["loss"]}
    for name, mesh in meshes.items():
        run = regression(steps=40, mesh=mesh, valid=problem(jax.random.key(5))[1], valid_every=20)
        numbers[name] = run.history["loss"]
        numbers[f"{name}_holders"] = len(run.model.layers[0].weight.sharding.device_set)
    regression(steps=25, mesh=meshes["mesh"], checkpoint=checkpoint)
    numbers["resumed"] = regression(steps=40, mesh=meshes["mesh"], checkpoint=checkpoint).history["loss"]
    np.savez(out, **numbers)
