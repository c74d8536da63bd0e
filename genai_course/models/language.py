"""Autoregressive language model: p(x_1 … x_n | x_0) = Π_i p(x_i | x_0 … x_{i-1}), each factor a network's softmax.

The first id is given, not predicted: a start symbol, or the character before the piece of text. All in nats.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genai_course import _check
from genai_course.nets.sequence import check_ids


def choose_from(
    logits: Float[Array, " vocabulary"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Array, " vocabulary"]:
    """Log-probabilities, -inf where excluded, of the next id under the usual changes of p = softmax(logits).

    In this order: p^(1/temperature); the ``top_k`` largest (Fan et al., 2018); of these the fewest, largest first, that
    hold ``top_p`` of their probability (nucleus, Holtzman et al., 2020). Each time p is normalized. Of equal ones, the
    lower id goes first. The greedy choice is ``top_k=1``.
    """
    logits = _check.array("logits", logits, ndim=1, finite=False)
    return _choose_from(logits, *_check_choice(temperature, top_k, top_p))


def _check_choice(temperature, top_k, top_p):
    temperature = _check.number("temperature", temperature, above=0.0)
    top_k = top_k if top_k is None else _check.integer("top_k", top_k)
    top_p = top_p if top_p is None else _check.number("top_p", top_p, above=0.0, most=1.0)
    return temperature, top_k, None if top_p == 1.0 else top_p


def _choose_from(logits, temperature, top_k, top_p):
    logits = logits / temperature
    if top_k is not None or top_p is not None:
        order = jnp.argsort(-logits)
        rank = jnp.argsort(order)
        if top_k is not None:
            logits = jnp.where(rank < top_k, logits, -jnp.inf)
        if top_p is not None:
            p = jax.nn.softmax(logits)[order]
            before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(p)[:-1]])  # probability of all larger ones
            logits = jnp.where((before < top_p)[rank], logits, -jnp.inf)
    return jax.nn.log_softmax(logits)


class LanguageModel(eqx.Module):
    """A language model with the network that it is given: causal, ids to logits, with ``start`` and ``step``.

    Where the id that would be predicted is ``pad_id``, nothing is: fill sequences up to one length at their end.
    """

    net: eqx.Module
    pad_id: int | None = eqx.field(static=True)

    def __init__(self, net: eqx.Module, *, pad_id: int | None = None):
        if not (isinstance(net, eqx.Module) and hasattr(net, "start") and hasattr(net, "step")):
            raise TypeError(f"net must be an equinox.Module with start and step, got {type(net).__name__}")
        self.net = net
        self.pad_id = pad_id if pad_id is None else _check.integer("pad_id", pad_id, least=0)

    def _ids(self, ids):
        ids = check_ids("ids", ids)
        if len(ids) < 2:
            raise ValueError(f"ids must be two or more, the first of them given, got {len(ids)}")
        return ids

    def log_probs(self, ids: Int[Array, " n"]) -> Float[Array, " n-1"]:
        """Log p(x_i | x_0 … x_{i-1}) for i = 1 … n-1, and 0 for padding."""
        ids = self._ids(ids)
        log_p = jax.nn.log_softmax(self.net(ids[:-1]))
        if log_p.ndim != 2:
            raise ValueError(f"net must return logits [n, vocabulary], got shape {log_p.shape}")
        check_ids("ids", ids, log_p.shape[1])
        chosen = jnp.take_along_axis(log_p, ids[1:, None], axis=1)[:, 0]
        return chosen if self.pad_id is None else jnp.where(ids[1:] == self.pad_id, 0.0, chosen)

    def predicted(self, ids: Int[Array, " n"]) -> Int[Array, ""]:
        """How many ids are predicted: all but the first and the padding."""
        ids = self._ids(ids)
        return jnp.sum(ids[1:] != (-1 if self.pad_id is None else self.pad_id))

    def log_prob(self, ids: Int[Array, " n"]) -> Float[Array, ""]:
        """Log p(x_1 … x_{n-1} | x_0): the sum of ``log_probs``, exact."""
        return jnp.sum(self.log_probs(ids))

    def loss(self, ids: Int[Array, " n"], key: PRNGKeyArray) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """-log p / (n-1): nats per position, the mean cross-entropy of the next id; nothing in it is random.

        Its parts are ``"nats"``, -log p, and ``"tokens"``, how many ids are predicted. Without padding the loss is
        nats/tokens. With it every real id still weighs the same, as in the likelihood of all the data; then
        ``history["nats"] / history["tokens"]`` is what an entropy rate can be compared with.
        """
        _check.key("key", key)
        nats = -self.log_prob(ids)
        return nats / (len(ids) - 1), {"nats": nats, "tokens": self.predicted(ids).astype(nats.dtype)}

    def perplexity(self, ids: Int[Array, " n"]) -> Float[Array, ""]:
        """Exp of the nats per predicted id: as hard to predict as that many equally likely ids."""
        return jnp.exp(-self.log_prob(ids) / self.predicted(ids))

    def sample(
        self,
        key: PRNGKeyArray,
        length: int,
        *,
        prompt: Int[Array, " m"],
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Int[Array, " length"]:
        """Draw the ``length`` ids that follow ``prompt``, one id or more, each as ``choose_from`` says.

        The network's ``step`` makes one id cost one position, not the whole text again. Id i is drawn with the key
        ``jax.random.fold_in(key, i)``.
        """
        _check.key("key", key)
        length = _check.integer("length", length)
        prompt = check_ids("prompt", prompt)
        temperature, top_k, top_p = _check_choice(temperature, top_k, top_p)
        state = self.net.start(len(prompt) + length - 1)
        check_ids("prompt", prompt, eqx.filter_eval_shape(self.net.step, state, prompt[0])[1].size)
        return _continue(self.net, state, prompt, key, length, jnp.asarray(temperature), top_k, top_p)


@eqx.filter_jit
def _continue(net, state, prompt, key, length, temperature, top_k, top_p):
    def advance(carry, i):
        state, logits = net.step(*carry)
        log_p = _choose_from(logits, temperature, top_k, top_p)
        x = jax.random.categorical(jax.random.fold_in(key, i), log_p).astype(prompt.dtype)
        return (state, x), x

    state, _ = jax.lax.scan(lambda state, x: net.step(state, x), state, prompt[:-1])
    return jax.lax.scan(advance, (state, prompt[-1]), jnp.arange(length))[1]
