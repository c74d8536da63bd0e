"""Where will this pedestrian be in 4.8 s? Constant velocity beside a regression and a flow, on real recordings.

    python benchmarks/pedestrians.py [--steps 2000] [--seed 0]

ETH and UCY, one scene left out at a time: 8 positions seen, 12 to predict, 0.4 s apart, in meters. The data are fetched
once (2.8 MB, see ``genai_course.data.benchmarks``). A few minutes on two cores.

Errors are distances to what happened, averaged over the 12 times (ADE) or at the last one (FDE), then over windows,
then over scenes. "Best of 20" takes, window by window, the best of 20 guesses; it rewards spreading. The energy score,
E|Y - y| - E|Y - Y'| / 2 at each of the 12 times, does not: on average nothing beats the true distribution.

Published beside it: the constant velocity model of Schöller et al. (2020), for 20 guesses turned by an angle of 25
degrees standard deviation, and Social GAN (Gupta et al., 2018), as in their public repositories. The setting differs:
- Schöller's code also counts windows with as few as 2 of the 12 positions to predict; here all 12 must be there.
- The files are those of Trajectron++ (Salzmann et al., 2020). Users report (issue 67 of its repository, 84 of Social
  GAN's) that eth has a position every 10 video frames where 6 are 0.4 s, so its steps may be longer than the others'.
- Social GAN's code picks the best of 20 once for all pedestrians who are seen together (it adds up their errors
  first); here, and in Schöller's code, it is picked for each pedestrian, which is easier.
- The flow sees one pedestrian, neither the others nor the place; Social GAN sees the others.
A scene is left out, not always its place: crowds_zara03 and uni_examples, of the places of zara and univ, are always
trained on, as in the published split.
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genai_course import nets, train
from genai_course.data import benchmarks
from genai_course.models.diffusion import Diffusion

SEEN, AHEAD, GUESSES, SIZE, BLOCK = 8, 12, 20, 8, 2_000  # SIZE: numbers that describe a path; BLOCK: windows at a time
SEVERAL = ("turned by 25°", "flow")  # those that guess 20 times
SCENES = ("eth", "hotel", "univ", "zara1", "zara2")
PUBLISHED = {  # ADE, FDE
    "Schöller+ 2020, README": {"mean": (0.39, 0.83)},
    "Schöller+ 2020, README, best of 20": {"mean": (0.28, 0.56)},
    "Social GAN zoo, best of 20": {
        "eth": (0.71, 1.29), "hotel": (0.48, 1.02), "univ": (0.56, 1.18), "zara1": (0.34, 0.69), "zara2": (0.31, 0.64),
        "mean": (0.48, 0.96),
    },
}  # fmt: skip


class Policies(eqx.Module):
    """Regression and flow from one past, trained on the same batches; no parameter is shared."""

    mean: nets.MLP
    flow: Diffusion

    def loss(self, example, key):
        """Sum of both losses, for a path's coordinates and the past."""
        x, past = example
        return jnp.sum((self.mean(past) - x) ** 2) + self.flow.loss(example, key)


class Paths:
    """Coordinates of future paths: principal components, each divided by the fourth root of its variance."""

    def __init__(self, future):
        flat = future.reshape(len(future), -1)
        self.center = flat.mean(axis=0)
        variance, directions = np.linalg.eigh(np.cov(flat.T))
        variance, directions = variance[::-1][:SIZE], directions[:, ::-1][:, :SIZE]
        scale = variance**0.25
        scale *= np.sqrt(np.mean(variance / scale**2))
        self.to, self.back = directions / scale, (directions * scale).T

    def encode(self, future):
        """Paths → coordinates of unit variance on average."""
        return jnp.asarray((future.reshape(len(future), -1) - self.center) @ self.to, jnp.float32)

    def decode(self, x):
        """Coordinates → paths."""
        return (np.asarray(x, float) @ self.back + self.center).reshape(*x.shape[:-1], AHEAD, 2)


def in_own_frame(windows):
    """Past and future seen from the pedestrian: now at the origin, last step along the x axis."""
    step = windows[:, SEEN - 1] - windows[:, SEEN - 2]
    angle = np.arctan2(step[:, 1], step[:, 0])
    c, s = np.cos(angle), np.sin(angle)
    turned = np.einsum("nij,ntj->nti", np.array([[c, s], [-s, c]]).transpose(2, 0, 1), windows - windows[:, [SEEN - 1]])
    return turned[:, :SEEN], turned[:, SEEN:]


def constant_velocity(past, angles=None):
    """The last step, repeated; with ``angles`` [n, guesses] in degrees, turned by each of them first."""
    step = past[:, -1] - past[:, -2]
    ahead = np.arange(1, AHEAD + 1)[:, None]
    if angles is None:
        return step[:, None] * ahead
    c, s = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    turned = np.stack([c * step[:, :1] - s * step[:, 1:], s * step[:, :1] + c * step[:, 1:]], axis=-1)
    return turned[:, :, None] * ahead


def features(past):
    """What the networks see: the seven steps seen, in meters."""
    return jnp.asarray(np.diff(past, axis=1).reshape(len(past), -1), jnp.float32)


def fit(past, future, key, steps):
    """Train on windows and their mirror images."""
    mirror = np.array([1, -1])
    past, future = np.concatenate([past, past * mirror]), np.concatenate([future, future * mirror])
    paths, c = Paths(future), features(past)
    mean_key, flow_key, fit_key = jax.random.split(key, 3)
    model = Policies(
        nets.MLP((c.shape[1], 128, 128, SIZE), key=mean_key),
        Diffusion(nets.ResidualMLP(SIZE, key=flow_key, width=128, depth=2, features=c.shape[1]), (SIZE,)),
    )
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 2e-3, 100, steps))
    data = (paths.encode(future), c)
    return paths, train.fit(model, data, key=fit_key, steps=steps, batch_size=256, optimizer=optimizer).model


def guess(model, paths, past, key):
    """20 draws from the flow for each window: [n, 20, 12, 2]; in blocks of one shape, so that it compiles once."""
    out = []
    for i in range(0, len(past), BLOCK):
        block = features(past[i : i + BLOCK])
        labels = jnp.pad(block, ((0, BLOCK - len(block)), (0, 0))).repeat(GUESSES, axis=0)
        x = model.flow.sample_batch(jax.random.fold_in(key, i), len(labels), 6, labels=labels)
        out.append(paths.decode(x.reshape(BLOCK, GUESSES, SIZE)[: len(block)]))
    return np.concatenate(out)


def errors(guesses, future):
    """ADE and FDE of the first guess, of the best of all, and the energy score, for guesses [n, k, 12, 2]."""
    distance = np.linalg.norm(guesses - future[:, None], axis=-1)
    k = guesses.shape[1]
    spread = sum(np.linalg.norm(guesses[:, i] - guesses[:, j], axis=-1).mean() for i in range(k) for j in range(i))
    energy = distance.mean() - (spread / (k * (k - 1) / 2) / 2 if k > 1 else 0.0)  # unbiased in the number of guesses
    one, best = distance[:, 0], (distance.mean(axis=2).min(axis=1), distance[..., -1].min(axis=1))
    return {"one": (one.mean(), one[:, -1].mean()), "best": tuple(b.mean() for b in best), "energy": energy}


def main():
    """Print one line a scene and predictor, then the means beside what is published."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data, start, results = benchmarks.eth_ucy(), time.perf_counter(), {}
    recordings = {scene: getattr(data, scene) for scene in (*SCENES, "train_only")}
    cut = {scene: np.concatenate([benchmarks.windows(r) for r in parts]) for scene, parts in recordings.items()}
    print(f"{'':7s}{'windows':>8s}  {'predictor':16s}{'ADE':>6s}{'FDE':>6s}{'ADE 20':>8s}{'FDE 20':>7s}{'energy':>8s}")
    for scene in SCENES:
        model_key, guess_key, angle_key = jax.random.split(
            jax.random.fold_in(jax.random.key(options.seed), len(results)), 3
        )
        rest = np.concatenate([windows for name, windows in cut.items() if name != scene])
        paths, model = fit(*in_own_frame(rest), model_key, options.steps)
        past, future = in_own_frame(cut[scene])
        angles = 25 * np.asarray(jax.random.normal(angle_key, (len(past), GUESSES)))
        regression = paths.decode(jax.jit(jax.vmap(lambda c, model=model: model.mean(c)))(features(past)))
        results[scene] = {
            "constant velocity": errors(constant_velocity(past)[:, None], future),
            "regression": errors(regression[:, None], future),
            "turned by 25°": errors(constant_velocity(past, angles), future),
            "flow": errors(guess(model, paths, past, guess_key), future),
        }
        for name, e in results[scene].items():
            best = "{:8.2f}{:7.2f}".format(*e["best"]) if name in SEVERAL else " " * 15
            print(
                f"{scene:7s}{len(past):8d}  {name:16.16s}{e['one'][0]:6.2f}{e['one'][1]:6.2f}{best}{e['energy']:8.3f}",
                flush=True,
            )
    print(f"\nmean over the five scenes, seed {options.seed}, {time.perf_counter() - start:.0f} s")
    for name in results["eth"]:
        one, best, energy = (
            np.mean([r[name][part] for r in results.values()], axis=0) for part in ("one", "best", "energy")
        )
        best = f"best of 20 {best[0]:.2f}/{best[1]:.2f}" if name in SEVERAL else ""
        print(f"{name:35s} one guess {one[0]:.2f}/{one[1]:.2f}  energy {energy:.3f}  {best}")
    for name, rows in PUBLISHED.items():
        print(f"{name:35s}", "  ".join(f"{scene} {a:.2f}/{f:.2f}" for scene, (a, f) in rows.items()))


if __name__ == "__main__":
    main()
