"""The transformer of ``chapters/6_applications/1_writing``, on the plays of Shakespeare, beside nanoGPT.

Run with ``python benchmarks/shakespeare.py`` (some minutes on two cores). The data set is fetched once, or found in the
folder that GENAI_COURSE_DATA names (see ``genai_course.data.benchmarks``).

The setting is that of nanoGPT for a CPU (Karpathy, 2022): 65 characters, 4 layers, 4 heads, width 128, windows of 64
characters, 12 of them a step, 2,000 steps; nats per character on the last tenth of the text. What differs: ours is the
mean over the whole of that tenth, cut into windows, and the published number an estimate from 20 random batches;
attention, perceptrons and learning rate are our own. The first character of a window has no context, in both.
Beside it stands bzip2, on the same tenth.
"""

import argparse
import bz2
import math
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genai_course import nets, train
from genai_course.data import benchmarks
from genai_course.models.language import LanguageModel

WINDOW, BATCH = 64, 12
PUBLISHED = 1.88  # nats per character, Karpathy (2022), nanoGPT, the setting for a CPU


def windows(ids: np.ndarray) -> jnp.ndarray:
    """Rows of 65 characters; each begins with the last one of the row before."""
    rows = (len(ids) - 1) // WINDOW
    return jnp.asarray(ids[np.arange(rows)[:, None] * WINDOW + np.arange(WINDOW + 1)])


@eqx.filter_jit
def nats_per_character(model: LanguageModel, rows: jnp.ndarray) -> jax.Array:
    """-log p of each row, given its first character, over its length."""
    return -jax.lax.map(model.log_prob, rows, batch_size=64) / WINDOW


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    data = benchmarks.tiny_shakespeare()
    characters = sorted(set(data.train))
    number = {c: i for i, c in enumerate(characters)}
    held_out = data.valid + data.test
    ids = jnp.array([number[c] for c in data.train])

    def draw(key, n):
        first = jax.random.randint(key, (n, 1), 0, len(ids) - WINDOW)
        return ids[first + jnp.arange(WINDOW + 1)]

    init_key, fit_key = jax.random.split(jax.random.key(options.seed))
    net = nets.Transformer(len(characters), WINDOW, key=init_key, width=128, heads=4, layers=4)
    schedule = optax.warmup_cosine_decay_schedule(0, 2e-3, 100, options.steps)
    start = time.perf_counter()
    run = train.fit(
        LanguageModel(net),
        draw,
        key=fit_key,
        steps=options.steps,
        batch_size=BATCH,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.99, weight_decay=0.1)),
    )
    seconds = time.perf_counter() - start
    scores = nats_per_character(run.model, windows(np.array([number[c] for c in held_out])))
    compressed = 8 * math.log(2) * len(bz2.compress(held_out.encode())) / len(held_out)
    print(f"{nets.parameter_count(net):,} parameters, seed {options.seed}, {options.steps} steps in {seconds:.0f} s")
    print(f"{float(scores.mean()):.3f} nats per character on {len(held_out):,} held-out ones")
    print(f"{PUBLISHED:.2f}  published; {compressed:.2f}  bzip2")


if __name__ == "__main__":
    main()
