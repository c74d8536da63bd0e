"""Behavior data: known shares, exact kinematics, an expert without collisions, and a mean that collides."""

import inspect

import jax
import numpy as np
import pytest
from scipy import special, stats
from sklearn.neighbors import KNeighborsRegressor

from genai_course.data import driving

TASKS = {"obstacle": driving.obstacle, "reach": driving.reach, "lane_change": driving.lane_change}
EVEN = {"obstacle": [5.5, 0.2, 0.85, 0.2], "reach": [0.5, 0.1, 0.0], "lane_change": [42, 20, 20]}  # equal shares
each_task = pytest.mark.parametrize("name", TASKS)


def worlds(name, n, **changes):
    context = np.tile(np.float32(EVEN[name]), (n, 1))
    for feature, value in changes.items():
        context[:, list(TASKS[name].features).index(feature.replace("_", " "))] = value
    return context


@pytest.fixture(scope="module")
def drawn():
    return {name: task.sample(jax.random.key(0), 20_000) for name, task in TASKS.items()}


@each_task
def test_record_and_determinism(name):
    a, b, c = (TASKS[name].sample(jax.random.key(seed), 7) for seed in (1, 1, 2))
    for field in ("context", "trajectory", "actions", "mode"):
        assert np.array_equal(getattr(a, field), getattr(b, field))
    assert not np.array_equal(a.context, c.context)
    assert not np.array_equal(a.trajectory, c.trajectory)
    assert a.trajectory.shape[:2] == (7, driving.STEPS + 1)
    assert a.actions.shape[:2] == (7, driving.STEPS)
    assert a.trajectory.dtype == a.actions.dtype == a.context.dtype == np.float32
    assert TASKS[name].sample(jax.random.key(1), 1).mode.shape == (1,)


@each_task
def test_contexts_fill_their_ranges(name, drawn):
    for column, (low, high) in zip(drawn[name].context.T, TASKS[name].features.values()):
        assert stats.kstest((column - low) / (high - low), "uniform").pvalue > 1e-3


@each_task
def test_expert_never_collides_and_its_mode_is_seen(name, drawn):
    r = drawn[name]
    assert not TASKS[name].collides(r.trajectory, r.context).any()
    assert np.array_equal(TASKS[name].classify_mode(r.trajectory, r.context), r.mode)


@each_task
def test_shares_are_the_known_ones(name, drawn):
    """In all worlds, and in the tenth of them where each mode is most likely, within 3 standard errors."""
    r, p = drawn[name], TASKS[name].mode_probability(drawn[name].context)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    for k in range(len(TASKS[name].modes)):
        for chosen in (np.arange(len(p)), np.argsort(p[:, k])[-len(p) // 10 :]):
            error = np.sqrt((p[chosen, k] * (1 - p[chosen, k])).sum())
            assert abs((r.mode[chosen] == k).sum() - p[chosen, k].sum()) < 3 * error


def test_mode_probability_formulas(drawn):
    p = {name: TASKS[name].mode_probability(drawn[name].context) for name in TASKS}
    x, y, z = (drawn[name].context.astype(float) for name in TASKS)
    np.testing.assert_allclose(p["obstacle"][:, 0], special.expit(3 * (x[:, 3] - x[:, 1])), atol=1e-12)
    np.testing.assert_allclose(p["reach"][:, 0], special.expit(4 * y[:, 2]), atol=1e-12)
    scores = np.stack([z[:, 1] / 10 - 2, np.zeros(len(z)), z[:, 2] / 10 - 2], axis=1)
    np.testing.assert_allclose(p["lane_change"], special.softmax(scores, axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "feature", "values"),
    [("obstacle", "y", (-0.4, 0.2, 0.8)), ("reach", "end_y", (-0.4, 0, 0.4)), ("lane_change", "gap_left", (5, 20, 40))],
)
def test_shares_in_a_given_world(name, feature, values):
    for i, value in enumerate(values):
        context = worlds(name, 4000, **{feature: value})
        modes, p = (
            TASKS[name].demonstrate(jax.random.key(i), context).mode,
            TASKS[name].mode_probability(context[:1])[0],
        )
        for k in range(len(p)):
            assert abs((modes == k).mean() - p[k]) < 3 * np.sqrt(p[k] * (1 - p[k]) / len(modes))


@each_task
def test_actions_lead_from_state_to_state(name, drawn):
    r, task = drawn[name], TASKS[name]
    state = r.trajectory[:, 0].astype(float)
    for t in range(driving.STEPS):
        state = task.step(state, r.actions[:, t].astype(float))
        np.testing.assert_allclose(state, r.trajectory[:, t + 1], atol=1e-4)


def test_obstacle_is_a_unicycle(drawn):
    r, task = drawn["obstacle"], driving.obstacle
    move = np.diff(r.trajectory[..., :2].astype(float), axis=1)
    np.testing.assert_allclose(np.linalg.norm(move, axis=-1), task.dt, atol=1e-5)  # 1 m/s
    np.testing.assert_allclose(np.arctan2(move[..., 1], move[..., 0]), r.trajectory[:, 1:, 2], atol=1e-4)
    assert np.abs(np.diff(r.trajectory[..., 2], axis=1)).max() <= task.max_turn * task.dt + 1e-5
    np.testing.assert_array_equal(r.trajectory[:, 0, 1], r.context[:, 3])
    state = task.step(np.zeros((1, 3)), np.array([[9.0]]))  # a turn beyond the limit is cut
    np.testing.assert_allclose(state[0, 2], task.max_turn * task.dt)


def test_reach_kinematics(drawn):
    r, task, rng = drawn["reach"], driving.reach, np.random.default_rng(0)
    q = rng.uniform(-3, 3, (1000, 2))
    exact = driving.LINKS[0] * np.exp(1j * q[:, 0]) + driving.LINKS[1] * np.exp(1j * (q[:, 0] + q[:, 1]))
    np.testing.assert_allclose(task.hand(q), np.stack([exact.real, exact.imag], axis=1), atol=1e-12)
    np.testing.assert_allclose(task.hand(r.trajectory[:, 0]), r.context[:, :2], atol=1e-5)
    end = np.stack([np.full(len(r.mode), driving.WALL), r.context[:, 2]], axis=1)
    np.testing.assert_allclose(task.hand(r.trajectory[:, -1]), end, atol=1e-5)
    up, down = (task.posture(end, np.full(len(end), mode)) for mode in (0, 1))
    np.testing.assert_allclose(task.hand(up), task.hand(down), atol=1e-12)
    elbow_up, elbow_down = np.sin(up[:, 0]), np.sin(down[:, 0])  # heights, at the same hand
    assert (elbow_up > elbow_down).all()
    assert np.abs(r.actions).max() < 4  # rad/s: no jump from one posture to the other


def test_lane_change_is_drivable(drawn):
    r, dt = drawn["lane_change"], driving.lane_change.dt
    speed = np.linalg.norm(r.actions, axis=-1)
    assert speed.max() < 8.6
    assert r.actions[..., 0].min() > -1e-3  # nobody drives backward
    assert np.abs(np.diff(r.actions, axis=1) / dt).max() < 4.5  # m/s^2


@each_task
def test_the_mean_of_the_modes_collides(name):
    context = worlds(name, 2000)
    task, r = TASKS[name], TASKS[name].demonstrate(jax.random.key(3), context)
    np.testing.assert_allclose(task.mode_probability(context[:1])[0], 1 / len(task.modes))
    assert task.collides(r.trajectory.mean(axis=0, keepdims=True), context[:1]).all()
    for k in range(len(task.modes)):  # the mean of one mode alone does not
        assert not task.collides(r.trajectory[r.mode == k].mean(axis=0, keepdims=True), context[:1]).any()


@pytest.mark.parametrize(("name", "least"), [("obstacle", 0.5), ("reach", 0.3), ("lane_change", 0.5)])
def test_regression_collides_far_more_often_than_the_expert(name, least):
    task, train, test = TASKS[name], *(TASKS[name].sample(jax.random.key(seed), n) for seed, n in ((4, 8000), (5, 500)))
    scale = train.context.std(axis=0)
    model = KNeighborsRegressor(40).fit(train.context / scale, train.trajectory.reshape(len(train.mode), -1))
    paths = model.predict(test.context / scale).reshape(test.trajectory.shape)
    assert task.collides(paths, test.context).mean() > least


def line(*points, steps=200):
    at = np.linspace(0, len(points) - 1, steps)
    return np.stack([np.interp(at, range(len(points)), column) for column in np.transpose(points)], axis=1)[None]


@pytest.mark.parametrize(("y", "hit"), [(0.0, True), (0.89, True), (0.91, False), (-0.89, True), (-0.91, False)])
def test_obstacle_collision_by_hand(y, hit):
    context = np.array([[5.0, 0.0, 0.9, 0.0]])
    assert driving.obstacle.collides(line((0, y), (10, y), steps=2001), context)[0] == hit
    assert driving.obstacle.classify_mode(line((0, y + 0.01), (10, y + 0.01)), context)[0] == (y < 0)


@pytest.mark.parametrize(
    ("q", "hit"),
    [
        ((0, 0), True),
        ((0.9, 0), False),
        ((0.7, 0), True),
        ((0, np.pi / 2), False),
        ((np.pi, 0), False),
        ((1, -1), True),
    ],
)
def test_wall_collision_by_hand(q, hit):
    """Hand at x = 1.8 cos 0, 1.8 cos 0.9 = 1.12, 1.8 cos 0.7 = 1.38, 1 + 0, -1.8, cos 1 + 0.8 = 1.34; wall at 1.2."""
    assert driving.reach.collides(line((np.pi, 0), q), np.array([[0.5, 0.0, 0.0]]))[0] == hit


@pytest.mark.parametrize(
    ("end", "hit"),
    [
        ((39.9, 0.0), False), ((40.1, 0.0), True),  # the bumper of the stopped car is 40 m ahead
        ((60.0, 1.9), True), ((60.0, 2.1), False),  # past it, width 2 m
        ((60.0, 4.2), False), ((60.0, 4.3), True), ((60.0, -4.3), True),  # the road ends at 5.25 m, half a car is 1 m
        ((87.0, 3.5), False), ((89.0, 3.5), True),  # after 6 s at 8 m/s the left car's bumper is 40 + 48 m ahead
        ((95.0, -3.5), False), ((97.0, -3.5), True),  # and the right one's 48 + 48 m
    ],
)  # fmt: skip
def test_lane_collision_by_hand(end, hit):
    context, t = np.array([[40.0, 40.0, 48.0]]), np.linspace(0, 1, 25)[:, None]
    x, y = end
    path = np.concatenate([x * t, y * np.minimum(1, 5 * t)], axis=1)[None]
    assert driving.lane_change.collides(path, context)[0] == hit


NAN = float("nan")


@each_task
def test_bad_arguments_are_named(name):
    task, context = TASKS[name], worlds(name, 3)
    path, features = task.demonstrate(jax.random.key(0), context).trajectory, context.shape[1]
    bad_context = [context[0], context[:, 1:], np.full((3, features), NAN), "world", [["a"] * features], None]
    bad_path = [path[0], path[:2], path[..., :1], path[:, :1], path * NAN, "path", None]
    calls = [("sample", (0, 1), "key"), ("sample", (jax.random.split(jax.random.key(0)), 1), "key")]
    calls += [(verb, (jax.random.key(0), n), "n") for verb in ("sample", "contexts") for n in (0, -1, 2.0, True, "3")]
    calls += [("mode_probability", (c,), "context") for c in bad_context]
    calls += [("demonstrate", (jax.random.key(0), c), "context") for c in [*bad_context, context + 100, context - 100]]
    calls += [("step", (np.zeros((3, 2)), np.zeros(shape)), word) for shape, word in [((2, 1), "state"), (2, "action")]]
    for verb in ("collides", "classify_mode"):
        calls += [(verb, (path, c), "context") for c in bad_context]
        calls += [(verb, (p, context), "trajectory") for p in bad_path]
    for verb, arguments, word in calls:
        with pytest.raises((ValueError, TypeError), match=rf"^{word}\b"):
            inspect.unwrap(getattr(type(task), verb))(task, *arguments)


def test_bad_joints_and_hands_are_named():
    for joints in [np.zeros(3), np.zeros(()), np.array([NAN, 0.0]), "arm"]:
        with pytest.raises((ValueError, TypeError), match=r"^joints\b"):
            inspect.unwrap(driving.Reach.hand)(driving.reach, joints)
    for hand in [np.zeros(3), np.array([2.0, 0.0]), np.array([0.0, 0.1]), np.array([np.inf, 0.0]), None]:
        with pytest.raises((ValueError, TypeError), match=r"^hand\b"):
            inspect.unwrap(driving.Reach.posture)(driving.reach, hand, np.array(0))
    with pytest.raises((ValueError, TypeError), match=r"^mode\b"):
        inspect.unwrap(driving.Reach.posture)(driving.reach, np.array([1.0, 0.0]), "up")
