"""Grammar against closed forms, its own samples and a proof that it is unambiguous; vocabulary against NumPy."""

import bz2
import lzma
import math
import re
import sys
from collections import Counter, defaultdict

import jax
import numpy as np
import pytest
from scipy import stats

from genai_course.data import prose
from genai_course.data.prose import HARBOR_LOG, Grammar
from genai_course.data.vocabulary import Vocabulary

UNIFORM = Grammar({symbol: re.sub(r"\d+", "1", text) for symbol, text in HARBOR_LOG.rules.items()})


@pytest.fixture(scope="module")
def sentences():
    return HARBOR_LOG.sample_sentences(jax.random.key(0), 4000)


def standard_scores(values, mean):
    return (np.mean(values) - mean) / (np.std(values) / math.sqrt(len(values)))


def test_solved_expectations_are_those_of_samples():
    drawn = HARBOR_LOG.sample_sentences(jax.random.key(1), 20_000)
    assert abs(standard_scores([-log2_prob for _, log2_prob in drawn], HARBOR_LOG.entropy_per_sentence)) < 3
    assert abs(standard_scores([len(sentence) + 1 for sentence, _ in drawn], HARBOR_LOG.chars_per_sentence)) < 3
    uniform = [-log2_prob for _, log2_prob in UNIFORM.sample_sentences(jax.random.key(1), 20_000)]
    assert abs(standard_scores(uniform, UNIFORM.entropy_per_sentence)) < 3
    assert abs(standard_scores(uniform, HARBOR_LOG.entropy_per_sentence)) > 10, "the test cannot see other weights"


def test_recursive_grammar_has_the_entropy_of_a_geometric_law():
    grammar = Grammar({"S": "3 go . | 1 go , S"})  # "Go, go, go." with K = 3: P(K = k) = 3/4 (1/4)^(k-1)
    assert grammar.entropy_per_sentence == pytest.approx(stats.geom(0.75).entropy() / math.log(2), rel=1e-9)
    assert grammar.chars_per_sentence == pytest.approx(4 * stats.geom(0.75).mean(), rel=1e-12)
    assert grammar.entropy_rate == pytest.approx(grammar.entropy_per_sentence / grammar.chars_per_sentence)
    assert grammar.log2_prob("Go, go, go.") == pytest.approx(stats.geom(0.75).logpmf(3) / math.log(2))


def test_samples_follow_the_probabilities():
    grammar = Grammar({"S": "3 A B . | 1 B .", "A": "2 big | 1 small", "B": "5 cat | 1 dog"})
    exact = {"Big cat.": 30, "Small cat.": 15, "Big dog.": 6, "Small dog.": 3, "Cat.": 15, "Dog.": 3}  # of 72
    for sentence, share in exact.items():
        assert grammar.log2_prob(sentence) == pytest.approx(math.log2(share / 72))
    seen = Counter(sentence for sentence, _ in grammar.sample_sentences(jax.random.key(2), 7200))
    assert set(seen) == set(exact)
    assert stats.chisquare([seen[s] for s in exact], [100 * share for share in exact.values()]).pvalue > 1e-3


def slr_conflicts(grammar):
    """Conflicts in the grammar's SLR(1) parsing table; without any, a sentence has one derivation (DeRemer 1971)."""
    rules = [
        ("", (grammar.start,)),
        *((a, words) for a, options in grammar.productions.items() for _, words in options),
    ]
    symbols = {a for a, _ in rules}
    first = defaultdict(set)  # words that a symbol can begin with
    follow = defaultdict(set, {"": {"end"}})  # words that can come after it
    size = -1
    while size != (size := sum(map(len, first.values())) + sum(map(len, follow.values()))):
        for a, words in rules:
            first[a] |= first[words[0]] if words[0] in symbols else {words[0]}
            for word, after in zip(words, [*words[1:], None]):
                if word in symbols:
                    follow[word] |= follow[a] if after is None else first[after] if after in symbols else {after}

    def closed(items):
        items, new = set(items), list(items)
        while new:
            rule, dot = new.pop()
            for other, (a, _) in enumerate(rules):
                if rules[rule][1][dot : dot + 1] == (a,) and (other, 0) not in items:
                    items.add((other, 0))
                    new.append((other, 0))
        return frozenset(items)

    states, new, conflicts = set(), [closed({(0, 0)})], []
    while new:
        state = new.pop()
        if state in states:
            continue
        states.add(state)
        actions, moves = defaultdict(set), defaultdict(set)
        for rule, dot in state:
            a, words = rules[rule]
            if dot < len(words):
                moves[words[dot]].add((rule, dot + 1))
                actions[words[dot]].add("shift")
            else:
                for word in follow[a]:
                    actions[word].add(f"reduce {rule}")
        conflicts += [(word, found) for word, found in actions.items() if len(found) > 1]
        new += [closed(items) for items in moves.values()]
    return conflicts


def test_grammar_is_unambiguous():
    assert slr_conflicts(HARBOR_LOG) == []
    words = {w for options in HARBOR_LOG.productions.values() for _, ws in options for w in ws if not w.isupper()}
    assert len({w[0].upper() + w[1:] for w in words}) == len(words), "a capital hides which word it is"
    assert slr_conflicts(Grammar({"S": "1 A . | 1 B .", "A": "1 x", "B": "1 x"})), "the proof cannot fail"


def test_inside_probability_is_that_of_the_only_derivation(sentences):
    for sentence, log2_prob in sentences:
        assert HARBOR_LOG.log2_prob(sentence) == pytest.approx(log2_prob, rel=1e-9)


def test_inside_probability_adds_up_derivations():
    twice = Grammar({"S": "1 A . | 1 B .", "A": "1 x", "B": "1 x"})
    assert twice.log2_prob("X.") == 0
    assert twice.entropy_per_sentence == 1  # of derivations; that of sentences is 0
    divided = Grammar({"S": "1 A A .", "A": "1 x | 1 x x"})  # x + x x or x x + x
    assert divided.log2_prob("X x x.") == -1
    either = Grammar({"S": "1 may . | 1 May ."})  # both are written "May."
    assert either.log2_prob("May.") == 0


@pytest.mark.parametrize(
    "text",
    ["", ".", "the boat slept.", "The boat slept", "The  boat slept.", "The boat slept .", "The boat the.", "NP VP."],
)
def test_what_is_no_sentence_has_no_probability(text):
    assert HARBOR_LOG.log2_prob("The boat slept.") > -20
    assert HARBOR_LOG.log2_prob(text) == -math.inf
    with pytest.raises(ValueError, match="line 2" if text else "line 3"):
        HARBOR_LOG.code_length(f"The boat slept.\n{text}\n" if text else "The boat slept.\nOmar sang.\n\n")


def test_text_is_whole_sentences_and_repeats_with_its_key():
    text = HARBOR_LOG.sample(jax.random.key(3), 1000)
    assert 1000 <= len(text) < 1000 + max(map(len, text.splitlines())) + 1
    assert HARBOR_LOG.code_length(text) == pytest.approx(-sum(map(HARBOR_LOG.log2_prob, text.splitlines())))
    assert text == HARBOR_LOG.sample(jax.random.key(3), 1000) != HARBOR_LOG.sample(jax.random.key(4), 1000)
    assert HARBOR_LOG.sample(jax.random.key(3), 0) == ""
    assert HARBOR_LOG.code_length("") == 0


def ngram_bits(order, train, text):
    """-log2 q of each character under an n-gram model that adds 0.01 to every count."""
    counts = defaultdict(Counter)
    for i, c in enumerate(train):
        counts[train[max(0, i - order) : i]][c] += 1
    size = len(set(train) | set(text))
    bits = []
    for i, c in enumerate(text):
        seen = counts[text[max(0, i - order) : i]]
        bits.append(-math.log2((seen[c] + 0.01) / (seen.total() + 0.01 * size)))
    return np.array(bits)


@pytest.fixture(scope="module")
def held_out():
    return HARBOR_LOG.sample(jax.random.key(5), 200_000), HARBOR_LOG.sample(jax.random.key(6), 20_000)


def test_no_honest_model_beats_the_floor(held_out):
    train, test = held_out
    exact = HARBOR_LOG.code_length(test)
    assert HARBOR_LOG.check_floor(test, exact) == 0
    for order in (1, 3, 6, 10):
        assert HARBOR_LOG.check_floor(test, ngram_bits(order, train, test).sum()) > 0
    for compress in (bz2.compress, lzma.compress):
        alone, both = len(compress(train.encode())), len(compress((train + test).encode()))
        assert HARBOR_LOG.check_floor(train, 8.0 * alone) > 0
        assert HARBOR_LOG.check_floor(test, 8.0 * (both - alone)) > 0
    best = ngram_bits(6, train, test).sum()
    assert best < 1.5 * exact, "too weak a model to put the check to the test"


def test_cheats_are_caught(held_out):
    train, test = held_out
    honest = ngram_bits(6, train, test)
    cheats = {
        "trained on the test text": ngram_bits(20, train + test, test).sum(),
        "nats taken for bits": honest.sum() * math.log(2),
        "mean over padded lines": len(test) * honest.sum() / (100 * test.count("\n")),
        "first characters of short windows not counted": np.delete(honest, np.s_[::3]).sum(),
    }
    for cheat, bits in cheats.items():
        with pytest.raises(AssertionError, match="honest model"):
            print(cheat, HARBOR_LOG.check_floor(test, bits))


def test_false_alarms_are_as_rare_as_promised(sentences):
    excess = np.array([-UNIFORM.log2_prob(sentence) + log2_prob for sentence, log2_prob in sentences])
    assert standard_scores(excess, 0) > 10  # a wrong model loses on average: the mean is a Kullback-Leibler divergence
    for slack in (1, 2, 3):
        alarms = np.sum(excess <= -slack)
        assert alarms > 0
        assert stats.binom.sf(alarms - 1, len(excess), 2.0**-slack) > 1e-3
    lucky, _ = sentences[int(np.argmin(excess))]
    with pytest.raises(AssertionError, match="honest model"):
        HARBOR_LOG.check_floor(lucky + "\n", -UNIFORM.log2_prob(lucky), slack=0.0)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"S": "1 NP ."}, "define every upper-case symbol, but not NP"),
        ({"T": "1 go ."}, "but not S"),
        ({"S": "1 T .", "T": "1 S , go | 1 go"}, "left-recursive, as is"),
        ({"S": "1 go . | 3 go , S S"}, "finite expected length"),
        ({"S": "1 go . | 1 go , S S"}, "finite expected length"),
        ({"S": "go ."}, "weight words"),
        ({"S": "0 go ."}, "weight words"),
        ({"S": "1 go."}, "weight words"),
        ({"S": "1 go . |"}, "weight words"),
        ({"s": "1 go ."}, "upper-case word"),
    ],
)
def test_bad_grammar_is_named(rules, message):
    with pytest.raises(ValueError, match=message):
        Grammar(rules)


@pytest.mark.parametrize("text", ["abracadabra", "The boat slept.\n", "a", "日本語 and \U0001f600"])
def test_vocabulary_agrees_with_numpy(text):
    characters, ids = np.unique(list(text), return_inverse=True)
    vocabulary = Vocabulary.of(text)
    assert vocabulary.characters == "".join(characters)
    assert len(vocabulary) == len(characters)
    np.testing.assert_array_equal(vocabulary.encode(text), ids)
    assert vocabulary.encode(text).dtype == np.int32
    assert vocabulary.decode(ids) == text == vocabulary.decode(jax.numpy.asarray(ids))


def test_vocabulary_pads_and_admits_the_unknown():
    vocabulary = Vocabulary.of("abc", pad=True, unknown=True)
    assert (vocabulary.pad_id, vocabulary.unknown_id, len(vocabulary)) == (0, 1, 5)
    assert vocabulary.encode("cab!", length=6).tolist() == [4, 2, 3, 1, 0, 0]
    assert vocabulary.decode(vocabulary.encode("cab!", length=6)) == "cab\ufffd"
    assert Vocabulary("ab", unknown=True).encode("b?").tolist() == [2, 0]
    assert Vocabulary("ab").pad_id is None is Vocabulary("ab").unknown_id
    assert Vocabulary("ba") == Vocabulary.of("abab")


def test_vocabulary_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"'é' at position 3"):
        Vocabulary("acf").encode("café")
    with pytest.raises(ValueError, match="length must be at least that of text, 3, got 2"):
        Vocabulary("abc", pad=True).encode("abc", length=2)
    with pytest.raises(ValueError, match="pad=True"):
        Vocabulary("abc").encode("abc", length=5)
    for ids, bad in ([0, 3], 3), ([-1], -1):
        with pytest.raises(ValueError, match=f"ids must be from 0 to 2, got {bad}"):
            Vocabulary("abc").decode(np.array(ids))
    for characters in ("", "aa"):
        with pytest.raises(ValueError, match="characters must be"):
            Vocabulary(characters)


def test_reference_text_is_english_and_its_test_part_is_apart():
    whole, train, test = (prose.reference_text(split) for split in ("all", "train", "test"))
    assert whole == train[:-1] + "\n\n" + test
    assert len(whole) > 150_000
    paragraphs = whole.strip().split("\n\n")
    assert len({p.lower() for p in paragraphs}) == len(paragraphs)
    assert 0.09 < len(test.strip().split("\n\n")) / len(paragraphs) <= 0.1
    assert whole.replace("\n", " ").isprintable()
    assert whole.isascii()
    words = re.findall("[a-z]+", whole.lower())
    assert sum(word in {"the", "a", "of", "is", "to", "and", "in"} for word in words) > 0.2 * len(words)
    assert not re.search(r">>>|::=|  ", whole)
    assert 1.5 < 8 * len(bz2.compress(whole.encode())) / len(whole) < 2.3


def test_missing_reference_text_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match=r"pydoc_data\.topics"):
        prose._reference_paragraphs.__wrapped__()
