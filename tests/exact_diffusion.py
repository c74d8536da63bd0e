"""Diffusion models with exact networks, in closed form from the data, so that every law has something to meet."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from genai_course.data import toys
from genai_course.models.diffusion import PATHS, Diffusion


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


class Exact(eqx.Module):
    """E[x | x_t], eps or v for data from a Gaussian mixture: the network that training can only approach.

    Given x_t and component k, x is Gaussian: E[x | x_t, k] = m_k + a s_k² (x_t - a m_k) / (a² s_k² + b²).
    """

    data: toys.Mixture
    path: str = eqx.field(static=True)
    predict: str = eqx.field(static=True)

    def noisy(self, t) -> toys.Mixture:
        """The density of x_t: again a mixture."""
        a, b = PATHS[self.path](t)
        return toys.Mixture(a * self.data.means, jnp.sqrt(a**2 * self.data.scales**2 + b**2), self.data.weights)

    def __call__(self, x_t, t, label):
        a, b = PATHS[self.path](t)
        now, (means, var) = self.noisy(t), (self.data.means, self.data.scales[:, None] ** 2)
        given_k = means + a * var * (x_t - a * means) / now.scales[:, None] ** 2
        x = now.responsibilities(x_t) @ given_k
        if self.predict == "x":
            return x
        eps = (x_t - a * x) / b
        if self.predict == "eps":
            return eps
        a_slope, b_slope = jax.jacfwd(PATHS[self.path])(t)
        return a_slope * x + b_slope * eps


MIXTURE = toys.mixture([[1.5, 0.0], [-1.0, 1.0]], [0.3, 0.5], [0.6, 0.4])
MEAN = np.array([0.6 * 1.5 - 0.4, 0.4])
COV = (
    0.6 * (0.09 * np.eye(2) + np.outer([1.5, 0], [1.5, 0]))
    + 0.4 * (0.25 * np.eye(2) + np.outer([-1, 1], [-1, 1]))
    - np.outer(MEAN, MEAN)
)


def exact(path="linear", predict="x", data=MIXTURE, **options) -> Diffusion:
    return Diffusion(Exact(data, path, predict), data.means.shape[1:], path=path, predict=predict, **options)


@eqx.filter_jit
def compiled(method, *arguments):
    return method(*arguments)


class TwoGaussians(eqx.Module):
    """E[x | x_t] for N(0, 1) with the label and N(0, 2) without it."""

    path: str = eqx.field(static=True)

    def __call__(self, x_t, t, label):
        a, b = PATHS[self.path](t)
        var = jnp.where(label < 0, 2.0, 1.0)
        return a * var / (a**2 * var + b**2) * x_t


def guided(path: str) -> Diffusion:
    return Diffusion(TwoGaussians(path), (1,), path=path, predict="x")
