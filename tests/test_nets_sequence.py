"""GRU and transformer against their equations in float64, steps against the whole sequence, and causality."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from genai_course import nets


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def double(linear: eqx.nn.Linear):
    """A linear layer in float64."""
    weight = np.asarray(linear.weight, float)
    bias = 0.0 if linear.bias is None else np.asarray(linear.bias, float)
    return lambda x: x @ weight.T + bias


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# GRU


def numpy_gru(model: nets.GRU, xs):
    """Cho et al. (2014), in the order of gates r, u, n: h ← n + u (h - n), the reset inside the candidate."""
    w, u = np.asarray(model.cell.weight_ih, float), np.asarray(model.cell.weight_hh, float)
    b, b_n = np.asarray(model.cell.bias, float), np.asarray(model.cell.bias_n, float)
    h, outputs = np.zeros(u.shape[1]), []
    for x in np.asarray(xs, float):
        from_x, from_h = np.split(w @ x + b, 3), np.split(u @ h, 3)
        reset, update = special.expit(from_x[0] + from_h[0]), special.expit(from_x[1] + from_h[1])
        new = np.tanh(from_x[2] + reset * (from_h[2] + b_n))
        h = new + update * (h - new)
        outputs.append(double(model.head)(h))
    return np.stack(outputs)


def test_gru_is_its_equations():
    model = nets.GRU(3, 2, key=key(), hidden=5)
    xs = jax.random.normal(key(1), (7, 3))
    np.testing.assert_allclose(model(xs), numpy_gru(model, xs), rtol=1e-4, atol=1e-6)
    ids = jnp.array([2, 0, 0, 3])
    of_ids = nets.GRU(4, 4, key=key(), hidden=5, embed=6)
    np.testing.assert_allclose(of_ids(ids), numpy_gru(of_ids, of_ids.embedding[ids]), rtol=1e-4, atol=1e-6)


def test_gru_in_steps_and_in_pieces_is_the_whole():
    model = nets.GRU(4, 4, key=key(), hidden=5, embed=3)
    ids = jax.random.randint(key(1), (9,), 0, 4)
    whole, state, outputs = model(ids), model.start(9), []
    for x in ids:
        state, out = model.step(state, x)
        outputs.append(out)
    np.testing.assert_allclose(jnp.stack(outputs), whole, atol=1e-6)
    middle, first = model.run(model.start(), ids[:4])
    end, second = model.run(middle, ids[4:])
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, atol=1e-6)
    np.testing.assert_allclose(end, state, atol=1e-6)


def test_gru_parameter_count():
    """Three gates of a linear map of input and state, one bias each and one more for the candidate; the read-out."""
    assert nets.parameter_count(nets.GRU(7, 4, key=key(), hidden=5)) == 3 * 5 * (7 + 5 + 1) + 5 + 4 * (5 + 1)
    assert nets.parameter_count(nets.GRU(7, 4, key=key(), hidden=5, embed=2)) == 14 + 3 * 5 * (2 + 5 + 1) + 5 + 24


# Transformer


def transformer(**options) -> nets.Transformer:
    return nets.Transformer(**{"vocabulary_size": 5, "length": 9, "width": 8, "heads": 2, "key": key()} | options)


def shaken(model):
    """The model with every parameter moved, so that none of them is at a special value such as 0."""
    leaves, tree = jax.tree.flatten(eqx.filter(model, eqx.is_inexact_array))
    keys = jax.random.split(key(7), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys)]
    return eqx.combine(jax.tree.unflatten(tree, moved), model)


KINDS = [{"position": p, "mlp": m} for p in ("absolute", "relative") for m in (True, False)]
IDS = jnp.array([3, 1, 4, 1, 0, 2, 2])


def normed(h):
    return h / np.sqrt(np.mean(h**2) + 1e-6)


def numpy_transformer(model: nets.Transformer, ids):
    """Logits and attention weights by loops over layers, heads and pairs of positions."""
    h = np.asarray(model.embedding, float)[np.asarray(ids)]
    if model.positions is not None:
        h = h + np.asarray(model.positions, float)[: len(ids)]
    n, width = h.shape
    all_weights = []
    for block in model.blocks:
        size = width // block.heads
        q, k, v = np.split(np.stack([double(block.qkv)(normed(row)) for row in h]), 3, axis=1)
        weights, mixed = np.zeros((block.heads, n, n)), np.zeros((n, width))
        for head, i in np.ndindex(block.heads, n):
            part = slice(head * size, (head + 1) * size)
            scores = [q[i, part] @ k[j, part] / np.sqrt(size) for j in range(i + 1)]
            if block.distance is not None:
                scores = [s + float(block.distance[head, i - j]) for j, s in enumerate(scores)]
            weights[head, i, : i + 1] = special.softmax(scores)
            mixed[i, part] = weights[head, i] @ v[:, part]
        h = h + double(block.out)(mixed)
        if block.mlp is not None:
            up, down = map(double, block.mlp.layers)
            h = h + np.stack([down(gelu(up(normed(row)))) for row in h])
        all_weights.append(weights)
    return np.stack([double(model.head)(normed(row)) for row in h]), np.stack(all_weights)


@pytest.mark.parametrize("kind", KINDS)
def test_transformer_is_its_equations(kind):
    model = shaken(transformer(**kind))
    logits, weights = numpy_transformer(model, IDS)
    np.testing.assert_allclose(model(IDS), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.attention(IDS), weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_output_depends_on_a_later_id_in_any_bit(kind):
    model = shaken(transformer(**kind))
    run = eqx.filter_jit(lambda model, ids: (model(ids), model.attention(ids)))
    before, before_weights = run(model, IDS)
    for i in range(len(IDS)):
        after, after_weights = run(model, IDS.at[i].set((IDS[i] + 1) % 5))
        np.testing.assert_array_equal(after[:i], before[:i])
        np.testing.assert_array_equal(after_weights[:, :, :i], before_weights[:, :, :i])
        assert np.all(np.any(after[i:] != before[i:], axis=1))  # all later ones depend on it
    assert np.all(np.triu(before_weights, 1) == 0)
    np.testing.assert_allclose(before_weights.sum(-1), 1, atol=1e-6)


@eqx.filter_jit
def stepped(model, cache, ids):
    return jax.lax.scan(lambda cache, x: model.step(cache, x), cache, ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [None, 7])
def test_steps_with_the_cache_give_what_the_whole_gives(kind, length):
    model = shaken(transformer(**kind))
    cache, logits = stepped(model, model.start(length), IDS)
    np.testing.assert_allclose(logits, model(IDS), atol=1e-5)
    assert int(cache.count) == len(IDS)


def test_a_step_beyond_the_cache_is_not_a_number():
    model = transformer()
    _, logits = stepped(model, model.start(3), IDS[:5])
    assert np.all(np.isfinite(logits[:3]))
    assert np.all(np.isnan(logits[3:]))


@pytest.mark.parametrize("model", [transformer(), nets.GRU(5, 5, key=key(), hidden=4, embed=3)])
def test_an_id_out_of_range_is_not_a_number_where_it_cannot_be_refused(model):
    """Compiled code cannot raise; JAX alone would take the nearest row, and training would go on with wrong data."""
    run = eqx.filter_jit(lambda model, ids: model(ids))
    assert np.all(np.isfinite(run(model, jnp.array([0, 4]))))
    for bad in (-1, 5):
        logits = run(model, jnp.array([1, bad]))
        assert np.all(np.isnan(logits[1]))


def test_relative_positions_see_distances_only():
    """Attention-only, one layer, no position but the distance: the last output is the same for a shorter past that ends
    alike if the head looks at most that far back."""
    model = shaken(transformer(layers=1, position="relative", mlp=False))
    near = model.blocks[0].distance.at[:, 3:].set(-jnp.inf)
    model = eqx.tree_at(lambda m: m.blocks[0].distance, model, near)
    np.testing.assert_allclose(model(IDS)[-1], model(IDS[-3:])[-1], atol=1e-5)
    np.testing.assert_allclose(model(IDS)[3], model(IDS[1:])[2], atol=1e-5)


def test_an_absolute_transformer_without_positions_forgets_the_order():
    """Without positions one layer's last output is the same whatever the order of the ids before the last."""
    model = shaken(transformer(layers=1))
    without = eqx.tree_at(lambda m: m.positions, model, jnp.zeros_like(model.positions))
    other = jnp.concatenate([IDS[:-1][::-1], IDS[-1:]])
    np.testing.assert_allclose(without(IDS)[-1], without(other)[-1], atol=1e-5)
    assert np.max(np.abs(model(IDS)[-1] - model(other)[-1])) > 0.01


def test_transformer_parameter_count():
    for kind in KINDS:
        size = 5 * 8 + (8 + 1) * 5 + 2 * (3 * 8 * 8 + 8 * 8)
        size += 9 * 8 if kind["position"] == "absolute" else 2 * 2 * 9
        size += 2 * ((8 + 1) * 32 + (32 + 1) * 8) if kind["mlp"] else 0
        assert nets.parameter_count(transformer(**kind)) == size
