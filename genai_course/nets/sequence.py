"""Sequence networks: what a position gives out depends on it and on the positions before it, never on later ones.

Both have the same three verbs: ``net(xs)`` for a whole sequence, ``net.start(length)`` for the state before the first
position of at most ``length``, and ``net.step(state, x)`` for one position more.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genai_course import _check
from genai_course.nets.basic import MLP, _sizes


def check_ids(name: str, value, size: int | None = None, *, ndim: int = 1, least: int = 0) -> Int[Array, "..."]:
    """Return ``value`` as an array of one or more integers from ``least`` to ``size - 1``."""
    value = _check.array(name, value, ndim=ndim)
    if not value.size or not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{name} must hold one integer or more, got {value.dtype} of shape {value.shape}")
    most = np.iinfo(np.int32).max if size is None else size - 1
    if not isinstance(value, jax.core.Tracer):
        values = np.asarray(value)
        if not least <= values.min() <= values.max() <= most:
            raise ValueError(f"{name} must be from {least} to {most}, got {values.min()} to {values.max()}")
    return jnp.asarray(value)


def look_up(table: Float[Array, "size *rest"], index: Int[Array, "*n"]) -> Float[Array, "..."]:
    """Rows ``table[index]``, and NaN where compiled code meets an index out of range, which JAX would clamp."""
    return table.at[jnp.where(index < 0, len(table), index)].get(mode="fill", fill_value=jnp.nan)


class GRU(eqx.Module):
    """Gated recurrent unit (Cho et al., 2014) with a linear read-out at each position.

    h_i = GRU(h_{i-1}, x_i) from h_0 = 0, y_i = W h_i + b. An x_i is a vector of ``in_size`` numbers or, if ``embed`` is
    given, an id below ``in_size``, which an embedding turns into ``embed`` numbers.
    """

    embedding: Float[Array, "in_size embed"] | None
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray, hidden: int = 128, embed: int | None = None):
        in_size, out_size, hidden = _sizes(in_size=in_size, out_size=out_size, hidden=hidden)
        keys = jax.random.split(_check.key("key", key), 3)
        size = in_size if embed is None else _check.integer("embed", embed)
        self.embedding = None if embed is None else jax.random.normal(keys[0], (in_size, size))
        self.cell = eqx.nn.GRUCell(size, hidden, key=keys[1])
        self.head = eqx.nn.Linear(hidden, out_size, key=keys[2])

    def start(self, length: int | None = None) -> Float[Array, " hidden"]:
        """h_0; ``length`` is of no consequence, a recurrent network has no limit."""
        if length is not None:
            _check.integer("length", length)
        return jnp.zeros(self.cell.hidden_size)

    def _inputs(self, name, xs, ndim):
        if self.embedding is None:
            return jnp.asarray(_check.array(name, xs, shape=(None,) * ndim + (self.cell.input_size,)))
        return look_up(self.embedding, check_ids(name, xs, len(self.embedding), ndim=ndim))

    def _state(self, state):
        return _check.array("state", state, shape=(self.cell.hidden_size,))

    def step(
        self, state: Float[Array, " hidden"], x: Int[Array, ""] | Float[Array, " in_size"]
    ) -> tuple[Float[Array, " hidden"], Float[Array, " out_size"]]:
        """``(h_i, y_i)`` from h_{i-1} and x_i."""
        state = self.cell(self._inputs("x", x, 0), self._state(state))
        return state, self.head(state)

    def run(
        self, state: Float[Array, " hidden"], xs: Int[Array, " n"] | Float[Array, "n in_size"]
    ) -> tuple[Float[Array, " hidden"], Float[Array, "n out_size"]]:
        """``(h_n, y)`` after n steps: to go on with a long text where the last piece of it ended."""

        def advance(h, x):
            h = self.cell(x, h)
            return h, h

        state, states = jax.lax.scan(advance, self._state(state), self._inputs("xs", xs, 1))
        return state, jax.vmap(self.head)(states)

    def __call__(self, xs: Int[Array, " n"] | Float[Array, "n in_size"]) -> Float[Array, "n out_size"]:
        """Outputs at all positions of one sequence."""
        return self.run(self.start(), xs)[1]


class Cache(NamedTuple):
    """What a transformer remembers of the positions so far: their keys and values in each layer."""

    keys: Float[Array, "layers length heads size"]
    values: Float[Array, "layers length heads size"]
    count: Int[Array, ""]  #: positions so far


def _rms_norm(h: Float[Array, "n width"]) -> Float[Array, "n width"]:
    # Without a gain: a linear map follows everywhere and holds it already.
    return h * jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 1e-6)


class _Block(eqx.Module):
    """Attention, then a perceptron if there is one, each added to its input and each seeing it normalized."""

    qkv: eqx.nn.Linear
    out: eqx.nn.Linear
    mlp: MLP | None
    distance: Float[Array, "heads length"] | None
    heads: int = eqx.field(static=True)

    def __call__(self, h, keys, values, first):
        """Rows ``h`` at positions ``first``, ``first + 1`` …; ``keys`` and ``values`` hold what came before."""
        rows, width = h.shape
        q, k, v = jax.vmap(self.qkv)(_rms_norm(h)).reshape(rows, 3, self.heads, -1).swapaxes(0, 1)
        keys = jax.lax.dynamic_update_slice_in_dim(keys, k, first, axis=0)
        values = jax.lax.dynamic_update_slice_in_dim(values, v, first, axis=0)
        back = first + jnp.arange(rows)[:, None] - jnp.arange(len(keys))  # i - j
        scores = jnp.einsum("ihd,jhd->hij", q, keys) / math.sqrt(q.shape[-1])
        if self.distance is not None:
            scores += self.distance[:, jnp.maximum(back, 0)]
        weights = jax.nn.softmax(jnp.where(back >= 0, scores, -jnp.inf))
        h = h + jax.vmap(self.out)(jnp.einsum("hij,jhd->ihd", weights, values).reshape(rows, width))
        if self.mlp is not None:
            h = h + jax.vmap(self.mlp)(_rms_norm(h))
        return h, keys, values, weights


class Transformer(eqx.Module):
    """Causal transformer (Vaswani et al., 2017) from one sequence of ids to the logits of the id that follows each.

    In each of ``layers`` blocks and each of ``heads`` heads of size d = ``width / heads``, position i attends to
    j ≤ i with weights A_ij = softmax_j(q_i · k_j / √d + r_{i-j}) and takes up Σ_j A_ij v_j. Positions are learned:
    with ``position="absolute"`` as a vector added to each embedding (and r = 0), with ``"relative"`` as one number
    r_{i-j} a head, layer and distance (Shaw et al., 2018; Raffel et al., 2020). ``mlp=False`` leaves attention alone
    (Elhage et al., 2021). Each part sees its input divided by the root mean square (Xiong et al., 2020;
    Zhang and Sennrich, 2019).
    """

    embedding: Float[Array, "vocabulary width"]
    positions: Float[Array, "length width"] | None
    blocks: tuple[_Block, ...]
    head: eqx.nn.Linear
    length: int = eqx.field(static=True)

    def __init__(
        self,
        vocabulary_size: int,
        length: int,
        *,
        key: PRNGKeyArray,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        mlp: bool = True,
        position: str = "absolute",
    ):
        size, self.length, width, heads, layers = _sizes(
            vocabulary_size=vocabulary_size, length=length, width=width, heads=heads, layers=layers
        )
        if width % heads:
            raise ValueError(f"width must be a multiple of heads = {heads}, got {width}")
        if not isinstance(mlp, bool):
            raise TypeError(f"mlp must be True or False, got {mlp!r:.60}")
        absolute = _check.choice("position", position, ("absolute", "relative")) == "absolute"
        token_key, position_key, head_key, *keys = jax.random.split(_check.key("key", key), 3 + 3 * layers)
        self.embedding = 0.5 * jax.random.normal(token_key, (size, width))
        self.positions = 0.1 * jax.random.normal(position_key, (length, width)) if absolute else None
        self.blocks = tuple(
            _Block(
                eqx.nn.Linear(width, 3 * width, use_bias=False, key=keys[3 * i]),
                eqx.nn.Linear(width, width, use_bias=False, key=keys[3 * i + 1]),
                MLP((width, 4 * width, width), key=keys[3 * i + 2]) if mlp else None,
                None if absolute else jnp.zeros((heads, length)),
                heads,
            )
            for i in range(layers)
        )
        self.head = eqx.nn.Linear(width, size, key=head_key)

    def start(self, length: int | None = None) -> Cache:
        """Empty cache with room for ``length`` positions, by default as many as the network knows."""
        length = self.length if length is None else _check.integer("length", length)
        if length > self.length:
            raise ValueError(f"length must be at most {self.length}, the positions of the network, got {length}")
        heads = self.blocks[0].heads
        empty = jnp.zeros((len(self.blocks), length, heads, self.embedding.shape[1] // heads))
        return Cache(empty, empty, jnp.int32(0))

    def _advance(self, cache, ids):
        """Take up one or more ids: the same code for a whole sequence and for one step of it."""
        h = look_up(self.embedding, ids)
        if self.positions is not None:
            h += jax.lax.dynamic_slice_in_dim(self.positions, cache.count, len(ids))
        h = jnp.where(cache.count + len(ids) <= cache.keys.shape[1], h, jnp.nan)
        keys, values, weights = [], [], []
        for i, block in enumerate(self.blocks):
            h, *rest = block(h, cache.keys[i], cache.values[i], cache.count)
            for part, new in zip((keys, values, weights), rest):
                part.append(new)
        cache = Cache(jnp.stack(keys), jnp.stack(values), cache.count + len(ids))
        return cache, jax.vmap(self.head)(_rms_norm(h)), jnp.stack(weights)

    def step(self, cache: Cache, x: Int[Array, ""]) -> tuple[Cache, Float[Array, " vocabulary"]]:
        """``(cache, logits)`` after one id more, at the cost of one row; NaN logits beyond the cache's length."""
        if not isinstance(cache, Cache):
            raise TypeError(f"cache must be what start or step returned, got {type(cache).__name__}")
        cache, logits, _ = self._advance(cache, check_ids("x", x, len(self.embedding), ndim=0)[None])
        return cache, logits[0]

    def _whole(self, ids):
        ids = check_ids("ids", ids, len(self.embedding))
        if len(ids) > self.length:
            raise ValueError(f"ids must be at most {self.length}, the positions of the network, got {len(ids)}")
        return self._advance(self.start(len(ids)), ids)

    def __call__(self, ids: Int[Array, " n"]) -> Float[Array, "n vocabulary"]:
        """Logits at all positions of one sequence."""
        return self._whole(ids)[1]

    def attention(self, ids: Int[Array, " n"]) -> Float[Array, "layers heads n n"]:
        """Weights A, entry [layer, head, i, j]: how much position i takes up from j; each row sums to 1."""
        return self._whole(ids)[2]
