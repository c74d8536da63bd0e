"""Patches of two photographs: what natural images look like close up.

Data card
    Origin: the sample images of scikit-learn, ``china.jpg``, a Chinese temple roof, by danielbuechele
    (https://www.flickr.com/photos/danielbuechele/6061409035/) and ``flower.jpg``, a dahlia, by vultilion
    (https://www.flickr.com/photos/vultilion/6056698931/). License: CC BY 2.0; give both credit where you show a patch.
    Changed here to gray. Size: 2 photographs of 427×640 pixels, 30,000 overlapping 28×28 patches at a stride of 4 but
    only 660 that do not overlap: enough for patch statistics, denoising and inpainting, not for a model of photographs.
    Splits: the left three quarters of both photographs are for training, the right quarter is for testing; no pixel is
    in both. The right quarters show trees, water and sky, and a blurred background, but of the same two photographs,
    so this does not measure how a model fares with new pictures.
    Known exactly: nothing.
"""

import functools

import jax
import numpy as np
from jaxtyping import Float32
from sklearn.datasets import load_sample_images

from genai_course import _check
from genai_course.data import rng_from_key

_REGIONS = {"train": slice(0, 480), "test": slice(480, 640)}  # columns of the photographs
_LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue, ITU-R BT.601


@functools.cache
def load() -> Float32[np.ndarray, "2 427 640"]:
    """Return both photographs in gray, from 0 (black) to 1 (white); read-only, copy to change."""
    gray = (np.stack(load_sample_images().images) @ np.array(_LUMA) / 255).astype(np.float32)
    gray.flags.writeable = False
    return gray


def patches(key: jax.Array, n: int, size: int = 8, split: str = "train") -> Float32[np.ndarray, "{n} {size} {size}"]:
    """Draw ``n`` square patches, ``size`` pixels wide, from uniformly random places in the ``split``'s region.

    ``split`` is ``"train"`` or ``"test"``. Raises ``ValueError`` for a ``size`` that does not fit into the region.
    """
    n, size, rng = _check.integer("n", n, least=0), _check.integer("size", size), rng_from_key(key)
    region = load()[:, :, _REGIONS[_check.choice("split", split, _REGIONS)]]
    if size > (most := min(region.shape[1:])):
        raise ValueError(f"size must be at most {most} to fit into the {split} region, got {size}")
    windows = np.lib.stride_tricks.sliding_window_view(region, (size, size), axis=(1, 2))
    return windows[tuple(rng.integers(windows.shape[:3], size=(n, 3)).T)]
