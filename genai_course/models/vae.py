"""Variational autoencoder (Kingma and Welling, 2014; Rezende, Mohamed and Wierstra, 2014).

p(z) = N(0, I); p(x|z) from the decoder; q(z|x) = N(mu(x), diag exp(log_var(x))) from the encoder. All in nats.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from genai_course import _check
from genai_course.metrics import kl_diagonal_to_standard


class VAE(eqx.Module):
    """A VAE with the encoder and decoder that it is given.

    ``encoder`` maps x to 2·latent_size numbers, mu then log_var. ``decoder`` maps z to an array of the shape of x: with
    ``likelihood="bernoulli"`` the logits of p(x=1|z), with ``"gaussian"`` the mean of N(·, exp(log_scale)² I), whose
    one ``log_scale`` is learned. ``beta`` weighs the rate in ``loss`` only (Higgins et al., 2017); 1 is the ELBO.

    For gray values x in [0, 1] the Bernoulli term is the expected log-likelihood of a black-and-white picture drawn
    with probabilities x, so the bound is one on that picture's average log-likelihood.
    """

    encoder: Callable
    decoder: Callable
    log_scale: Float[Array, ""] | None
    latent_size: int = eqx.field(static=True)
    likelihood: str = eqx.field(static=True)
    beta: float = eqx.field(static=True)

    def __init__(
        self,
        encoder: Callable,
        decoder: Callable,
        latent_size: int,
        *,
        likelihood: str = "bernoulli",
        scale: float = 1.0,
        beta: float = 1.0,
    ):
        self.encoder = _check.function("encoder", encoder)
        self.decoder = _check.function("decoder", decoder)
        self.latent_size = _check.integer("latent_size", latent_size)
        self.likelihood = _check.choice("likelihood", likelihood, ("bernoulli", "gaussian"))
        self.beta = _check.number("beta", beta, least=0.0)
        scale = _check.number("scale", scale, above=0.0)
        self.log_scale = jnp.log(jnp.asarray(scale)) if likelihood == "gaussian" else None

    def encode(self, x: Float[Array, "..."]) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """``(mu, log_var)`` of q(z|x)."""
        out = self.encoder(_check.array("x", x))
        if out.shape != (2 * self.latent_size,):
            raise ValueError(f"encoder must return shape ({2 * self.latent_size},), mu then log_var, got {out.shape}")
        return out[: self.latent_size], out[self.latent_size :]

    def log_likelihood(self, x: Float[Array, "*x"], z: Float[Array, " latent"]) -> Float[Array, ""]:
        """Log p(x|z), summed over the elements of x."""
        x, out = _check.array("x", x), self._decoded(z)
        if out.shape != x.shape:
            raise ValueError(f"decoder must return the shape of x, {x.shape}, got {out.shape}")
        if self.likelihood == "bernoulli":  # x log s(out) + (1 - x) log(1 - s(out)), s the logistic function
            return jnp.sum(x * out - jax.nn.softplus(out))
        return jnp.sum(jax.scipy.stats.norm.logpdf(x, out, jnp.exp(self.log_scale)))

    def _decoded(self, z):
        return self.decoder(_check.array("z", z, shape=(self.latent_size,)))

    def terms(self, x: Float[Array, "*x"], key: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """``(distortion, rate)``: −log p(x|z) at one z ~ q(z|x), and KL(q(z|x) ‖ p(z)) in closed form."""
        mu, log_var = self.encode(x)
        z = mu + jnp.exp(log_var / 2) * jax.random.normal(_check.key("key", key), mu.shape)
        return -self.log_likelihood(x, z), kl_diagonal_to_standard(mu, log_var)

    def elbo(self, x: Float[Array, "*x"], key: PRNGKeyArray) -> Float[Array, ""]:
        """Evidence lower bound E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x), with one draw of z."""
        distortion, rate = self.terms(x, key)
        return -distortion - rate

    def loss(self, x: Float[Array, "*x"], key: PRNGKeyArray) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """``distortion + beta · rate`` and its two parts; with beta = 1 this is −ELBO."""
        distortion, rate = self.terms(x, key)
        return distortion + self.beta * rate, {"distortion": distortion, "rate": rate}

    def iwae_bound(self, x: Float[Array, "*x"], key: PRNGKeyArray, k: int) -> Float[Array, ""]:
        """Log (1/k) Σ_i p(x, z_i)/q(z_i|x) with z_i ~ q(z|x), at most log p(x) on average (Burda et al., 2016)."""
        k = _check.integer("k", k)
        mu, log_var = self.encode(x)
        noise = jax.random.normal(_check.key("key", key), (k, self.latent_size))
        z = mu + jnp.exp(log_var / 2) * noise
        log_prior_minus_q = jnp.sum((noise**2 - z**2 + log_var) / 2, axis=-1)
        return logsumexp(jax.vmap(self.log_likelihood, (None, 0))(x, z) + log_prior_minus_q) - jnp.log(k)

    def mean(self, z: Float[Array, " latent"]) -> Float[Array, "..."]:
        """E[x|z]: ink probabilities for Bernoulli, the decoder's output for Gaussian."""
        out = self._decoded(z)
        return jax.nn.sigmoid(out) if self.likelihood == "bernoulli" else out

    def sample_mean(self, key: PRNGKeyArray) -> Float[Array, "..."]:
        """E[x|z] for one z drawn from the prior: what is usually shown as a VAE's sample."""
        return self.mean(jax.random.normal(_check.key("key", key), (self.latent_size,)))

    def sample(self, key: PRNGKeyArray) -> Float[Array, "..."]:
        """One draw x ~ p(x): z from the prior, then x from p(x|z)."""
        z_key, x_key = jax.random.split(_check.key("key", key))
        mean = self.sample_mean(z_key)
        if self.likelihood == "bernoulli":
            return jax.random.bernoulli(x_key, mean).astype(mean.dtype)
        return mean + jnp.exp(self.log_scale) * jax.random.normal(x_key, mean.shape)
