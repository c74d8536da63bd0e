"""The four kinds of live figure, and the page that each of them is: one ``<iframe srcdoc>`` that requests nothing.

A figure shows a picture until its script has loaded the model and found the numbers that JAX gives. Without JavaScript,
and in a notebook that is not trusted, the picture and the caption remain. ``weights`` is as in ``export``: "int8" makes
a page half as large as "float16" does, for an error of a hundredth or two.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from genai_course import _check, plot
from genai_course.live._export import TOLERANCE, export

MOST_CHECKED = 200  # numbers of an output that a page compares with those of JAX


class Figure:
    """What a notebook shows: the live page in HTML, and the picture where HTML is not shown."""

    def __init__(self, kind: str, graph: dict, reference: list, settings: dict, poster: bytes, caption: str, alt: str):
        self.kind, self.graph, self.reference, self.poster = kind, graph, reference, poster
        self.settings, self.caption, self.alt = settings, caption, alt

    def page(self) -> str:
        """The whole page, all included."""
        folder = files("genai_course.live")

        def text(*names):
            return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)

        data = {"graph": self.graph, "reference": self.reference, "settings": self.settings}
        parts = [f'<script type="application/json" id="{name}">{_json(value)}</script>' for name, value in data.items()]
        scripts = text("runtime.js", "widgets/common.js", f"widgets/{self.kind}.js")
        return (
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(self.caption)}</title>'
            f"<style>{text('style.css')}</style></head><body>"
            f'<img id="poster" alt="{html.escape(self.alt)}" src="data:image/png;base64,{_base64(self.poster)}">'
            f'<main id="app" hidden></main>{"".join(parts)}<script>{scripts}</script></body></html>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        style = "border: 0; height: max(370px, 900px - 75vw); width: 100%"  # taller where it is narrow
        frame = (
            f'<iframe class="live" sandbox="allow-scripts" loading="lazy" title="{html.escape(self.alt)}" '
            f'style="{style}" srcdoc="{html.escape(self.page())}"></iframe>'
        )
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>"
        return {
            "text/html": f'<figure class="live-figure">{frame}{caption}</figure>',
            "image/png": _base64(self.poster),
            "text/plain": f"Live figure: {self.caption}",
        }


def _json(value) -> str:
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _texts(caption, alt):
    for name, value in {"caption": caption, "alt": alt}.items():
        if not isinstance(value, str) or len(value) < 10:
            raise ValueError(f"{name} must be a sentence, got {value!r:.60}")


def _tolerance(weights: str) -> dict:
    return {"tolerance": TOLERANCE[_check.choice("weights", weights, tuple(TOLERANCE))]}


def _flat(x) -> list[float]:
    return [float(f"{v:.6g}") for v in np.ravel(np.asarray(x, float))]


def _reference(fn: Callable, inputs: Sequence[Sequence]) -> list:
    """Inputs and the outputs that JAX gives, for the page to check itself; of a long output, every so many numbers."""
    compiled, pairs = eqx.filter_jit(fn), []
    for xs in inputs:
        outputs = jax.tree.leaves(compiled(*xs))
        every = [1 + y.size // MOST_CHECKED for y in outputs]
        values = [_flat(y)[::n] for y, n in zip(outputs, every)]
        pairs.append({"inputs": [_flat(x) for x in xs], "every": every, "outputs": values})
    return pairs


def _png(ink) -> bytes:
    """A picture of numbers from 0, paper, to 1, ink."""
    plt.imsave(file := io.BytesIO(), 1 - np.clip(np.asarray(ink), 0, 1), cmap="gray", vmin=0, vmax=1, format="png")
    return file.getvalue()


def _sheet(pictures, columns: int) -> bytes:
    """Pictures [n, height, width] in rows."""
    n, height, width = pictures.shape
    rows = np.asarray(pictures).reshape(n // columns, columns, height, width)
    return _png(rows.transpose(0, 2, 1, 3).reshape(-1, columns * width))


def _choices(choices: Mapping | None) -> list[dict]:
    return [{"name": str(name), "value": _flat(value)} for name, value in (choices or {}).items()]


def _first(choices: Mapping | None) -> list:
    return [jnp.asarray(next(iter(choices.values())))] if choices else []


def latent(
    decode: Callable,
    points=None,
    labels=None,
    *,
    shape: tuple[int, int],
    caption: str,
    alt: str,
    extent: float = 3.0,
    weights: str = "float16",
) -> Figure:
    """A plane of codes: the reader moves a point z in [-extent, extent]² and sees ``decode(z)``.

    decode          z [2] → ink of ``height·width`` pixels, from 0 to 1
    points, labels  codes [n, 2] to show in the plane, colored by an integer label
    shape           height and width of the picture
    """
    _texts(caption, alt)
    extent = _check.number("extent", extent, above=0.0)
    points = np.zeros((0, 2)) if points is None else np.asarray(_check.array("points", points, ndim=2))
    labels = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    ticks = jnp.linspace(-0.8, 0.8, 7) * extent
    plane = jnp.stack(jnp.meshgrid(ticks, -ticks), axis=-1).reshape(-1, 2)
    pictures = jax.vmap(lambda z: decode(z).reshape(shape))(plane)
    shown = [[round(float(x), 2), round(float(y), 2), int(c)] for (x, y), c in zip(points, labels)]
    settings = _tolerance(weights) | {
        "extent": extent,
        "shape": list(shape),
        "points": shown,
        "colors": list(plot.COLORS.values()),
    }
    reference = _reference(decode, [[z] for z in plane[jnp.array([0, 16, 24, 40])]])
    return Figure(
        "latent", export(decode, jnp.zeros(2), weights=weights), reference, settings, _sheet(pictures, 7), caption, alt
    )


def sliders(
    generate: Callable,
    size: int,
    *,
    shape: tuple[int, int],
    caption: str,
    alt: str,
    choices: Mapping | None = None,
    shown: int = 6,
    extent: float = 2.5,
    weights: str = "float16",
) -> Figure:
    """A slider for each of the first ``shown`` of ``size`` numbers z ~ N(0, 1), and the picture that they generate.

    generate   z [size] → ink of ``height·width`` pixels, from 0 to 1; with ``choices``, ``generate(z, choice)``
    choices    names and the arrays that they stand for, such as labels
    """
    _texts(caption, alt)
    size, shown = _check.integer("size", size), _check.integer("shown", shown)
    draws = jax.random.normal(jax.random.key(0), (16, size))
    options = [[jnp.asarray(value)] for value in choices.values()] if choices else [[]]
    pictures = [generate(z, *options[i % len(options)]).reshape(shape) for i, z in enumerate(draws)]
    first = _first(choices)
    settings = _tolerance(weights) | {
        "extent": extent,
        "shape": list(shape),
        "size": size,
        "choices": _choices(choices),
    }
    settings["shown"] = min(shown, size)
    reference = _reference(generate, [[z, *first] for z in draws[:4]])
    graph = export(generate, draws[0], *first, weights=weights)
    return Figure("sliders", graph, reference, settings, _sheet(jnp.stack(pictures), 8), caption, alt)


def sampler(
    step: Callable,
    size: int,
    steps: int,
    *,
    shape: tuple[int, int],
    caption: str,
    alt: str,
    choices: Mapping | None = None,
    delay: int = 120,
    weights: str = "float16",
) -> Figure:
    """A sampler that the reader plays, pauses, steps and starts again from other noise.

    step     ``step(x, i, noise)`` or ``step(x, i, noise, choice)`` → ``(x, ink)``: the state [size] after step i of
             0 … steps - 1, and the picture that it stands for; the first x is N(0, I), and so is each noise [size]
    delay    milliseconds between two steps
    """
    _texts(caption, alt)
    size, steps = _check.integer("size", size), _check.integer("steps", steps)
    start_key, *keys = jax.random.split(jax.random.key(0), steps + 1)
    first, x, states, pairs = _first(choices), jax.random.normal(start_key, (size,)), [], []
    compiled = eqx.filter_jit(step)
    for i, key in enumerate(keys):
        inputs = [x, jnp.float32(i), jax.random.normal(key, (size,)), *first]
        x, ink = compiled(*inputs)
        states.append(ink.reshape(shape))
        pairs.append(inputs)
    chosen = np.linspace(0, steps - 1, min(8, steps)).astype(int)
    settings = _tolerance(weights) | {
        "shape": list(shape),
        "size": size,
        "steps": steps,
        "choices": _choices(choices),
        "delay": delay,
    }
    reference = _reference(step, [pairs[i] for i in chosen[:: max(1, len(chosen) // 4)]])
    poster = _sheet(jnp.stack([states[i] for i in chosen]), len(chosen))
    return Figure("sampler", export(step, *pairs[0], weights=weights), reference, settings, poster, caption, alt)


def prompt(
    logits: Callable,
    tokens: Sequence[str],
    *,
    context: int,
    start: str,
    caption: str,
    alt: str,
    first: int | None = None,
    length: int = 200,
    weights: str = "float16",
) -> Figure:
    """A language model that goes on with the reader's text, at the reader's temperature.

    logits    ids [context] → logits [context, len(tokens)]; row i must not depend on ids after i
    tokens    what each id stands for; the reader's text is cut greedily into the longest of them
    start     the text in the box before the reader types
    first     id that is put before the text, such as a start symbol
    length    tokens that are written
    """
    _texts(caption, alt)
    context, length = _check.integer("context", context), _check.integer("length", length)
    ids = [jnp.arange(context) * (k + 3) % len(tokens) for k in range(4)]
    settings = _tolerance(weights) | {
        "tokens": list(tokens),
        "context": context,
        "start": start,
        "length": length,
        "first": first,
    }
    fig = plt.figure(figsize=(6.4, 1.2))
    fig.text(0.02, 0.5, start + " …", family="monospace", fontsize=13, va="center")
    fig.savefig(file := io.BytesIO(), format="png", dpi=100)
    plt.close(fig)
    graph, reference = export(logits, ids[0], weights=weights), _reference(logits, [[i] for i in ids])
    return Figure("prompt", graph, reference, settings, file.getvalue(), caption, alt)
