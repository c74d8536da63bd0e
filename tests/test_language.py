"""The language model against sums over all sequences, sampling against its laws, training against an exact entropy."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bad_inputs import (
    NOT_A_COUNT,
    NOT_A_KEY,
    NOT_AN_ARRAY,
    NOT_POSITIVE,
    assert_named,
    table,
    two_keys,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from genai_course import nets
from genai_course.models.language import LanguageModel, choose_from
from genai_course.train import fit


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def ids(*values: int) -> jax.Array:
    return jnp.array(values, jnp.int32)


@eqx.filter_jit
def compiled(method, *arguments):
    """The same, compiled as a whole: much faster to test than operation by operation."""
    return method(*arguments)


class Markov(eqx.Module):
    """A network that knows a Markov source: logits of the next id from the last one."""

    logits: jax.Array

    def start(self, length):
        return jnp.zeros(())

    def step(self, state, x):
        return state, self.logits[x]

    def __call__(self, xs):
        return self.logits[xs]


NETS = {
    "transformer": nets.Transformer(3, 8, key=key(), width=8, heads=2),
    "relative": nets.Transformer(3, 8, key=key(), width=8, heads=2, mlp=False, position="relative"),
    "gru": nets.GRU(3, 3, key=key(), hidden=6, embed=4),
    "markov": Markov(jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.05, 0.05, 0.9]]))),
}


def enlarged(net, by: float = 4.0):
    """The network with logits far from equal, so that a mistake cannot hide."""
    return net if isinstance(net, Markov) else eqx.tree_at(lambda n: n.head.weight, net, net.head.weight * by)


@pytest.fixture(params=NETS)
def model(request) -> LanguageModel:
    return LanguageModel(enlarged(NETS[request.param]))


# Probabilities


def test_all_sequences_together_have_probability_one(model):
    every = jnp.array([(1, *rest) for rest in itertools.product(range(3), repeat=4)])
    log_p = np.asarray(compiled(jax.vmap(model.log_prob), every), float)
    assert special.logsumexp(log_p) == pytest.approx(0, abs=1e-5)
    assert np.std(log_p) > 0.3  # and they are not all equal


def test_log_prob_is_the_product_of_the_steps(model):
    """Chain rule, each factor from the network's step and a softmax by SciPy."""
    text, state, expected = ids(2, 0, 1, 1, 2), model.net.start(4), []
    for x, following in itertools.pairwise(text):
        state, logits = compiled(model.net.step, state, x)
        expected.append(special.log_softmax(np.asarray(logits, float))[following])
    np.testing.assert_allclose(compiled(model.log_probs, text), expected, atol=1e-5)
    assert float(compiled(model.log_prob, text)) == pytest.approx(sum(expected), abs=1e-5)
    assert float(compiled(model.perplexity, text)) == pytest.approx(math.exp(-np.mean(expected)), rel=1e-5)


def test_markov_source_by_hand():
    model = LanguageModel(NETS["markov"])
    loss, parts = model.loss(ids(0, 1, 0, 2), key())
    assert float(parts["nats"]) == pytest.approx(-math.log(0.6 * 0.5 * 0.3), rel=1e-5)
    assert float(parts["tokens"]) == 3
    assert float(loss) == pytest.approx(-math.log(0.6 * 0.5 * 0.3) / 3, rel=1e-5)


@pytest.mark.parametrize("pad_id", [0, 2])
def test_padding_costs_nothing_and_changes_nothing(pad_id):
    model = LanguageModel(enlarged(NETS["transformer"]), pad_id=pad_id)
    text = ids(1, 1, 2 - pad_id, 1)
    padded = jnp.concatenate([text, jnp.full(3, pad_id)])
    both = [
        compiled(lambda x: (model.log_probs(x), model.predicted(x), model.perplexity(x)), x) for x in (padded, text)
    ]
    np.testing.assert_allclose(both[0][0], [*both[1][0], 0, 0, 0], atol=1e-6)
    assert int(both[0][1]) == int(both[1][1]) == 3
    assert float(both[0][2]) == pytest.approx(float(both[1][2]), rel=1e-5)
    loss, parts = compiled(model.loss, padded, key())
    assert float(parts["tokens"]) == 3
    assert float(loss) == pytest.approx(float(parts["nats"]) / 6, rel=1e-6)


def test_with_padding_the_gradient_is_that_of_the_likelihood_of_the_data():
    """Short sequences must not weigh more: a batch's loss is -Σ log p, divided by a number that is always the same."""
    model = LanguageModel(NETS["transformer"], pad_id=0)
    long, short = ids(1, 2, 1, 2, 2), ids(2, 1, 0, 0, 0)

    def batch(model):
        return jnp.mean(jax.vmap(lambda x: model.loss(x, key())[0])(jnp.stack([long, short])))

    def likelihood(model):
        return -(model.log_prob(long) + model.log_prob(short[:2])) / (2 * 4)

    for found, expected in zip(*(jax.tree.leaves(compiled(eqx.filter_grad(f), model)) for f in (batch, likelihood))):
        np.testing.assert_allclose(found, expected, atol=1e-6)


# The choice of the next id

LOGITS = st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=8).map(lambda x: jnp.array(x, jnp.float32))


@given(LOGITS, st.floats(0.2, 5))
def test_temperature_is_a_power_of_the_probabilities(logits, temperature):
    p = special.softmax(np.asarray(logits, float))
    expected = p ** (1 / temperature) / np.sum(p ** (1 / temperature))
    np.testing.assert_allclose(np.exp(choose_from(logits, temperature)), expected, rtol=1e-3, atol=1e-7)


@given(LOGITS, st.integers(1, 10))
def test_top_k_keeps_the_k_largest_in_proportion(logits, k):
    p, found = special.softmax(np.asarray(logits, float)), np.exp(choose_from(logits, top_k=k))
    largest = np.argsort(-np.asarray(logits), kind="stable")[:k]
    expected = np.zeros(len(p))
    expected[largest] = p[largest] / p[largest].sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@given(LOGITS, st.floats(0.05, 0.999))
def test_top_p_keeps_the_fewest_that_hold_the_probability(logits, top_p):
    p, found = special.softmax(np.asarray(logits, float)), np.asarray(np.exp(choose_from(logits, top_p=top_p)), float)
    kept = found > 0
    assert p[kept].sum() >= top_p - 1e-5
    assert p[kept].sum() - p[kept].min() <= top_p + 1e-5  # one fewer would not do
    assert p[kept].min() >= np.max(p[~kept], initial=0) - 1e-6  # the largest are kept
    np.testing.assert_allclose(found[kept], p[kept] / p[kept].sum(), rtol=1e-3)


def test_the_changes_come_in_the_order_of_the_docstring():
    logits = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))
    # Two largest: 4/7, 3/7. Half of that is held by the first alone; half of all would need both.
    np.testing.assert_allclose(np.exp(choose_from(logits, top_k=2, top_p=0.5)), [1, 0, 0, 0])
    # Squared and normalized: 16, 9, 4, 1 in 30.
    np.testing.assert_allclose(np.exp(choose_from(logits, 0.5, top_p=0.6)), np.array([16, 9, 0, 0]) / 25, atol=1e-6)
    np.testing.assert_allclose(np.exp(choose_from(logits, top_p=1.0)), np.exp(logits), atol=1e-6)
    np.testing.assert_array_equal(choose_from(jnp.zeros(4), top_k=1), [0, -np.inf, -np.inf, -np.inf])


# Samples


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.8}])
def test_steps_draw_what_the_whole_text_again_and_again_would(model, options):
    prompt, length = ids(1, 2), 6
    expected = [1, 2]
    for i in range(length):
        log_p = choose_from(compiled(model.net, jnp.array(expected + [0] * (length - i)))[1 + i], **options)
        expected.append(int(jax.random.categorical(jax.random.fold_in(key(3), i), log_p)))
    found = model.sample(key(3), length, prompt=prompt, **options)
    assert found.dtype == prompt.dtype
    np.testing.assert_array_equal(found, expected[2:])


def test_samples_have_the_probabilities_of_the_model(model):
    draw = jax.jit(jax.vmap(lambda k: model.sample(k, 3, prompt=ids(0))))
    drawn = np.asarray(draw(jax.random.split(key(4), 20_000)))
    counts = np.bincount(drawn @ [9, 3, 1], minlength=27)
    every = jnp.array([(0, *rest) for rest in itertools.product(range(3), repeat=3)])
    p = np.exp(np.asarray(compiled(jax.vmap(model.log_prob), every), float))
    assert stats.chisquare(counts, 20_000 * p / p.sum()).pvalue > 1e-4


def test_greedy_choice_is_the_most_probable_next_id(model):
    found = model.sample(key(5), 5, prompt=ids(1), top_k=1)
    text = jnp.concatenate([ids(1), found])
    np.testing.assert_array_equal(found, np.argmax(compiled(model.net, text[:-1]), axis=1))
    np.testing.assert_array_equal(found, model.sample(key(6), 5, prompt=ids(1), top_k=1))


# Training


def stationary(transition):
    values, vectors = np.linalg.eig(transition.T)
    p = np.real(vectors[:, np.argmax(np.real(values))])
    return p / p.sum()


@pytest.mark.parametrize("net", ["transformer", "gru"])
def test_training_reaches_the_entropy_rate_of_a_markov_source(net):
    """On fresh draws nothing can be below the rate, but for chance; the model ends just above it."""
    transition = np.array([[0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
    start = stationary(transition)
    rate = float(np.sum(start[:, None] * special.entr(transition)))
    source = LanguageModel(Markov(jnp.log(jnp.asarray(transition, jnp.float32))))

    def draw(k, n):
        first, rest = jax.random.split(k)
        x = jax.random.categorical(first, jnp.log(jnp.asarray(start)), shape=(n, 1)).astype(jnp.int32)
        keys = jax.random.split(rest, n)
        return jnp.concatenate([x, jax.vmap(lambda k, x: source.sample(k, 8, prompt=x))(keys, x)], axis=1)

    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 300))
    run = fit(LanguageModel(NETS[net]), draw, key=key(1), steps=300, batch_size=64, optimizer=optimizer)
    held_out = draw(key(2), 2000)
    by_model, by_source = (
        -np.asarray(compiled(jax.vmap(m.log_prob), held_out), float) / 8 for m in (run.model, source)
    )
    assert abs(by_source.mean() - rate) < 4 * stats.sem(by_source)
    excess = by_model - by_source  # nats a token beyond the truth, on the same sequences
    assert -4 * stats.sem(excess) < excess.mean() < 0.01
    assert run.history["loss"][0] > rate + 0.3


# Bad arguments

IDS = [*NOT_AN_ARRAY, jnp.array([[0, 1]]), jnp.array([0.0, 1.0]), jnp.array([], jnp.int32), ids(0, 3), ids(-1, 0)]
SHORT = [ids(0)]
CHOICE = {
    "temperature": NOT_POSITIVE,
    "top_k": [bad for bad in NOT_A_COUNT if bad is not None],
    "top_p": [*[bad for bad in NOT_POSITIVE if bad is not None], 1.1],
}
BAD = [
    *table(choose_from, lambda: {"logits": jnp.zeros(3)}, {"logits": [*NOT_AN_ARRAY, jnp.zeros((2, 3))], **CHOICE}),
    *table(
        LanguageModel,
        lambda: {"net": NETS["gru"]},
        {"net": [None, 3, len, nets.GRU, nets.MLP((2, 2), key=key())], "pad_id": [2.5, True, "0", -1]},
    ),
    *table(
        lambda **arguments: LanguageModel(NETS["gru"]).sample(**arguments),
        lambda: {"key": key(), "length": 2, "prompt": ids(0)},
        {"key": [*NOT_A_KEY, two_keys], "length": NOT_A_COUNT, "prompt": IDS, **CHOICE},
    ),
    *table(
        lambda **arguments: LanguageModel(NETS["transformer"]).sample(**arguments),
        lambda: {"key": key(), "length": 2, "prompt": ids(0)},
        {"length": [9], "prompt": IDS},
    ),
    *table(
        lambda **arguments: LanguageModel(NETS["gru"]).loss(**arguments),
        lambda: {"ids": ids(0, 1), "key": key()},
        {"ids": IDS + SHORT, "key": [*NOT_A_KEY, two_keys]},
    ),
    *(
        case
        for verb in ("log_prob", "log_probs", "perplexity")
        for case in table(lambda ids, verb=verb: getattr(LanguageModel(NETS["gru"]), verb)(ids), dict, {"ids": IDS})
    ),
    *table(lambda ids: LanguageModel(NETS["gru"]).predicted(ids), dict, {"ids": IDS[:-2] + SHORT}),
]


@pytest.mark.parametrize(("function", "good", "argument", "value"), BAD)
def test_bad_arguments_are_named(function, good, argument, value):
    assert_named(function, good, argument, value)
