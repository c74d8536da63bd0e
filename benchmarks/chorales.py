"""The chorale model of ``chapters/6_applications/3_music`` on JSB chorales, beside published numbers.

Run with ``python benchmarks/chorales.py`` (some minutes on two cores). The data set is fetched once, or found in the
folder that GENAI_COURSE_DATA names (see ``genai_course.data.benchmarks``).

The setting is that of the literature: quarter notes, the published split of 229, 76 and 77 pieces, nats per step,
mean over all test steps. What differs: the published models give probabilities to 88 keys, on or off. Ours gives them
to four notes, from the highest to the lowest. A chord has one spelling as four notes (see ``four_notes``), so -log p of
that spelling is at least -log p of the chord: our number is an upper bound, and can be compared. The first soprano
note, which the chapter takes as given, is charged here: by counts of the first notes of the training pieces. (The code
of Bai et al. leaves out the first chord of every piece, which has no past.) The model reads the whole soprano before
the lower voices; the sum is still a log-likelihood of the whole piece, but no prediction of the next chord from the
past. ``token`` cuts intervals off at 48 down and 24 up; no interval of this data set is larger.
"""

import argparse
import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genai_course import nets, train
from genai_course.data import benchmarks

PUBLISHED = {  # nats per step on the same test set
    "RNN, Bai et al. (2018)": 8.91,
    "LSTM, Bai et al. (2018)": 8.45,
    "GRU, Bai et al. (2018)": 8.43,
    "TCN, Bai et al. (2018)": 8.10,
    "deep Markov model, Krishnan et al. (2017), a bound": 6.93,
}
PAST, AHEAD, EMBED = 8, 8, 16
SILENCE, OUTSIDE, MIDDLE = 0, 74, 72


def four_notes(roll: np.ndarray) -> np.ndarray:
    """Soprano to bass of each step: the highest key, the lowest, the others from above; 0 where there is none."""
    pitch = np.zeros((len(roll), 4), np.int32)
    for chord, keys in zip(pitch, roll):
        down = 21 + np.flatnonzero(keys)[::-1]
        chord[: len(down[:3])] = down[:3]
        if len(down) > 1:
            chord[len(down) - 1], chord[3] = 0, down[-1]
    return pitch


class Step(NamedTuple):
    """One step of a piece: pitches around it, references before and now, its number modulo 4, and if it is scored."""

    window: jax.Array
    before: jax.Array
    now: jax.Array
    beat: jax.Array
    scored: jax.Array


def steps_of(pitch: np.ndarray) -> Step:
    """All steps of a piece, each with ``PAST`` steps before it and ``AHEAD`` after it."""
    t = np.arange(len(pitch), dtype=np.int32)
    sounding = np.flatnonzero(pitch[:, 0] > 0)
    now = pitch[sounding[np.maximum(np.searchsorted(sounding, t, side="right") - 1, 0)], 0]
    before = np.concatenate([now[:1], now[:-1]])
    padded = np.pad(pitch, ((PAST, AHEAD), (0, 0)), constant_values=-1)
    return Step(padded[t[:, None] + np.arange(PAST + 1 + AHEAD)], before, now, t % 4, t > sounding[0])


def token(x: jax.Array, r: jax.Array | int) -> jax.Array:
    """Id of a pitch in coordinates with origin ``r``."""
    return jnp.where(x < 0, OUTSIDE, jnp.where(x == 0, SILENCE, jnp.clip(x - r, -48, 24) + 49))


class ChoraleNet(eqx.Module):
    """p(soprano) p(alto, tenor, bass | soprano), step by step, in coordinates that move with the soprano or fixed."""

    note: jax.Array
    beat: jax.Array
    melody: nets.MLP
    trunk: nets.MLP
    written: jax.Array
    heads: tuple[eqx.nn.Linear, ...]
    follow: jax.Array
    dropout: eqx.nn.Dropout
    moving: bool = eqx.field(static=True)

    def __init__(self, key: jax.Array, data: Step, *, moving: bool, hidden: int, dropout: float):
        keys = jax.random.split(key, 8)
        self.note = jax.random.normal(keys[0], (4, 75, EMBED))
        self.beat = jax.random.normal(keys[1], (4, EMBED))
        self.melody = nets.MLP(((PAST + 1) * EMBED, hidden // 2, 74), key=keys[2])
        self.trunk = nets.MLP(((4 * PAST + AHEAD + 2) * EMBED, hidden, hidden), key=keys[3])
        self.written = 0.3 * jax.random.normal(keys[4], (3, 74, hidden))
        self.heads = tuple(eqx.nn.Linear(hidden, 74, key=k) for k in keys[5:])
        y = np.asarray(token(data.window[:, PAST - 1 : PAST + 1], data.now[:, None, None] if moving else MIDDLE))
        counts = np.full((3, 75, 74), 0.05)
        for i in range(3):
            np.add.at(counts[i], (y[:, 0, i + 1], y[:, 1, i + 1]), 1)
        self.follow = jnp.log(jnp.asarray(counts / counts.sum(axis=2, keepdims=True)))
        self.dropout = eqx.nn.Dropout(dropout)
        self.moving = moving

    def log_probs(self, step: Step, key: jax.Array | None = None) -> jax.Array:
        """Log p of soprano, alto, tenor and bass of one step; ``key`` switches dropout on."""
        keys = [None] * 5 if key is None else jax.random.split(key, 5)

        def drop(x, key):
            return self.dropout(x, key=key, inference=key is None)

        x = token(step.window[: PAST + 1, 0], step.before if self.moving else MIDDLE)
        seen = jnp.concatenate([self.note[0, x[:PAST]].ravel(), self.beat[step.beat]])
        log_p = jax.nn.log_softmax(self.melody(drop(seen, keys[0])))[x[PAST]]
        terms = [jnp.where(step.scored, log_p, 0.0)]

        y = token(step.window, step.now if self.moving else MIDDLE)
        vectors = [self.note[v, y[:PAST, v]].ravel() for v in range(4)] + [self.note[0, y[PAST:, 0]].ravel()]
        h = self.trunk(drop(jnp.concatenate([*vectors, self.beat[step.beat]]), keys[1]))
        for i, head in enumerate(self.heads):
            z = y[PAST, i + 1]
            logits = head(drop(jax.nn.gelu(h), keys[2 + i])) + self.follow[i, y[PAST - 1, i + 1]]
            terms.append(jax.nn.log_softmax(logits)[z])
            h = h + self.written[i, z]
        return jnp.stack(terms)


def transposed(step: Step, k: jax.Array) -> Step:
    """The step ``k`` semitones higher."""
    window = jnp.where(step.window > 0, step.window + k, step.window)
    return step._replace(window=window, before=step.before + k, now=step.now + k)


def make_loss(augment: bool):
    """-log p of one step, transposed at random by up to 5 semitones if ``augment``."""

    def loss(net, step, key):
        shift_key, drop_key = jax.random.split(key)
        if augment:
            step = transposed(step, jax.random.randint(shift_key, (), -5, 6))
        return -net.log_probs(step, drop_key).sum()

    return loss


@eqx.filter_jit
def score(net: ChoraleNet, step: Step) -> jax.Array:
    """Log p of each note of each step."""
    return jax.vmap(net.log_probs)(step)


def main() -> None:
    """Train on the published split and print the numbers of its validation and test parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinates", choices=("moving", "fixed", "augmented"), default="moving")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    data = benchmarks.jsb_chorales()
    pieces = {part: [four_notes(roll) for roll in getattr(data, part)] for part in ("train", "valid", "test")}
    parts = {name: Step(*map(np.concatenate, zip(*map(steps_of, part)))) for name, part in pieces.items()}
    assert all(p[0, 0] > 0 for part in pieces.values() for p in part), "every piece begins with a note"
    for part, rolls in zip(pieces.values(), (data.train, data.valid, data.test)):
        assert ((np.concatenate(part) > 0).sum(axis=1) == np.concatenate(rolls).sum(axis=1)).all(), "no note is lost"

    schedule = optax.warmup_cosine_decay_schedule(0, 3e-3, options.steps // 10, options.steps)
    init_key, fit_key = jax.random.split(jax.random.key(options.seed))
    start = time.perf_counter()
    moving = options.coordinates == "moving"
    net = ChoraleNet(init_key, parts["train"], moving=moving, hidden=options.hidden, dropout=options.dropout)
    run = train.fit(
        net,
        parts["train"],
        loss=make_loss(options.coordinates == "augmented"),
        key=fit_key,
        steps=options.steps,
        batch_size=256,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2)),
    )
    seconds = time.perf_counter() - start

    first = np.bincount([p[0, 0] for p in pieces["train"]], minlength=128) + 0.1
    first_nats = -np.log(first / first.sum())
    for name in ("valid", "test"):
        terms = -np.asarray(score(run.model, parts[name])).mean(axis=0)
        extra = sum(first_nats[p[0, 0]] for p in pieces[name]) / len(parts[name].now)
        melody, harmony = terms[0] + extra, terms[1:].sum()
        print(f"{name}: {melody + harmony:.2f} nats per step (melody {melody:.2f}, harmony {harmony:.2f})")
    print(
        f"{options.coordinates} coordinates, seed {options.seed}, {options.steps} steps in {seconds:.0f} s; published:"
    )
    for name, value in PUBLISHED.items():
        print(f"  {value:.2f}  {name}")


if __name__ == "__main__":
    main()
