"""Settings for all tests: no windows, no figures left open, and the same generated examples at every run."""

import hypothesis
import matplotlib
import matplotlib.pyplot as plt
import pytest

matplotlib.use("Agg")

hypothesis.settings.register_profile("course", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("course")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")
