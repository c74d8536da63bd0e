"""Is it any good: divergences, distances, tests and scores, each with what a perfect model would get.

gaussian   closed forms: KL, Wasserstein, total variation, Jensen–Shannon; the bias of the Fréchet distance
samples    two sets of samples: Fréchet, Wasserstein, MMD with its permutation test, KID
fidelity   are samples real, varied, copies: precision and recall, classifier test, nearest training point
scores     bits per dimension and character, perplexity, calibration, mean and standard error

No metric is 0 or 1 for a perfect model by itself: the "Null" of each docstring says what it gives, in law, when both
samples come from one distribution. Read a result against that.
"""

from genai_course.metrics.fidelity import (
    ClassifierTest,
    NearestTrain,
    PrecisionRecall,
    classifier_two_sample_test,
    nearest_train_distance,
    precision_recall,
)
from genai_course.metrics.gaussian import (
    frechet_bias,
    jensen_shannon_unit_gaussians,
    kl_diagonal_to_standard,
    kl_gaussians,
    sqrt_psd,
    total_variation_unit_gaussians,
    wasserstein2_gaussians,
)
from genai_course.metrics.samples import (
    PermutationTest,
    frechet_distance,
    kid,
    median_bandwidth,
    mmd,
    mmd_permutation_test,
    sliced_wasserstein,
    wasserstein_1d,
)
from genai_course.metrics.scores import (
    Calibration,
    MeanSE,
    bits_per_character,
    bits_per_dimension,
    calibration,
    mean_se,
    perplexity,
)

__all__ = [
    "Calibration",
    "ClassifierTest",
    "MeanSE",
    "NearestTrain",
    "PermutationTest",
    "PrecisionRecall",
    "bits_per_character",
    "bits_per_dimension",
    "calibration",
    "classifier_two_sample_test",
    "frechet_bias",
    "frechet_distance",
    "jensen_shannon_unit_gaussians",
    "kid",
    "kl_diagonal_to_standard",
    "kl_gaussians",
    "mean_se",
    "median_bandwidth",
    "mmd",
    "mmd_permutation_test",
    "nearest_train_distance",
    "perplexity",
    "precision_recall",
    "sliced_wasserstein",
    "sqrt_psd",
    "total_variation_unit_gaussians",
    "wasserstein2_gaussians",
    "wasserstein_1d",
]
