"""The 8×8 digits against scikit-learn's copy and the counts published with the set."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from genai_course.data import digits


def test_images_are_those_of_scikit_learn():
    data, bunch = digits.load(), load_digits()
    assert data.images.dtype == np.float32
    assert data.images.min() == 0
    assert data.images.max() == 1
    np.testing.assert_array_equal(data.images * 16, bunch.images)
    np.testing.assert_array_equal(data.labels, bunch.target)
    published = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # class distribution in UCI's optdigits.names
    np.testing.assert_array_equal(np.bincount(data.labels), published)


def test_split_is_fixed_stratified_and_disjoint():
    data, again = digits.load(), digits.load()
    np.testing.assert_array_equal(np.sort(np.concatenate([data.train, data.test])), np.arange(1797))
    np.testing.assert_array_equal(np.bincount(data.labels[data.test]), np.bincount(data.labels) // 5)
    np.testing.assert_array_equal(data.test, again.test)
    zeros = np.flatnonzero(data.labels == 0)
    np.testing.assert_array_equal(zeros[np.isin(zeros, data.test)], zeros[4::5])
    images = {image.tobytes() for image in data.images[data.train]}
    assert not images & {image.tobytes() for image in data.images[data.test]}


def test_the_rest_can_be_told_from_the_training_part():
    data = digits.load()
    flat = data.images.reshape(len(data.images), -1)
    model = KNeighborsClassifier(3).fit(flat[data.train], data.labels[data.train])
    assert model.score(flat[data.test], data.labels[data.test]) > 0.95
