"""Two processes that know each other through ``jax.distributed`` train as one device does."""

import multiprocessing
import os
import time
from multiprocessing.connection import Listener

import jax
import numpy as np
import pytest

SECONDS = 120  # limit for both processes together; they need about 10 on two idle cores
STEPS = 20


def train_with_others(process_id: int, processes: int, port: int, out: str) -> None:
    """What one process does: join the others, train on all devices, store what it saw."""
    os.environ["GENAI_COURSE_PROGRESS"] = "0"
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", processes, process_id, initialization_timeout=60)
    from train_worker import problem

    from genai_course.train import fit

    model, data, loss = problem(jax.random.key(0))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    run = fit(model, data, loss=loss, key=jax.random.key(1), steps=STEPS, batch_size=16, mesh=mesh)
    weight = run.model.layers[0].weight
    holders = len(weight.sharding.device_set)
    counts = [jax.process_count(), jax.device_count(), jax.local_device_count(), holders]
    np.savez(f"{out}/{process_id}.npz", weight=weight, counts=counts, **run.history)


def fail(process_id: int, processes: int, port: int, out: str) -> None:
    """One process ends before it joins; the other would wait for it."""
    if process_id == 1:
        raise SystemExit(3)
    time.sleep(SECONDS)


def launch(target, out, processes: int = 2) -> list[int | None]:
    """Run the processes to their end, or all to the end of the first that fails; return their exit codes."""
    with Listener(("localhost", 0)) as listener:  # the system names a port that is free
        port = listener.address[1]
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=target, args=(i, processes, port, str(out))) for i in range(processes)]
    deadline = time.monotonic() + SECONDS
    try:
        for child in children:
            child.start()
        while any(child.is_alive() for child in children) and time.monotonic() < deadline:
            if any(child.exitcode for child in children):
                break
            time.sleep(0.05)
        return [child.exitcode for child in children]
    finally:
        for child in children:
            child.kill()
            child.join()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What the two processes stored."""
    out = tmp_path_factory.mktemp("two_processes")
    codes = launch(train_with_others, out)
    assert codes == [0, 0], f"exit codes {codes}: None stands for a process that was still running and was ended"
    return [np.load(out / f"{i}.npz") for i in range(2)]


def test_two_processes_share_four_devices(results):
    for found in results:
        assert found["counts"].tolist() == [2, 4, 2, 4]


def test_two_processes_give_the_losses_of_one_device(results):
    from train_worker import regression

    alone = regression(steps=STEPS)
    for found in results:
        np.testing.assert_allclose(found["loss"], alone.history["loss"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["fitted"], alone.history["fitted"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["weight"], alone.model.layers[0].weight, rtol=1e-3, atol=1e-5)


def test_two_processes_hold_the_same_weights_bit_for_bit(results):
    assert np.array_equal(results[0]["weight"], results[1]["weight"])
    assert np.array_equal(results[0]["loss"], results[1]["loss"])


def test_a_process_that_dies_ends_the_run(tmp_path):
    start = time.monotonic()
    codes = launch(fail, tmp_path)
    assert codes == [None, 3]
    assert time.monotonic() - start < SECONDS / 2
