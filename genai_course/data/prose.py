"""Text in two tiers: a small language whose entropy is known exactly, and real English that every Python carries.

Data card, grammar
    Origin: written for this course, a weighted context-free grammar of sentences from a harbor log (`HARBOR_LOG`).
    License: MIT, as the code. Size: as much as you draw. Splits: none needed, draw with another key. Known exactly: the
    probability of every sentence; bits and characters per sentence, hence 0.522 bits per character, the floor.
Data card, reference text
    Origin: the language reference inside the installed interpreter (``pydoc_data.topics``), cleaned here to prose.
    License: Python Software Foundation License 2; read in place, not redistributed. Size: 215,000 to 241,000 characters
    of printable ASCII, by Python version, so no number may be pinned to it. Splits: the last tenth of the paragraphs is
    the test set; no paragraph is there twice. Known exactly: nothing.
"""

import functools
import importlib
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import jax
import numpy as np

from genai_course import _check
from genai_course.data import rng_from_key
from genai_course.data.vocabulary import _text


def _alternatives(symbol: str, text: str) -> list[tuple[float, tuple[str, ...]]]:
    if not _text("a symbol of rules", symbol).isupper():
        raise ValueError(f"rules must name each symbol by an upper-case word, got {symbol!r:.60}")
    options = []
    for option in _text(f"rules[{symbol!r}]", text).split("|"):
        match = re.fullmatch(r"\s*([1-9]\d*)((?:\s+(?:[^\s.,]+|[.,]))+)\s*", option)
        if not match:
            raise ValueError(
                f"rules[{symbol!r}] must be 'weight words ... | ...' with whole weights, got {option!r:.60}"
            )
        options.append((int(match[1]), tuple(match[2].split())))
    total = sum(weight for weight, _ in options)
    return [(weight / total, words) for weight, words in options]


def _written(words: list[str]) -> str:
    line = re.sub(r" (?=[.,])", "", " ".join(words))
    return line[0].upper() + line[1:]


@dataclass(frozen=True, eq=False)
class Grammar:
    """Weighted context-free grammar of sentences, each of which is one line of text.

    ``rules`` maps a symbol (upper-case word) to its alternatives, ``"weight words ... | weight words ..."``. A sentence
    is the words with a blank between, none before ``.`` and ``,``, and a capital at the front. Raises ``ValueError``
    for a rule that cannot be read, an undefined symbol, left recursion, or sentences of infinite expected length.

    ``entropy_per_sentence`` H = E[-log2 p], in bits, and ``chars_per_sentence`` C, with the newline, solve
    (I - M) h = h_0, where M[a, b] is how many symbols b are expected from symbol a in one step (Grenander 1967; Booth &
    Thompson 1973). H counts derivations. That is the entropy of sentences if the grammar is unambiguous, as
    `HARBOR_LOG` is, and more than it otherwise.
    """

    rules: Mapping[str, str]
    start: str = "S"
    productions: dict[str, list[tuple[float, tuple[str, ...]]]] = field(init=False, repr=False)
    entropy_per_sentence: float = field(init=False)
    chars_per_sentence: float = field(init=False)

    def __post_init__(self):
        if not isinstance(self.rules, Mapping):
            raise TypeError(f"rules must map symbols to alternatives, got {type(self.rules).__name__}")
        rules = {symbol: _alternatives(symbol, text) for symbol, text in self.rules.items()}
        used = {word for options in rules.values() for _, words in options for word in words if word.isupper()}
        if missing := sorted({_text("start", self.start), *used} - set(rules)):
            raise ValueError(f"rules must define every upper-case symbol, but not {', '.join(missing)}")
        first = {symbol: {words[0] for _, words in options} & set(rules) for symbol, options in rules.items()}
        try:  # in this order a symbol comes after those that it can begin with
            rules = {symbol: rules[symbol] for symbol in TopologicalSorter(first).static_order()}
        except CycleError as error:
            raise ValueError(f"rules must not be left-recursive, as is {' < '.join(error.args[1])}") from None
        made, local = np.zeros((len(rules), len(rules))), np.zeros((len(rules), 2))
        row = {symbol: i for i, symbol in enumerate(rules)}
        for symbol, options in rules.items():
            for p, words in options:
                local[row[symbol], 0] -= p * math.log2(p)
                for word in words:
                    if word in rules:
                        made[row[symbol], row[word]] += p
                    else:  # before a word stands a blank or, at the front of a line, the newline of the line before
                        local[row[symbol], 1] += p * (len(word) + (word not in ".,"))
        if max(abs(np.linalg.eigvals(made))) >= 1:
            raise ValueError("rules must make sentences of finite expected length, but these grow without end")
        bits, chars = np.linalg.solve(np.eye(len(rules)) - made, local)[row[self.start]].tolist()
        for name, value in ("productions", rules), ("entropy_per_sentence", bits), ("chars_per_sentence", chars):
            object.__setattr__(self, name, value)

    @property
    def entropy_rate(self) -> float:
        """H / C in bits per character: what the best possible model spends on a long text."""
        return self.entropy_per_sentence / self.chars_per_sentence

    def _derive(self, rng: np.random.Generator) -> tuple[str, float]:
        words, log2_prob, stack = [], 0.0, [self.start]
        while stack:
            symbol = stack.pop()
            if symbol not in self.productions:
                words.append(symbol)
                continue
            u, options = rng.random(), self.productions[symbol]
            p, chosen = next((option for option in options if (u := u - option[0]) < 0), options[-1])
            log2_prob += math.log2(p)
            stack.extend(reversed(chosen))
        return _written(words), log2_prob

    def sample_sentences(self, key: jax.Array, n: int) -> list[tuple[str, float]]:
        """Draw ``n`` sentences, each with log2 of the probability of the derivation that made it."""
        n, rng = _check.integer("n", n, least=0), rng_from_key(key)
        return [self._derive(rng) for _ in range(n)]

    def sample(self, key: jax.Array, n_chars: int) -> str:
        """Draw whole sentences, one a line, until there are at least ``n_chars`` characters.

        Stopping there does not bias the rate: E[bits] = H E[sentences] and E[characters] = C E[sentences] (Wald 1944).
        """
        n_chars, rng, lines, total = _check.integer("n_chars", n_chars, least=0), rng_from_key(key), [], 0
        while total < n_chars:
            lines.append(self._derive(rng)[0] + "\n")
            total += len(lines[-1])
        return "".join(lines)

    def log2_prob(self, sentence: str) -> float:
        """log2 p(sentence), exact: all derivations summed (inside algorithm, Baker 1979); -inf if there is none."""
        words = re.findall(r"[^\s.,]+|[.,]", _text("sentence", sentence))
        if not words or _written(words) != sentence or not self.productions.keys().isdisjoint(words):
            return -math.inf
        readings = {(word, *words[1:]) for word in (words[0], words[0][0].lower() + words[0][1:])}
        total = sum(self._inside(reading) for reading in readings)
        return math.log2(total) if total > 0 else -math.inf

    def _inside(self, words: tuple[str, ...]) -> float:
        # chart[begin][symbol][end]: probability that the symbol makes the words from begin to end.
        chart = [{word: {i + 1: 1.0}} for i, word in enumerate(words)] + [{}]
        for begin in reversed(range(len(words))):
            for symbol, options in self.productions.items():
                for p, parts in options:
                    if parts[0] not in chart[begin]:
                        continue
                    reach = {begin: p}
                    for part in parts:
                        further = defaultdict(float)
                        for middle, so_far in reach.items():
                            for end, q in chart[middle].get(part, {}).items():
                                further[end] += so_far * q
                        reach = further
                    for end, q in reach.items():
                        chart[begin].setdefault(symbol, defaultdict(float))[end] += q
        return chart[0].get(self.start, {}).get(len(words), 0.0)

    def code_length(self, text: str) -> float:
        """-log2 p(text) in bits of these very lines; raises ``ValueError`` with the line that is no sentence."""
        *lines, rest = _text("text", text).split("\n")
        if rest:
            raise ValueError(f"text must be whole sentences, one a line, but ends without a newline in {rest!r:.60}")
        bits = [-self.log2_prob(line) for line in lines]
        if math.inf in bits:
            bad = bits.index(math.inf)
            raise ValueError(f"text must hold sentences of the grammar, but line {bad + 1} is {lines[bad]!r:.80}")
        return math.fsum(bits)

    def check_floor(self, text: str, bits: float, slack: float = 20.0) -> float:
        """Return how many bits a model spent on ``text`` beyond its exact code length; ``AssertionError`` if too few.

        ``bits`` is the model's -log2 q(text) in all, over every character and newline. If the text was drawn from the
        grammar and q, which sums to one, never saw it, then P[-log2 q <= -log2 p - slack] <= 2^-slack: Markov's
        inequality for q / p (no hypercompression, Grünwald 2007). At 20 bits an honest model fails once in a million.
        """
        bits, slack = _check.number("bits", bits), _check.number("slack", slack, least=0.0)
        excess = bits - self.code_length(text)
        if excess < -slack:
            raise AssertionError(
                f"the model spent {bits:.1f} bits on a text that takes {bits - excess:.1f}; an honest model does that "
                f"with probability 2^{excess:.0f} at most: look for text that leaked or bits that are summed wrongly"
            )
        return excess


HARBOR_LOG = Grammar(
    {
        "S": "5 NP VP . | 2 ADV , NP VP . | 2 NP VP CONJ NP VP . | 1 when NP VP , NP VP .",
        "NP": "4 the N | 3 the ADJ N | 2 a N | 2 NAME | 1 the N PP",
        "PP": "2 near the PLACE | 2 from the PLACE | 1 under the PLACE | 1 beyond the ADJ PLACE",
        "VP": "4 VT NP | 3 VI | 3 VI PP | 2 VI ADV | 1 VS that NP VP",
        "N": "6 boat | 5 captain | 5 gull | 4 lantern | 4 sailor | 3 steamer | 3 net | 2 storm | 2 pilot "
        "| 1 whale | 1 barge",
        "ADJ": "5 old | 4 gray | 4 small | 3 quiet | 2 heavy | 2 bright | 1 broken | 1 northern",
        "NAME": "3 Aiko | 3 Omar | 2 Chidi | 2 Lucia | 1 Ravi | 1 Nora",
        "PLACE": "4 pier | 3 island | 3 lighthouse | 2 market | 2 reef | 1 bridge",
        "VT": "4 saw | 3 followed | 3 carried | 2 heard | 2 repaired | 1 named | 1 lost",
        "VI": "4 waited | 3 turned | 3 slept | 2 returned | 2 drifted | 1 sang | 1 vanished",
        "VS": "3 said | 2 knew | 1 hoped",
        "ADV": "3 slowly | 2 at dawn | 2 at night | 1 again | 1 without a sound",
        "CONJ": "3 and | 2 but | 1 while",
    }
)


@functools.cache
def _reference_paragraphs() -> list[str]:
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise ModuleNotFoundError(
            "this Python comes without pydoc_data.topics, the reference text, as some stripped-down installations do; "
            "use a full installation, or HARBOR_LOG.sample instead"
        ) from error
    kept = {}
    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            lines = [line for line in block.splitlines() if line.strip()]
            if not lines or min(len(line) - len(line.lstrip()) for line in lines) > 3:
                continue  # set in further than a list item: code or grammar
            text = re.sub(r"(?<=\w)-\n\s*", "-", block)
            text = re.sub(r"^\s*(\*|\[\d+\]|\d+\.)\s", "", text)  # bullets, footnotes, numbers
            text = re.sub(r'"([^"]*)"|(?<!\w)\*{1,2}([^*]+)\*{1,2}', r"\1\2", text)  # code, emphasis
            text = " ".join(text.translate(str.maketrans("‘’“”–—", "''\"\"--")).split())
            wordy = sum(c.isalpha() or c == " " for c in text) > 0.86 * len(text)
            clean = text.isascii() and text.isprintable() and not re.search(r"::=|>>>|[|]| = |\bdef \w+\(", text)
            if len(text) >= 60 and wordy and clean and text[-1] in ".:!?)":
                kept.setdefault(text.lower(), text)
    return list(kept.values())


def reference_text(split: str = "all") -> str:
    """Return paragraphs of English with a blank line between: ``"all"``, or the ``"train"`` or ``"test"`` part of them.

    Raises ``ModuleNotFoundError`` where the interpreter comes without its reference text.
    """
    paragraphs = _reference_paragraphs()
    cut = len(paragraphs) - len(paragraphs) // 10
    parts = {"all": paragraphs, "train": paragraphs[:cut], "test": paragraphs[cut:]}
    return "\n\n".join(parts[_check.choice("split", split, parts)]) + "\n"
