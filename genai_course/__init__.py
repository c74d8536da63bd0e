"""Helper package of the course: what the notebooks share, and nothing else.

data      what there is to learn from; every source knows its own truth
nets      networks for one example; ``jax.vmap`` makes the batch
models    one family of generative models a file, all with the same verbs
train     ``fit``, the one training loop
metrics   is it any good: divergences and tests, each with its null
plot      the book's figures and palette

A model is an Equinox module: a dataclass and a pytree. Randomness is an explicit key, and every function
that draws something takes it as its first argument or by name. A chapter never imports what it teaches: it
builds the thing in its own cells and then checks that the version in here gives the same number.
"""

__version__ = "0.1.0"
