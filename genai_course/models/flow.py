"""Normalizing flows: RealNVP (Dinh et al., 2017) and the masked autoregressive flow (Papamakarios et al., 2017).

A flow is an invertible map x = T(z) of a standard normal z, so its density is exact. All in nats.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from genai_course import _check
from genai_course.nets import MLP

Moved = tuple[Float[Array, " size"], Float[Array, ""]]  # a point and the log-determinant of what moved it

_LIMIT = 2.0  # one layer multiplies or divides no coordinate by more than exp(2)


def _log_scale(a: Float[Array, " size"]) -> Float[Array, " size"]:
    """``a``, bent so that it stays within ±2: the exponential cannot overflow, and a bad step can be undone."""
    return _LIMIT * jnp.tanh(a / _LIMIT)


class Flow(eqx.Module):
    """A stack of invertible layers: x = T(z) = layers[-1](… layers[0](z)) with z ~ N(0, I).

    log p(x) = log N(T⁻¹(x); 0, I) + log |det ∂T⁻¹(x)/∂x|. A layer has ``forward(z)`` and ``inverse(x)``, each of which
    returns the moved point and the log-determinant of its own Jacobian, with both signs opposite at the same point.
    """

    layers: tuple[eqx.Module, ...]
    size: int = eqx.field(static=True)

    def forward(self, z: Float[Array, " size"]) -> Moved:
        """``(x, log |det ∂x/∂z|)`` of the generating direction, x = T(z)."""
        point, log_det = _check.array("z", z, shape=(self.size,)), jnp.zeros(())
        for layer in self.layers:
            point, change = layer.forward(point)
            log_det += change
        return point, log_det

    def inverse(self, x: Float[Array, " size"]) -> Moved:
        """``(z, log |det ∂z/∂x|)`` of the normalizing direction, z = T⁻¹(x)."""
        point, log_det = _check.array("x", x, shape=(self.size,)), jnp.zeros(())
        for layer in reversed(self.layers):
            point, change = layer.inverse(point)
            log_det += change
        return point, log_det

    def log_prob(self, x: Float[Array, " size"]) -> Float[Array, ""]:
        """Log p(x), exact."""
        z, log_det = self.inverse(x)
        return log_det - 0.5 * (jnp.sum(z**2) + self.size * math.log(2 * math.pi))

    def loss(self, x: Float[Array, " size"], key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        """−log p(x). Nothing is random, so the key, which every family takes, is not used."""
        return -self.log_prob(x)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " size"]:
        """One draw x = T(z) with z ~ N(0, I)."""
        return self.forward(jax.random.normal(_check.key("key", key), (self.size,)))[0]


class Scaling(eqx.Module):
    """x = exp(log_scale) ⊙ z + shift, both learned: in the place of the batch normalization of the papers."""

    log_scale: Float[Array, " size"]
    shift: Float[Array, " size"]

    def __init__(self, size: int):
        self.log_scale = self.shift = jnp.zeros(size)

    def forward(self, z: Float[Array, " size"]) -> Moved:
        """``(x, Σ log_scale)``."""
        return jnp.exp(self.log_scale) * z + self.shift, jnp.sum(self.log_scale)

    def inverse(self, x: Float[Array, " size"]) -> Moved:
        """``(z, −Σ log_scale)``."""
        return (x - self.shift) * jnp.exp(-self.log_scale), -jnp.sum(self.log_scale)


class Coupling(eqx.Module):
    """Affine coupling: coordinates with ``keep`` stay, and they alone decide how the others are scaled and shifted.

    x = z where ``keep``, and z ⊙ exp(s) + t elsewhere, with (a, t) = net(z where ``keep``, else 0) and s = 2 tanh(a/2).
    The Jacobian is triangular, log |det ∂x/∂z| = Σ s, and the inverse needs no inverse of the network.
    """

    net: MLP
    keep: Bool[Array, " size"]

    def _parameters(self, kept):
        """Log-scale and shift, both 0 where ``keep``; only coordinates with ``keep`` are read, the same in z and x."""
        a, t = jnp.split(self.net(jnp.where(self.keep, kept, 0.0)), 2)
        return jnp.where(self.keep, 0.0, _log_scale(a)), jnp.where(self.keep, 0.0, t)

    def forward(self, z: Float[Array, " size"]) -> Moved:
        """``(x, Σ s)``."""
        s, t = self._parameters(z)
        return z * jnp.exp(s) + t, jnp.sum(s)

    def inverse(self, x: Float[Array, " size"]) -> Moved:
        """``(z, −Σ s)``."""
        s, t = self._parameters(x)
        return (x - t) * jnp.exp(-s), -jnp.sum(s)


def _starting_small(net: eqx.Module) -> eqx.Module:
    """The network with its last layer scaled down, so that the flow starts close to the identity."""
    return eqx.tree_at(lambda n: n.layers[-1], net, jax.tree.map(lambda w: 0.01 * w, net.layers[-1]))


class RealNVP(Flow):
    """Couplings in pairs: a random half of the coordinates keeps still, then the other half.

    Each has an MLP of ``depth`` hidden layers of ``width`` units. Density and sample cost one pass each.
    Raises ``ValueError`` for a ``size`` of 1: a coupling needs a coordinate to keep and one to move.
    """

    def __init__(self, size: int, *, key: PRNGKeyArray, layers: int = 8, width: int = 64, depth: int = 2):
        self.size = _check.integer("size", size, least=2)
        width, depth = _check.integer("width", width), _check.integer("depth", depth)
        sizes = (size, *[width] * depth, 2 * size)
        stack = []
        for i, layer_key in enumerate(jax.random.split(_check.key("key", key), _check.integer("layers", layers))):
            net_key, keep_key = jax.random.split(layer_key)
            half = jnp.arange(size) < size // 2
            keep = ~keep if i % 2 else jax.random.permutation(keep_key, half)
            net = _starting_small(MLP(sizes, key=net_key, activation=jax.nn.silu))
            stack += [Coupling(net, keep), Scaling(size)]
        self.layers = tuple(stack)


class MaskedMLP(eqx.Module):
    """MLP from ``size`` numbers to ``size`` pairs; pair i sees only the inputs before i (Germain et al., 2015).

    Unit k of a layer has a degree m_k: i for input i and for both outputs of pair i, 1 … size−1 in turn for hidden
    units. A weight from k to k′ is kept if m_k′ ≥ m_k, into an output only if m_k′ > m_k.
    """

    layers: tuple[eqx.nn.Linear, ...]
    size: int = eqx.field(static=True)

    def __init__(self, size: int, width: int, depth: int, *, key: PRNGKeyArray):
        self.size = size
        sizes = (size, *[width] * depth, 2 * size)
        keys = jax.random.split(key, depth + 1)
        self.layers = tuple(eqx.nn.Linear(m, n, key=k) for m, n, k in zip(sizes[:-1], sizes[1:], keys))

    def __call__(self, x: Float[Array, " size"]) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """The two halves of the output."""
        h, degree = x, jnp.arange(1, self.size + 1)
        for layer in self.layers[:-1]:
            next_degree = jnp.arange(layer.out_features) % max(self.size - 1, 1) + 1
            weight = jnp.where(next_degree[:, None] >= degree, layer.weight, 0.0)
            h, degree = jax.nn.silu(weight @ h + layer.bias), next_degree
        last, out_degree = self.layers[-1], jnp.tile(jnp.arange(1, self.size + 1), 2)
        first, second = jnp.split(jnp.where(out_degree[:, None] > degree, last.weight, 0.0) @ h + last.bias, 2)
        return first, second


class Autoregressive(eqx.Module):
    """A Gaussian conditional for each coordinate: x_i = z_i exp(α_i) + μ_i, so p(x_i | x_<i) = N(μ_i, exp(2 α_i)).

    μ_i and α_i depend on the coordinates before i, through one masked network; α is bent to stay within ±2, which the
    paper does not do. With ``backwards`` the coordinates count from the last. The inverse is one pass of the network;
    the forward direction needs one a coordinate, since x_i waits for all before it.
    """

    net: MaskedMLP
    backwards: bool = eqx.field(static=True)

    def _turned(self, point):
        return point[::-1] if self.backwards else point

    def inverse(self, x: Float[Array, " size"]) -> Moved:
        """``(z, −Σ α)``, all coordinates at once."""
        x = self._turned(x)
        mu, a = self.net(x)
        alpha = _log_scale(a)
        return self._turned((x - mu) * jnp.exp(-alpha)), -jnp.sum(alpha)

    def forward(self, z: Float[Array, " size"]) -> Moved:
        """``(x, Σ α)``, coordinate after coordinate."""
        z = self._turned(z)

        def pass_(_, x):  # makes one more coordinate right: its μ and α depend on those that already are
            mu, a = self.net(x)
            return z * jnp.exp(_log_scale(a)) + mu

        x = jax.lax.fori_loop(0, len(z), pass_, jnp.zeros_like(z))
        return self._turned(x), jnp.sum(_log_scale(self.net(x)[1]))


class MAF(Flow):
    """Masked autoregressive flow: Gaussian autoregressive layers, every second one with the coordinates turned round.

    Each has a masked MLP of ``depth`` hidden layers of ``width`` units. The density costs one pass, a sample ``size``.
    """

    def __init__(self, size: int, *, key: PRNGKeyArray, layers: int = 5, width: int = 128, depth: int = 2):
        self.size = _check.integer("size", size)
        width, depth = _check.integer("width", width), _check.integer("depth", depth)
        stack = []
        for i, layer_key in enumerate(jax.random.split(_check.key("key", key), _check.integer("layers", layers))):
            net = _starting_small(MaskedMLP(size, width, depth, key=layer_key))
            stack += [Autoregressive(net, backwards=i % 2 == 1), Scaling(size)]
        self.layers = tuple(stack)
