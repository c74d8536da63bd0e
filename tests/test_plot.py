"""Figures: a palette that every reader can tell apart, pictures where they belong, and the curves that are claimed."""

import itertools
import math

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from genai_course import plot

# Palette. All computations are on linear RGB; matrices from the sources named.

SRGB_TO_XYZ = np.array(  # IEC 61966-2-1, white point D65
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
VISION = {  # Machado, Oliveira and Fernandes (2009), severity 1
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
NOTICEABLE = 2.3  # just noticeable distance in CIELAB (Mahy, Van Eycken and Oosterlinck, 1994)


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*, a*, b* of a linear RGB color."""
    ratio = SRGB_TO_XYZ @ rgb / SRGB_TO_XYZ.sum(1)
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def seen(color: str, vision: str) -> np.ndarray:
    return cielab(np.clip(VISION[vision] @ linear(color), 0, 1))


def test_the_computation_knows_what_is_confused():
    """Red and green of the same lightness, far apart for most readers, are nearly one color in deuteranopia."""
    red, green = "#b34700", "#6f6f00"
    assert np.linalg.norm(seen(red, "normal") - seen(green, "normal")) > 15 * NOTICEABLE
    assert np.linalg.norm(seen(red, "deuteranopia") - seen(green, "deuteranopia")) < 5 * NOTICEABLE
    for vision in VISION:
        np.testing.assert_allclose(seen("white", vision), [100, 0, 0], atol=0.02)


@pytest.mark.parametrize("vision", VISION)
def test_every_pair_of_colors_is_told_apart(vision):
    for a, b in itertools.combinations(plot.COLORS, 2):
        distance = np.linalg.norm(seen(plot.COLORS[a], vision) - seen(plot.COLORS[b], vision))
        assert distance > 5 * NOTICEABLE, f"{a} and {b}: {distance:.1f}"


def test_contrast_with_white_paper():
    """WCAG 2.1, success criterion 1.4.11 asks for 3:1. Lines take the two that have less only after the others."""
    contrast = {name: 1.05 / (SRGB_TO_XYZ[1] @ linear(color) + 0.05) for name, color in plot.COLORS.items()}
    assert {name for name, value in contrast.items() if value < 3} == {"sky", "orange"}
    assert min(contrast.values()) > 2
    assert list(plot.COLORS)[:4] == ["blue", "vermilion", "green", "purple"]


def test_lines_differ_in_gray():
    """Without color, two lines of the cycle still differ: in dash, or by 20 in lightness."""
    plot.use_style()
    lines = [(style["color"], str(style["linestyle"])) for style in plt.rcParams["axes.prop_cycle"]]
    assert len(lines) == len(plot.COLORS) == len(set(plot.MARKERS))
    for (color, dash), (other, other_dash) in itertools.combinations(lines, 2):
        assert dash != other_dash or abs(seen(color, "normal")[0] - seen(other, "normal")[0]) > 20


def test_style_starts_afresh_on_white_paper():
    plt.rcParams["lines.linewidth"] = 9
    plt.rcParams["axes.grid"] = True
    plot.use_style()
    assert plt.rcParams["lines.linewidth"] == 1.8
    assert not plt.rcParams["axes.grid"]
    assert plt.rcParams["figure.facecolor"] == plt.rcParams["savefig.facecolor"] == "white"


# Pictures


def by_hand(images: np.ndarray, columns: int) -> np.ndarray:
    """Pictures row by row, one pixel of NaN between them."""
    n, h, w = images.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1), np.nan)
    for i, y, x in np.ndindex(n, h, w):
        canvas[(i // columns) * (h + 1) + y, (i % columns) * (w + 1) + x] = images[i, y, x]
    return canvas


@pytest.mark.parametrize(
    ("n", "h", "w", "columns"), [(1, 1, 1, 1), (7, 2, 3, 3), (6, 3, 2, 3), (2, 2, 2, 10), (3, 2, 2, 1)]
)
def test_grid_sets_out_pictures_row_by_row(n, h, w, columns):
    images = np.linspace(0, 1, n * h * w).reshape(n, h, w)
    ax = plot.image_grid(images, columns=columns)
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), by_hand(images, min(columns, n)))


def test_grid_on_the_canvas():
    """What is drawn: ink black, paper white, in the right place, not smoothed."""
    images = np.zeros((5, 4, 4))
    images[3, 1, 2] = 1.0
    images[4, 0, 0] = 0.5
    fig, ax = plt.subplots(figsize=(4, 4))
    assert plot.image_grid(images, columns=3, ax=ax, title="five") is ax
    fig.canvas.draw()
    shown = np.asarray(fig.canvas.buffer_rgba())[..., :3].astype(float)

    def at(row: int, column: int) -> np.ndarray:
        """Color of an element of the 9×14 grid on the canvas."""
        x, y = ax.transData.transform((column, row))
        return shown[round(shown.shape[0] - y), round(x)]

    np.testing.assert_array_equal(at(5 + 1, 2), 0)  # the fourth picture starts the second row
    np.testing.assert_allclose(at(5, 5), 127, atol=30)  # gray at half ink; the color map is not exactly linear
    for row, column in ((0, 0), (5 + 1, 1), (5 + 1, 3), (5, 2), (5 + 2, 2), (4, 4), (5 + 3, 13)):
        np.testing.assert_array_equal(at(row, column), 255)
    assert ax.get_title(loc="left") == "five"


def test_grid_makes_its_own_figure_in_proportion():
    ax = plot.image_grid(np.zeros((20, 28, 28)))
    width, height = ax.figure.get_size_inches()
    assert height / width == pytest.approx(57 / 289, rel=0.01)  # two rows of ten, 28 px each and gaps


def test_rows_are_labelled_strips():
    rows = {"data": np.full((3, 2, 2), 0.25), "model": np.linspace(0, 1, 16).reshape(4, 2, 2)}
    fig = plot.image_rows(rows)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["data", "model"]
    for ax, images in zip(fig.axes, rows.values()):
        np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), by_hand(images, len(images)))


# Curves and densities


@pytest.mark.parametrize(("steps", "smooth"), [(120, 50), (120, 1), (30, 50), (1, 50)])
def test_loss_curve_draws_running_means(steps, smooth):
    values = np.asarray(jax.random.normal(jax.random.key(0), (steps,)), float)
    ax = plot.loss_curve({"loss": values, "rate": values + 1}, names=["rate"], smooth=smooth)
    (line,) = ax.lines
    window = min(smooth, steps)
    x = np.arange(window, steps + 1)
    np.testing.assert_array_equal(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), [values[i - window : i].mean() + 1 for i in x], atol=1e-12)
    assert [text.get_text().strip() for text in ax.texts] == ["rate"]


def test_loss_curve_labels_lines_in_their_colors_and_draws_the_floor():
    plot.use_style()
    history = {"loss": np.ones(100), "distortion": np.zeros(100)}
    _, given = plt.subplots()
    ax = plot.loss_curve(history, floor=-1.0, ylabel="bits", ax=given)
    assert ax is given
    first, second, floor = ax.lines
    labels = {text.get_text().strip(): text for text in ax.texts}
    assert labels["loss"].get_color() == first.get_color() == plot.BLUE
    assert labels["distortion"].get_color() == second.get_color() == plot.VERMILION
    assert set(floor.get_ydata()) == {-1.0}
    assert "floor" in labels
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "bits")


def test_loss_curve_of_a_run_that_did_nothing():
    assert len(plot.loss_curve({"loss": np.zeros(0)}).lines) == 0


def test_density_is_drawn_where_it_is():
    """The value shown at the middle of each cell of the picture is SciPy's, and the picture holds all the mass."""
    mean, cov = np.array([1.0, -0.5]), np.array([[0.2, 0.1], [0.1, 0.3]])
    precision = np.linalg.inv(cov)
    norm = math.log(2 * math.pi) + 0.5 * math.log(np.linalg.det(cov))
    ax = plot.density(lambda x: -0.5 * (x - mean) @ precision @ (x - mean) - norm, extent=(-2.0, 4.0, -4.0, 3.0))
    (image,) = ax.images
    shown = np.asarray(image.get_array(), float)
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-2, 4, -4, 3)
    assert image.origin == "lower"
    rows, columns = shown.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    expected = stats.multivariate_normal(mean, cov).pdf(np.stack(np.meshgrid(x, y), axis=-1))
    np.testing.assert_allclose(shown, expected, atol=1e-5)
    assert shown.sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=1e-3)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_1$", "$x_2$")
