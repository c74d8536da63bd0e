"""The book's figures: one style, one palette, and what the chapters draw more than once.

Categories take the colors of Okabe and Ito (2008), which readers with any common color vision tell apart; magnitudes
take viridis. Lines also differ in dash and points in marker, so that a figure survives a gray printer.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genai_course import _check

# Okabe and Ito (2008), "Color Universal Design", in the order in which lines take them. Their yellow (#F0E442) is left
# out: on white paper it is too faint for a line. Sky and orange, with a contrast below 3:1, are for areas and markers.
COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "black": "#000000",
}
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, BLACK = COLORS.values()
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one a color, for the same reason

_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)), "-")


def use_style() -> None:
    """Set matplotlib's defaults for the book: readable at phone width, quiet axes, white paper also in dark mode."""
    plt.rcdefaults()
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.4),
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=list(COLORS.values())) + cycler(linestyle=_DASHES),
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "image.cmap": "viridis",
        }
    )


def _tiled(images: Float[np.ndarray, "n h w"], columns: int, gap: int = 1) -> Float[np.ndarray, "rows cols"]:
    """Pictures set out row by row on one canvas, ``gap`` pixels of paper (NaN) between them."""
    n, h, w = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        canvas[top : top + h, left : left + w] = image
    return canvas


def _axes(ax: Axes | None, **figure) -> Axes:
    """The axes that were given, or those of a new figure."""
    if ax is None:
        return plt.subplots(**figure)[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes, got {type(ax).__name__}")
    return ax


def _mapping(name: str, value) -> Mapping:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping from names to arrays, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must have at least one entry, got none")
    return value


def _pictures(name: str, images) -> np.ndarray:
    images = np.asarray(_check.array(name, images, ndim=3))
    if 0 in images.shape:
        raise ValueError(f"{name} must hold at least one picture of at least one pixel, got shape {images.shape}")
    return images


def image_grid(
    images: Float[np.ndarray, "n h w"], *, columns: int = 10, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Draw pictures with values from 0 (paper) to 1 (ink) as a grid, black on white, row by row."""
    images = _pictures("images", images)
    columns = min(_check.integer("columns", columns), len(images))
    canvas = _tiled(images, columns)
    width = 6.4
    height = width * canvas.shape[0] / canvas.shape[1] + 0.3 * (title is not None)
    ax = _axes(ax, figsize=(width, height))
    ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    if title is not None:
        ax.set_title(title, loc="left")
    return ax


def image_rows(rows: Mapping[str, Float[np.ndarray, "n h w"]]) -> Figure:
    """Draw one labelled strip of pictures for each entry, for comparison down the columns."""
    strips = {label: _pictures(f"rows[{label!r}]", images) for label, images in _mapping("rows", rows).items()}
    tiles = [_tiled(images, len(images)) for images in strips.values()]
    width = 6.4
    heights = [width * tile.shape[0] / tile.shape[1] for tile in tiles]
    fig, axes = plt.subplots(
        len(tiles), 1, figsize=(width, sum(heights) + 0.3 * len(tiles)), squeeze=False, height_ratios=heights
    )
    for ax, (label, images) in zip(axes[:, 0], strips.items()):
        image_grid(images, columns=len(images), ax=ax, title=label)
    return fig


def loss_curve(
    history: Mapping[str, Float[np.ndarray, " steps"]],
    *,
    names: Sequence[str] | None = None,
    floor: float | None = None,
    smooth: int = 50,
    ylabel: str = "nats",
    ax: Axes | None = None,
) -> Axes:
    """Draw running means over ``smooth`` steps of the named parts of a ``fit`` history, and the floor if known."""
    smooth = _check.integer("smooth", smooth)
    floor = None if floor is None else _check.number("floor", floor)
    names = list(_mapping("history", history)) if names is None else names
    if not isinstance(names, Sequence) or isinstance(names, str) or set(map(str, names)) - set(history):
        raise ValueError(f"names must be a sequence of entries of history, {list(history)}, got {names!r:.80}")
    curves = {name: np.asarray(_check.array(f"history[{name!r}]", history[name], ndim=1), float) for name in names}
    ax = _axes(ax)
    for name, values in curves.items():
        window = min(smooth, len(values))
        if window:
            mean = np.convolve(values, np.full(window, 1 / window), "valid")
            (line,) = ax.plot(np.arange(window, len(values) + 1), mean)
            ax.annotate(f" {name}", (len(values), mean[-1]), color=line.get_color(), va="center")
    if floor is not None:
        ax.axhline(floor, color=BLACK, linestyle=":", linewidth=1.2)
        where = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
        ax.annotate("floor", (0, floor), xytext=(4, 4), **where)
    ax.set(xlabel="step", ylabel=ylabel)
    ax.margins(x=0.02)
    return ax


def density(
    log_prob: Callable, *, extent: tuple[float, float, float, float] = (-3, 3, -3, 3), ax: Axes | None = None
) -> Axes:
    """Draw exp(log_prob) of a two-dimensional density on a 200×200 grid over ``extent`` (x from, to; y from, to)."""
    left, right, bottom, top = (float(v) for v in _check.array("extent", extent, shape=(4,)))
    if left >= right or bottom >= top:
        raise ValueError(f"extent must be (x from, x to, y from, y to), each pair ascending, got {extent}")
    centers = (np.arange(200) + 0.5) / 200
    x, y = left + (right - left) * centers, bottom + (top - bottom) * centers
    points = jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), float)
    values = jax.lax.map(_check.function("log_prob", log_prob), points, batch_size=2000)
    if values.shape != (len(points),):
        raise ValueError(f"log_prob must return one number for one point, got shape {values.shape[1:]}")
    ax = _axes(ax, figsize=(3.4, 3.4))
    ax.imshow(jnp.exp(values).reshape(200, 200), extent=(left, right, bottom, top), origin="lower", aspect="equal")
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    return ax
