"""Photo patches against Pillow's gray conversion and the places they must come from."""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images

from genai_course.data import photos


@pytest.fixture
def columns(monkeypatch):
    """Photographs whose gray value is the column, so that a patch tells where it was taken."""
    maps = np.broadcast_to(np.arange(640, dtype=np.float32) / 640, (2, 427, 640))
    monkeypatch.setattr(photos, "load", lambda: maps)


def test_photographs_are_gray_and_between_0_and_1():
    gray = photos.load()
    assert gray.dtype == np.float32
    assert (gray.min(), gray.max()) == (0, 1)
    for ours, rgb in zip(gray, load_sample_images().images):
        np.testing.assert_allclose(ours, np.asarray(Image.fromarray(rgb).convert("L")) / 255, atol=1.01 / 255)
    with pytest.raises(ValueError, match="read-only"):
        gray[0, 0, 0] = 0


@pytest.mark.parametrize(("size", "split"), [(1, "train"), (8, "train"), (28, "test"), (160, "test")])
def test_patches_are_cut_out_of_the_photographs(size, split):
    found = photos.patches(jax.random.key(0), 5, size, split)
    assert found.shape == (5, size, size)
    assert found.dtype == np.float32
    windows = np.lib.stride_tricks.sliding_window_view(photos.load(), (size, size), axis=(1, 2))
    for patch in found:
        same = windows[..., 0, 0] == patch[0, 0]
        assert any(np.array_equal(window, patch) for window in windows[same])


@pytest.mark.usefixtures("columns")
@pytest.mark.parametrize(("split", "first", "last"), [("train", 0, 479), ("test", 480, 639)])
def test_regions_are_disjoint_and_patches_uniform_in_them(split, first, last):
    seen = photos.patches(jax.random.key(1), 20_000, 11, split) * 640
    assert seen.min() == first
    assert seen.max() == last
    left = np.bincount(seen[:, 0, 0].astype(int) - first, minlength=last - first - 9)
    assert len(left) == last - first - 9
    assert stats.chisquare(left).pvalue > 1e-3


def test_patches_repeat_with_their_key_and_are_the_callers_own():
    first, again, other = (photos.patches(jax.random.key(seed), 10) for seed in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    first[:] = -1
    assert photos.load().min() == 0
    assert photos.patches(jax.random.key(2), 0).shape == (0, 8, 8)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="size must be at most 160"):
        photos.patches(jax.random.key(0), 1, 161, "test")
    with pytest.raises(ValueError, match="size must be at most 427"):
        photos.patches(jax.random.key(0), 1, 428)
    with pytest.raises(ValueError, match="split must be one of 'train', 'test'"):
        photos.patches(jax.random.key(0), 1, 8, "valid")
