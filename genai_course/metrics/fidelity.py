"""Are the samples real, are they varied, are they copies: tests with nearest neighbors and classifiers.

Samples are the rows of arrays of shapes (n, d) and (m, d), NumPy or JAX; the arithmetic is NumPy in float64.
Neighbors are Euclidean and found by scikit-learn, which goes through the pairs in blocks.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Key, Real
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from genai_course import _check
from genai_course.data import rng_from_key
from genai_course.metrics._inputs import AnyArray, pair


class PrecisionRecall(NamedTuple):
    """Precision and recall, each with the value that a perfect model is expected to get."""

    precision: float
    recall: float
    precision_null: float
    recall_null: float


def _share_covered(points: np.ndarray, balls: tuple[np.ndarray, np.ndarray], own: bool = False) -> float:
    """Share of the points that lie in a ball; if the balls are the points' ``own``, in the ball of another point."""
    centers, radii = balls
    covered = 0
    for start in range(0, len(points), 1024):
        inside = euclidean_distances(points[start : start + 1024], centers) <= radii * (1 + 1e-9)  # rounding of ties
        if own:
            np.fill_diagonal(inside[:, start:], False)
        covered += np.sum(np.any(inside, axis=1))
    return float(covered / len(points))


def precision_recall(real: Real[AnyArray, "n d"], fake: Real[AnyArray, "m d"], k: int = 3) -> PrecisionRecall:
    """Precision: share of fakes inside the real support; recall: share of reals inside the support of the fakes.

    The support of a set is taken to be the union of the balls around its points that reach to the k-th neighbor:
    precision = (1/m) Σⱼ [∃i: |fakeⱼ − realᵢ| ≤ r_k(realᵢ)], and recall with the roles exchanged.

    Null: not 1. A fresh point lies in a ball exactly if it becomes one of the k nearest neighbors of some point, so the
    mean is the share of points with an arrow towards them in the k-neighbor graph of n+1 points (¾ on the line with
    k = 1). The record gives that share for ``real`` and for ``fake``, with n and m points. Disjoint supports give 0 and
    0; a fake that knows half of the modes keeps its precision and halves its recall. Compare at equal n and m only.
    Raises ValueError for unequal widths, NaN, infinity or a set with k rows or fewer.
    Source: Kynkäänniemi et al. (2019); the null by exchangeability.
    """
    k = _check.integer("k", k)
    real, fake = pair(real, fake, ("real", "fake"), least=k + 1)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute")
    real_balls, fake_balls = ((points, search.fit(points).kneighbors()[0][:, -1]) for points in (real, fake))
    return PrecisionRecall(
        precision=_share_covered(fake, real_balls),
        recall=_share_covered(real, fake_balls),
        precision_null=_share_covered(real, real_balls, own=True),
        recall_null=_share_covered(fake, fake_balls, own=True),
    )


class ClassifierTest(NamedTuple):
    """Held-out accuracy, its distance from ½ in standard errors of the null, and the one-sided p-value."""

    accuracy: float
    z: float
    p_value: float
    n_test: int


def _classifier(name: str, n_train: int, seed: int):
    if name == "knn":
        return KNeighborsClassifier(math.isqrt(n_train) | 1, algorithm="brute")  # odd: no ties
    if name == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    return make_pipeline(
        StandardScaler(), MLPClassifier((20,), learning_rate_init=0.01, max_iter=50, random_state=seed)
    )


def classifier_two_sample_test(
    key: Key[Array, ""], x: Real[AnyArray, "n d"], y: Real[AnyArray, "m d"], classifier: str = "knn"
) -> ClassifierTest:
    """Test of "x and y have one distribution": can a classifier tell them apart on points it has not seen?

    A random half of each set trains the classifier (the larger set is cut to the size of the smaller one); the accuracy
    on the other half, of n_test points, gives z = (accuracy − ½) / √(1/(4 n_test)) and p = 1 − Φ(z).
    ``classifier``: "knn" (the √n_train nearest, made odd), "logistic", or "mlp" (one layer of 20 units).
    Null: N(½, 1/(4 n_test)) for large n_test; with as many test points of each set the variance is at most that, so p
    is safe. Upper limit: ½ + TV/2 with the total variation of the two distributions.
    Raises ValueError for fewer than 4 rows, unequal widths, NaN, infinity or another word for ``classifier``.
    Source: Lopez-Paz & Oquab (2017).
    """
    _check.key("key", key)
    x, y = pair(x, y, least=4)
    _check.choice("classifier", classifier, ("knn", "logistic", "mlp"))
    rng = rng_from_key(key)
    size = min(len(x), len(y)) // 2 * 2
    x, y = rng.permutation(x)[:size], rng.permutation(y)[:size]
    train, test = np.concatenate([x[::2], y[::2]]), np.concatenate([x[1::2], y[1::2]])
    labels = np.repeat([0, 1], size // 2)
    model = _classifier(classifier, size, int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the null holds for any classifier, converged or not
        model.fit(train, labels)
    accuracy = float(np.mean(model.predict(test) == labels))
    z = (accuracy - 0.5) * 2 * math.sqrt(size)
    return ClassifierTest(accuracy, z, float(stats.norm.sf(z)), size)


class NearestTrain(NamedTuple):
    """Nearest training point of every sample, the same for held-out data, and the test that compares the two.

    distance and index: distance of each sample to its nearest training point, and the row of that point.
    reference: distance of each held-out point to its nearest training point.
    closer: probability that a sample is closer to the training set than a held-out point, ties counted half.
    p_value: of the one-sided Mann–Whitney test that samples are no closer.
    """

    distance: np.ndarray
    index: np.ndarray
    reference: np.ndarray
    closer: float
    p_value: float


def nearest_train_distance(
    samples: Real[AnyArray, "n d"], train: Real[AnyArray, "t d"], held_out: Real[AnyArray, "m d"]
) -> NearestTrain:
    """Distance of each sample to the training set, against the same for data that the model has never seen.

    distanceⱼ = minᵢ |sampleⱼ − trainᵢ|; closer = P(distance < reference) + ½ P(distance = reference).

    A distance alone says nothing; copies show as ``closer`` near 1, and samples far from all data as ``closer`` near 0.
    Null: for independent samples of the data distribution ``closer`` has mean ½ and variance (n+m+1)/(12nm) (no
    ties), and p is uniform for large n and m.
    Raises ValueError for an empty set, unequal widths, NaN or infinity.
    Source: Meehan et al. (2020).
    """
    samples, train = pair(samples, train, ("samples", "train"), least=1)
    _, held_out = pair(train, held_out, ("train", "held_out"), least=1)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    index, other = (search.kneighbors(points, return_distance=False)[:, 0] for points in (samples, held_out))
    distance = np.linalg.norm(samples - train[index], axis=1)  # anew: the search rounds, and a copy must get 0 exactly
    reference = np.linalg.norm(held_out - train[other], axis=1)
    test = stats.mannwhitneyu(reference, distance, alternative="greater")
    closer = test.statistic / (len(distance) * len(reference))
    return NearestTrain(distance, index, reference, float(closer), float(test.pvalue))
