"""28×28 pictures of digits and letters, drawn from the fonts that come with matplotlib.

Data card
---------
Origin    20 faces of 7 families (DejaVu Sans, Sans Mono and Serif; STIX General; Computer Modern Roman, Sans and
          Typewriter) inside the matplotlib package. Each outline becomes a signed distance field; a picture is that
          field after a random affine and elastic warp, so a new picture costs microseconds and none is stored.
License   DejaVu: Bitstream Vera license; STIX: SIL Open Font License 1.1; Computer Modern: BaKoMa Fonts Licence. All
          three texts come with matplotlib, and all allow what is drawn here. The course ships no font and no picture.
Size      any number of pictures; characters ``DIGITS`` (10) or ``LETTERS`` (26 capitals) or any of their characters.
          No lower case: sizes are normalized, so c/C, o/O, s/S would look alike.
Splits    draw training and test pictures with different keys; hold out faces with ``faces=``.
Known     every generating factor: character, face and the seven numbers of ``FACTORS``. What is not known is the
          density of the pixels; no closed form exists.

A value is the share of a pixel covered by ink, from 0 to 1. Versions of matplotlib differ in about 0.03% of pixels.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from matplotlib.ft2font import FT2Font, LoadFlags
from scipy.ndimage import distance_transform_edt, map_coordinates

from genai_course import _check
from genai_course.data import rng_from_key

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIZE = 28  # pixels on a side of a picture

_CELL = 64  # grid points on a side of a distance field ...
_SPAN = 32.0  # ... which covers this many picture pixels
_HEIGHT, _WIDTH = 20.0, 24.0  # a glyph fills 20 px in height unless that makes it wider than 24 px
_SOFT = 0.6  # px over which ink fades to paper: the antialiasing of a pixel's own width


class Face(NamedTuple):
    """One type face: its file in matplotlib's font folder, its family, and whether it is bold or italic."""

    file: str
    family: str
    bold: bool
    italic: bool


def _family(family: str, regular: str, bold: str, italic: str, bold_italic: str) -> list[Face]:
    files = ((regular, False, False), (bold, True, False), (italic, False, True), (bold_italic, True, True))
    return [Face(f"{file}.ttf", family, *style) for file, *style in files]


FACES = (
    *_family("DejaVu Sans", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *_family(
        "DejaVu Sans Mono",
        *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    ),
    *_family("DejaVu Serif", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *_family("STIX General", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    Face("cmr10.ttf", "CM Roman", bold=False, italic=False),
    Face("cmb10.ttf", "CM Roman", bold=True, italic=False),
    Face("cmss10.ttf", "CM Sans", bold=False, italic=False),
    Face("cmtt10.ttf", "CM Typewriter", bold=False, italic=False),
)

# Each picture's factors are uniform on these ranges. Rotation in degrees, clockwise; slant dx/dy, to the right as in
# italics; scale and aspect as ratios; weight (how much the outline is thickened, bold faces 0.55 px less) and shifts
# (to the right, down) in pixels.
FACTORS = {
    "rotation": (-15.0, 15.0),
    "slant": (-0.25, 0.25),
    "scale": (0.75, 1.05),
    "aspect": (0.8, 1.15),
    "weight": (0.1, 0.9),
    "shift_x": (-1.5, 1.5),
    "shift_y": (-1.5, 1.5),
}


class Glyphs(NamedTuple):
    """Pictures and what made them."""

    images: Float[np.ndarray, "n 28 28"]  #: ink per pixel, 0 to 1, float32
    characters: Int[np.ndarray, " n"]  #: index into the string of characters that was asked for
    faces: Int[np.ndarray, " n"]  #: index into the faces that were asked for
    factors: Float[np.ndarray, "n 7"]  #: one column for each entry of ``FACTORS``, in that order and those units


@functools.cache
def _distance_field(file: str, character: str) -> Float[np.ndarray, "64 64"]:
    """Signed distance to the outline in picture pixels, positive inside, for one character of one face."""
    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / file))
    font.set_size(160, 72)
    font.set_text(character, 0.0, flags=LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.asarray(font.get_image()) > 127
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    pixel = max(height / _HEIGHT, width / _WIDTH)  # raster points per picture pixel
    ink = np.pad(ink, int(pixel * _SPAN / 2) + 1)
    inside, outside = distance_transform_edt(ink), distance_transform_edt(~ink)
    distance = np.where(ink, inside - 0.5, 0.5 - outside) / pixel
    at = ((np.arange(_CELL) + 0.5) / _CELL - 0.5) * _SPAN * pixel  # raster points from the glyph's middle
    grid = np.meshgrid(*((size - 1) / 2 + at for size in ink.shape), indexing="ij")
    return map_coordinates(distance, grid, order=1, mode="nearest").astype(np.float32)


@functools.cache
def _atlas(characters: str, faces: tuple[Face, ...]) -> Float[np.ndarray, "faces characters 64 64"]:
    return np.stack([[_distance_field(face.file, c) for c in characters] for face in faces])


def _checked(characters: str, faces: Sequence[Face]) -> tuple[str, tuple[Face, ...]]:
    if not isinstance(characters, str) or not characters or set(characters) - set(DIGITS + LETTERS):
        raise ValueError(f"characters must be digits or capital letters, got {characters!r}")
    if not isinstance(faces, Sequence) or not faces or not all(isinstance(f, Face) and f in FACES for f in faces):
        raise ValueError(f"faces must be a sequence of entries of glyphs.FACES, got {faces!r:.80}")
    return characters, tuple(faces)


def sample(
    key: PRNGKeyArray, n: int, *, characters: str = DIGITS, faces: Sequence[Face] = FACES, elastic: float = 1.3
) -> Glyphs:
    """Draw ``n`` pictures: character, face and factors uniform and independent, then a smooth random warp.

    ``elastic`` is the amplitude of the warp in pixels: a displacement field of 4×4 cosine modes per axis, with
    standard deviation ``elastic / (1 + i² + j²)`` for mode (i, j) and none for the constant mode. Raises
    ``ValueError`` or ``TypeError`` naming the argument that is out of range.
    """
    n = _check.integer("n", n, least=0)
    elastic = _check.number("elastic", elastic, least=0.0)
    characters, faces = _checked(characters, faces)
    rng = rng_from_key(key)
    character, face = rng.integers(len(characters), size=n), rng.integers(len(faces), size=n)
    low, high = np.array(list(FACTORS.values())).T
    factors = rng.uniform(low, high, (n, len(FACTORS)))
    mode = np.arange(4)
    amplitude = elastic / (1.0 + mode[:, None] ** 2 + mode**2)
    amplitude[0, 0] = 0.0
    warp = rng.normal(size=(n, 2, 4, 4)) * amplitude
    return render(character, face, factors, warp, characters=characters, faces=faces)


def render(
    character: Int[np.ndarray, " n"],
    face: Int[np.ndarray, " n"],
    factors: Float[np.ndarray, "n 7"],
    warp: Float[np.ndarray, "n 2 4 4"] | None = None,
    *,
    characters: str = DIGITS,
    faces: Sequence[Face] = FACES,
) -> Glyphs:
    """Draw the pictures with exactly these characters, faces and factors; without ``warp``, no elastic warp.

    A pixel at p shows ink ``clip(1/2 + (s·d(A⁻¹(p + w(p) − shift)) + weight) / (2·0.6), 0, 1)``, where d is the face's
    signed distance field, A turns, slants and scales, s is the scale and w the warp. Raises as ``sample`` does.
    """
    characters, faces = _checked(characters, faces)
    character = np.asarray(_check.array("character", character, ndim=1))
    n = len(character)
    face = np.asarray(_check.array("face", face, shape=(n,)))
    factors = np.asarray(_check.array("factors", factors, shape=(n, len(FACTORS))), np.float32)
    if n and factors[:, 2:4].min() <= 0:
        raise ValueError(f"factors must have scale and aspect above 0, got {factors[:, 2:4].min()}")
    for name, index, size in (("character", character, len(characters)), ("face", face, len(faces))):
        if n and not (np.issubdtype(index.dtype, np.integer) and index.min() >= 0 and index.max() < size):
            raise ValueError(f"{name} must hold integers from 0 to {size - 1}, got {index[:8]}")
    warp = np.zeros((n, 2, 4, 4)) if warp is None else _check.array("warp", warp, shape=(n, 2, 4, 4))
    atlas = _atlas(characters, faces).ravel()
    images = np.empty((n, SIZE, SIZE), np.float32)
    bold = np.array([f.bold for f in faces])
    for start in range(0, n, 2000):  # in blocks, to keep the temporary arrays small
        block = slice(start, start + 2000)
        cell = (face[block] * len(characters) + character[block]) * _CELL**2
        images[block] = _draw(atlas, cell, bold[face[block]], factors[block], warp[block])
    return Glyphs(images, character, face, factors)


def _draw(atlas, cell, bold, factors, warp):
    """One block of pictures; ``cell`` is where each one's distance field starts in the flat ``atlas``."""
    rotation, slant, scale, aspect, weight, shift_x, shift_y = factors.T[:, :, None, None]
    weight = weight - 0.55 * bold[:, None, None].astype(np.float32)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - (SIZE - 1) / 2
    wave = np.cos(np.pi * np.arange(4)[:, None] * (np.arange(SIZE) + 0.5) / SIZE)
    bend = np.einsum("ndij,iy,jx->ndyx", warp, wave, wave, optimize=True).astype(np.float32)
    x, y = x - shift_x + bend[:, 0], y - shift_y + bend[:, 1]
    cos, sin = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    x, y = cos * x + sin * y, cos * y - sin * x
    x = (x + slant * y) / (scale * aspect)
    y = y / scale
    # bilinear look-up in the distance field
    column, row = (np.clip((v + _SPAN / 2) * (_CELL / _SPAN) - 0.5, 0, _CELL - 1.001) for v in (x, y))
    j, i = column.astype(np.int32), row.astype(np.int32)
    u, v = column - j, row - i
    at = cell[:, None, None] + i * _CELL + j
    upper = atlas[at] * (1 - u) + atlas[at + 1] * u
    lower = atlas[at + _CELL] * (1 - u) + atlas[at + _CELL + 1] * u
    distance = (upper * (1 - v) + lower * v) * scale + weight
    return np.clip(0.5 + distance / (2 * _SOFT), 0, 1)
