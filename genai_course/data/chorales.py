"""Bach's four-part chorales, read note by note from the corpus that the music21 package installs.

Data card
    Origin: Johann Sebastian Bach (1685-1750); encodings of music21's corpus (Cuthbert & Ariza 2010): of its 408
    compressed MusicXML files the 364 that have exactly four parts. License: the music is in the public domain; music21
    states that its encodings are distributed with permission and that some may not be used commercially. So they are
    read in place, and nothing derived is written to disk or passed on. Size: 364 chorales, 79,240 sixteenth-note steps.
    Splits: `split`, about 80/10/10, by hymn tune, as Bach set some tunes up to eleven times. JSB chorales, among the
    benchmarks, are the same repertoire: never train on one and test on the other.
    Known exactly: every note. A repeat is there once; step 0 is the first note, be it an upbeat. Five notes start off
    the sixteenth-note grid; 3.5 % of the onsets are off the eighth-note grid, which is still the one to train on.
"""

import functools
import importlib.util
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from genai_course import _check

VOICES = ("soprano", "alto", "tenor", "bass")
_STEPS_PER_QUARTER = {"eighth": 2, "sixteenth": 4}
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_RUN = 12  # melodies that share this many intervals in a row count as one tune


@dataclass(frozen=True, eq=False)
class Chorale:
    """One chorale on a grid of time steps; the arrays are read-only, copy them to change them.

    ``name`` is that of the file, by Bach's catalog number. ``pitch`` is what sounds at the instant of each step, in
    MIDI numbers (60 is middle C), from soprano to bass, 0 for silence. ``onset`` marks the first step of each note,
    ``fermata`` the steps of soprano notes under a fermata, where phrases end. ``key_signature`` counts sharps at the
    start, flats below zero. ``tune`` numbers the hymn tune, which other chorales may share.
    """

    name: str
    pitch: UInt8[np.ndarray, "steps 4"]
    onset: Bool[np.ndarray, "steps 4"]
    fermata: Bool[np.ndarray, " steps"]
    key_signature: int
    tune: int


class Note(NamedTuple):
    """One note of a part; times are in quarter notes, exact."""

    begin: Fraction
    end: Fraction
    pitch: int
    onset: bool  # False where a tie holds on the note before
    fermata: bool


def _folder() -> Path:
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the chorales are part of the package music21, which is not installed")
    folder = Path(spec.origin).parent / "corpus" / "bach"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"music21 is installed without its corpus: {folder} is missing; install its wheel again"
        )
    return folder


def _part(part: ElementTree.Element) -> list[Note]:
    time, divisions, notes = Fraction(0), int(part.findtext("measure/attributes/divisions")), []
    for item in part.iterfind("measure/*"):
        if item.tag == "backup" or item.find("chord") is not None:
            raise ValueError("a part of a chorale must be one melody, but this one holds chords or second voices")
        if item.tag not in ("note", "forward") or item.find("grace") is not None:
            continue  # grace notes take no time
        begin, time = time, time + Fraction(int(item.findtext("duration")), divisions)
        pitch = item.find("pitch")
        if pitch is not None:
            midi = 12 * (int(pitch.findtext("octave")) + 1) + _SEMITONES[pitch.findtext("step")]
            midi += int(pitch.findtext("alter", "0"))
            tied = any(tie.get("type") == "stop" for tie in item.iterfind("tie"))
            fermata = item.find("notations/fermata") is not None
            notes.append(Note(begin, time, midi, not tied, fermata))
    return notes


@functools.cache
def _pieces() -> dict[str, tuple[int, list[list[Note]]]]:
    pieces = {}
    for path in sorted(_folder().glob("*.mxl")):
        with zipfile.ZipFile(path) as archive:
            [name] = (n for n in archive.namelist() if n.endswith(("xml", "musicxml")) and not n.startswith("META-INF"))
            root = ElementTree.fromstring(archive.read(name))
        parts = root.findall("part")
        if len(parts) == len(VOICES):
            pieces[path.stem] = int(root.findtext(".//key/fifths")), [_part(part) for part in parts]
    if not pieces:
        raise FileNotFoundError(f"music21 is installed without its chorales: no four-part .mxl file in {_folder()}")
    return pieces


def _on_grid(voices: list[list[Note]], per_quarter: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # A note sounds at the steps from the first one at or after its begin to the last one before its end.
    spans = [[(math.ceil(n.begin * per_quarter), math.ceil(n.end * per_quarter), n) for n in voice] for voice in voices]
    steps = max(end for voice in spans for _, end, _ in voice)
    pitch, onset, fermata = np.zeros((steps, 4), np.uint8), np.zeros((steps, 4), bool), np.zeros(steps, bool)
    for v, voice in enumerate(spans):
        for begin, end, note in voice:
            pitch[begin:end, v] = note.pitch
            onset[begin : min(begin + 1, end), v] = note.onset
            if v == 0:
                fermata[begin:end] = note.fermata
    for array in (pitch, onset, fermata):
        array.flags.writeable = False
    return pitch, onset, fermata


@functools.cache
def _tunes() -> dict[str, int]:
    """Number the tunes: pieces are joined by a run of intervals they share, from note to note or from beat to beat.

    Intervals do not change when a melody is transposed. Beats see through passing notes, notes through other rhythms.
    """
    names, runs, edges = list(_pieces()), {}, []
    for piece, (_, voices) in enumerate(_pieces().values()):
        pitch, onset, _ = _on_grid(voices[:1], 4)
        beats = pitch[::4, 0]
        for kind, melody in ("notes", pitch[onset[:, 0], 0]), ("beats", beats[beats > 0]):
            intervals = np.diff(melody.astype(int)).tolist()
            for i in range(max(1, len(intervals) - _RUN + 1)):
                run = runs.setdefault((kind, *intervals[i : i + _RUN]), len(names) + len(runs))
                edges.append((piece, run))
    size, (rows, columns) = len(names) + len(runs), np.array(edges).T
    graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(size, size))
    return dict(zip(names, connected_components(graph, directed=False)[1].tolist()))


@functools.cache
def _load(grid: str) -> tuple[Chorale, ...]:
    return tuple(
        Chorale(name, *_on_grid(voices, _STEPS_PER_QUARTER[grid]), sharps, _tunes()[name])
        for name, (sharps, voices) in _pieces().items()
    )


def load(grid: str = "eighth") -> tuple[Chorale, ...]:
    """Return all chorales, by name, on a grid of ``"eighth"`` or ``"sixteenth"`` notes; the first call takes seconds.

    Raises ``ModuleNotFoundError`` without music21 and ``FileNotFoundError`` without its corpus.
    """
    return _load(_check.choice("grid", grid, _STEPS_PER_QUARTER))


class Split(NamedTuple):
    """Chorales to train on, to choose a model by, and to report; no hymn tune is in two of them."""

    train: tuple[Chorale, ...]
    valid: tuple[Chorale, ...]
    test: tuple[Chorale, ...]


def split(chorales: Sequence[Chorale]) -> Split:
    """Divide ``chorales`` by tune, always in the same way: of every ten tunes eight train, one validates, one tests."""
    if not isinstance(chorales, Sequence) or not all(isinstance(chorale, Chorale) for chorale in chorales):
        raise TypeError(f"chorales must be a sequence of Chorale, as load() returns, got {chorales!r:.60}")
    parts = [[], [], []]
    for chorale in chorales:
        parts[max(0, chorale.tune % 10 - 7)].append(chorale)
    return Split(*map(tuple, parts))
