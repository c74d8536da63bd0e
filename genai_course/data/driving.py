"""Behavior with several right answers at once: round an obstacle, reach for a wall, change lane.

Data card
    Origin    our own simulators; no data, no license needed, nothing to download
    Size      any number of demonstrations of 48 steps, float32; 5,000 of any task are drawn in about 0.1 s
    Splits    none; draw fresh demonstrations with a new key
    Known     the probability of every mode given the context, the mode of every demonstration, the kinematics
              (``trajectory[t + 1] = step(trajectory[t], actions[t])``), what a collision is; the expert had none in a
              million demonstrations of each task

The average of two right answers is wrong: where the modes are equally likely, their mean collides in every task. All
tasks share the verbs of ``Task``; these take batches, since nothing here is differentiated.

    task              context                                   state                   modes
    ``obstacle``      x, y, radius of the obstacle, start y     x, y, heading           left, right
    ``reach``         hand at the start x, y and end y          shoulder, elbow angle   elbow up, elbow down
    ``lane_change``   gap to a stopped car, gaps on the sides   x, y                    left, stay, right

Lengths in m, angles in rad, times in s. The reach task's wall stands at x = ``WALL``.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from genai_course import _check
from genai_course.data import rng_from_key

Worlds = Float[np.ndarray, "n c"]
Paths = Float[np.ndarray, "n t s"]
STEPS = 48
LINKS = (1.0, 0.8)  # lengths of upper arm and forearm, m
WALL = 1.2  # m in front of the shoulder
LANE, CAR = 3.5, (4.5, 2.0)  # width of a lane; length and width of a car, m
TRAFFIC = 8.0  # speed of the cars on the neighboring lanes, m/s


def _smoothstep(s):
    s = np.clip(s, 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)  # minimum jerk: at rest at both ends


def _pair(name, value):
    if (value := _check.array(name, value)).shape[-1:] != (2,):
        raise ValueError(f"{name} must have shape (..., 2), got {value.shape}")
    return np.moveaxis(value, -1, 0)


@dataclass(frozen=True)
class Demonstrations:
    """What the expert did in ``n`` worlds."""

    context: Float[np.ndarray, "n c"]  # what is known before the first step
    trajectory: Float[np.ndarray, "n states s"]  # one state more than actions
    actions: Float[np.ndarray, "n steps a"]
    mode: Int[np.ndarray, " n"]  # index into the task's ``modes``


class Task:
    """A family of worlds, an expert that acts in them, and the truth about what it does."""

    modes: tuple[str, ...]
    features: ClassVar[dict[str, tuple[float, float]]]  # names and ranges of the entries of a context, drawn uniformly
    dt: float  # s a step

    def sample(self, key: Array, n: int) -> Demonstrations:
        """Draw ``n`` worlds and one demonstration in each."""
        worlds, acts = jax.random.split(_check.key("key", key))
        return self.demonstrate(acts, self.contexts(worlds, _check.integer("n", n)))

    def contexts(self, key: Array, n: int) -> Worlds:
        """Draw ``n`` worlds."""
        low, high = np.array(list(self.features.values())).T
        return rng_from_key(key).uniform(low, high, (_check.integer("n", n), len(low))).astype(np.float32)

    def demonstrate(self, key: Array, context: Worlds) -> Demonstrations:
        """Draw one demonstration in each given world: a mode by its probability, then a path."""
        context, (low, high) = self._worlds(context), np.array(list(self.features.values()), np.float32).T
        if np.any((context < low) | (context > high)):
            raise ValueError(f"context must lie within {dict(self.features)}, got a world outside")
        rng, cumulative = rng_from_key(key), np.cumsum(self.mode_probability(context), axis=1)
        mode = np.sum(rng.random((len(context), 1)) > cumulative[:, :-1], axis=1)
        trajectory, actions = self._expert(rng, np.asarray(context, float), mode)
        return Demonstrations(context, trajectory.astype(np.float32), actions.astype(np.float32), mode)

    def mode_probability(self, context: Worlds) -> Float[np.ndarray, "n modes"]:
        """Return the exact share of each mode in each world: softmax of ``_scores``, stated by each task."""
        scores = self._scores(np.asarray(self._worlds(context), float))
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)

    def step(self, state: Float[np.ndarray, "n s"], action: Float[np.ndarray, "n a"]) -> Float[np.ndarray, "n s"]:
        """Return the state one step later; the action is the velocity of the state."""
        action = _check.array("action", action, ndim=2)
        return _check.array("state", state, shape=action.shape) + self.dt * action

    def _worlds(self, context):
        return _check.array("context", context, shape=(None, len(self.features)))

    def _paths(self, trajectory, context):
        context = np.asarray(self._worlds(context), float)
        trajectory = np.asarray(_check.array("trajectory", trajectory, ndim=3), float)
        if len(trajectory) != len(context) or min(trajectory.shape[1:]) < 2:
            raise ValueError(
                f"trajectory must have shape ({len(context)}, 2 or more, 2 or more), got {trajectory.shape}"
            )
        return trajectory, context


class Obstacle(Task):
    """A cart at 1 m/s passes a round obstacle: P(left) = sigmoid(3 (start y - obstacle y)).

    Unicycle: the action is the turn rate, at most 1.2 rad/s; the heading turns first, then the cart moves.
    """

    modes, dt = ("left", "right"), 0.25
    features: ClassVar = {"x": (4, 7), "y": (-0.8, 0.8), "radius": (0.5, 1.2), "start y": (-0.6, 0.6)}
    max_turn = 1.2

    def _scores(self, context):
        offset = context[:, 3] - context[:, 1]
        return np.stack([3 * offset, 0 * offset], axis=1)

    def step(self, state: Float[np.ndarray, "n 3"], action: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "n 3"]:
        """Return the state one step later."""
        action = _check.array("action", action, shape=(None, 1))
        state = _check.array("state", state, shape=(len(action), 3))
        heading = state[:, 2] + self.dt * np.clip(action[:, 0], -self.max_turn, self.max_turn)
        move = self.dt * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        return np.concatenate([state[:, :2] + move, heading[:, None]], axis=1)

    def _expert(self, rng, context, mode):
        x, y, radius, start = context.T
        n, side = len(context), 1 - 2 * mode
        peak = y + side * (radius + rng.uniform(0.4, 0.8, n))
        width = rng.uniform(1.2, 1.9, n) * (0.6 + 0.4 * radius)
        states, actions, noise = [np.stack([0 * x, start, 0.08 * rng.normal(size=n)], axis=1)], [], 0.0
        for _ in range(STEPS):  # steer at a point of the ideal path 1 m ahead, with a hand that trembles slowly
            px, py, heading = states[-1].T
            ideal = peak * np.exp(-0.5 * ((px + 1 - x) / width) ** 2)
            noise = np.clip(0.8 * noise + 0.08 * rng.normal(size=n), -0.3, 0.3)
            turn = 2.5 * (np.arctan2(ideal - py, 1) - heading) + noise
            actions.append(np.clip(turn, -self.max_turn, self.max_turn)[:, None])
            states.append(self.step(states[-1], actions[-1]))
        return np.stack(states, axis=1), np.stack(actions, axis=1)

    def collides(self, trajectory: Paths, context: Worlds) -> Bool[np.ndarray, " n"]:
        """Tell which paths (x, y first in the state) have a point inside the obstacle."""
        trajectory, context = self._paths(trajectory, context)
        return np.linalg.norm(trajectory[..., :2] - context[:, None, :2], axis=-1).min(axis=1) < context[:, 2]

    def classify_mode(self, trajectory: Paths, context: Worlds) -> Int[np.ndarray, " n"]:
        """Return the side on which each path passes the obstacle's x."""
        trajectory, context = self._paths(trajectory, context)
        beside = np.abs(trajectory[..., 0] - context[:, :1]).argmin(axis=1)
        return (trajectory[np.arange(len(context)), beside, 1] < context[:, 1]).astype(int)


class Reach(Task):
    """A two-joint arm moves its hand to a point on a wall: P(elbow up) = sigmoid(4 end y).

    Hand = l1 (cos q1, sin q1) + l2 (cos(q1 + q2), sin(q1 + q2)). Every hand position has two postures, q2 < 0 (elbow
    up, seen with the wall on the right) and q2 > 0; their mean stretches the arm through the wall.
    """

    modes, dt = ("elbow up", "elbow down"), 0.05
    features: ClassVar = {"start x": (0.3, 0.7), "start y": (-0.4, 0.4), "end y": (-0.5, 0.5)}

    def _scores(self, context):
        return np.stack([4 * context[:, 2], 0 * context[:, 2]], axis=1)

    def hand(self, joints: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Return the position of the hand at given joint angles."""
        q1, q2 = _pair("joints", joints)
        l1, l2 = LINKS
        return np.stack([l1 * np.cos(q1) + l2 * np.cos(q1 + q2), l1 * np.sin(q1) + l2 * np.sin(q1 + q2)], axis=-1)

    def posture(self, hand: Float[np.ndarray, "... 2"], mode: Int[np.ndarray, "..."]) -> Float[np.ndarray, "... 2"]:
        """Return the joint angles that bring the hand to a position in reach with the elbow up (mode 0) or down (1)."""
        (x, y), (l1, l2) = _pair("hand", hand), LINKS
        cosine = (x**2 + y**2 - l1**2 - l2**2) / (2 * l1 * l2)
        if np.any(np.abs(cosine) > 1):
            raise ValueError(f"hand must lie {l1 - l2:.1f} to {l1 + l2:.1f} m from the shoulder, got a point outside")
        q2 = (2 * _check.array("mode", mode) - 1) * np.arccos(cosine)
        return np.stack([np.arctan2(y, x) - np.arctan2(l2 * np.sin(q2), l1 + l2 * np.cos(q2)), q2], axis=-1)

    def _expert(self, rng, context, mode):
        start, end = context[:, None, :2], np.stack([0 * context[:, 2] + WALL, context[:, 2]], axis=1)[:, None]
        along = _smoothstep(np.linspace(0, 1, STEPS + 1))[:, None]
        across = np.clip(0.04 * rng.normal(size=(len(context), 1, 1)), -0.1, 0.1) * np.sin(np.pi * along)
        hand = start + along * (end - start) + across * (end - start)[..., ::-1] * [-1, 1]
        trajectory = self.posture(hand, mode[:, None])
        return trajectory, np.diff(trajectory, axis=1) / self.dt

    def collides(self, trajectory: Paths, context: Worlds) -> Bool[np.ndarray, " n"]:
        """Tell which movements push elbow or hand more than 1 cm into the wall at some point."""
        trajectory, _ = self._paths(trajectory, context)
        furthest = np.maximum(LINKS[0] * np.cos(trajectory[..., 0]), self.hand(trajectory)[..., 0])
        return furthest.max(axis=1) > WALL + 0.01

    def classify_mode(self, trajectory: Paths, context: Worlds) -> Int[np.ndarray, " n"]:
        """Return the posture that each movement ends in."""
        return (self._paths(trajectory, context)[0][:, -1, 1] > 0).astype(int)


class LaneChange(Task):
    """A car on the middle of three lanes nears a stopped car: pass left, stop behind it, or pass right.

    Score of a side = (its gap - 20 m) / 10 m, of staying 0; P = softmax. On each side a car drives ahead by the gap.
    """

    modes, dt = ("left", "stay", "right"), 0.25
    features: ClassVar = {"gap ahead": (35, 50), "gap left": (5, 40), "gap right": (5, 40)}

    def _scores(self, context):
        return np.stack([context[:, 1] - 20, 0 * context[:, 0], context[:, 2] - 20], axis=1) / 10

    def _expert(self, rng, context, mode):
        n, t = len(context), self.dt * np.arange(STEPS + 1)
        speed, delay, duration = (rng.uniform(a, b, (n, 1)) for a, b in ((7, TRAFFIC), (0, 0.5), (2.5, 3.5)))
        room = context[:, :1] - rng.uniform(2, 5, (n, 1))  # where it stops, after braking evenly
        brake = np.minimum(t * speed / (2 * room), 1)
        x = np.where(mode[:, None] == 1, room * brake * (2 - brake), speed * t)
        wander = np.clip(0.15 * rng.normal(size=(n, 1)), -0.5, 0.5) * np.sin(np.pi * t / t[-1]) ** 2
        y = (1 - mode[:, None]) * LANE * _smoothstep((t - delay) / duration) + wander
        trajectory = np.stack([x, y], axis=-1)
        return trajectory, np.diff(trajectory, axis=1) / self.dt

    def collides(self, trajectory: Paths, context: Worlds) -> Bool[np.ndarray, " n"]:
        """Tell which paths have a point where the car touches another (both along the lane) or leaves the road."""
        trajectory, context = self._paths(trajectory, context)
        t, lanes = self.dt * np.arange(trajectory.shape[1]), LANE * np.array([0, 1, -1])
        others = CAR[0] + context[:, None] + TRAFFIC * t[:, None] * [0, 1, 1]  # [n, t, 3] their x
        near = np.abs(trajectory[..., :1] - others) < CAR[0]
        touch = near & (np.abs(trajectory[..., 1:2] - lanes) < CAR[1])
        off_road = np.abs(trajectory[..., 1]) > 1.5 * LANE - CAR[1] / 2
        return touch.any(axis=(1, 2)) | off_road.any(axis=1)

    def classify_mode(self, trajectory: Paths, context: Worlds) -> Int[np.ndarray, " n"]:
        """Return the lane that each path ends on."""
        y = self._paths(trajectory, context)[0][:, -1, 1]
        return np.where(y > LANE / 2, 0, np.where(y < -LANE / 2, 2, 1))


obstacle, reach, lane_change = Obstacle(), Reach(), LaneChange()
