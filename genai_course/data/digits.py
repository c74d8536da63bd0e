"""Handwritten digits of 8×8 pixels: the smallest real pictures, for a first model and for tests.

Data card
    Origin: the test part of the Optical Recognition of Handwritten Digits set (Alpaydin & Kaynak 1998, UCI Machine
    Learning Repository, doi:10.24432/C50P49), as scikit-learn installs it. License: CC BY 4.0. Size: 1,797 images by 13
    writers, 174 to 183 of each digit.
    Splits: within each digit every fifth image in file order is for testing (355), the rest for training (1,442). It is
    not recorded who wrote what, so the same hands are in both: how a model fares with a new writer stays unknown.
    Known exactly: the label; and that every pixel is a count, 0 to 16, of the dark dots in a 4×4 block, divided by 16.
    So there are 17 levels: add uniform noise of width 1/16 before you quote a density model in bits per dimension.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from sklearn.datasets import load_digits


class Digits(NamedTuple):
    """Images in [0, 1] (1 is ink), the digit that each shows, and which of them are to train and to test on."""

    images: Float32[np.ndarray, "n 8 8"]
    labels: Int64[np.ndarray, " n"]
    train: Int64[np.ndarray, " n_train"]  # positions in images and labels
    test: Int64[np.ndarray, " n_test"]


def load() -> Digits:
    """Return the 1,797 digits with their fixed split; ``digits.images[digits.train]`` are the images to train on."""
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    earlier = np.sum(np.tril(labels[:, None] == labels, -1), axis=1)  # images of the same digit before this one
    held_out = earlier % 5 == 4
    return Digits((bunch.images / 16).astype(np.float32), labels, np.flatnonzero(~held_out), np.flatnonzero(held_out))
