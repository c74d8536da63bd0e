"""Chorales against music21's own parser and catalog, a piece written out by hand, and each other for leaks."""

import importlib.util
import inspect
import itertools
import os
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from genai_course.data import chorales

# With grace notes, voices that wait, key changes, ties, notes off the sixteenth grid, and plain ones.
TEN = ["bwv299", "bwv315", "bwv111.6", "bwv4.8", "bwv62.6", "bwv432", "bwv248.64-s", "bwv36.4-2", "bwv10.7", "bwv66.6"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
watch = {"on": False, "written": []}


def note_what_is_written(event, details):
    if watch["on"] and event == "open" and isinstance(details[2], int) and details[2] & WRITES:
        watch["written"].append(details[0])


@pytest.fixture(scope="module")
def sixteenths():
    sys.addaudithook(note_what_is_written)
    watch["on"] = True
    loaded = {chorale.name: chorale for chorale in chorales.load("sixteenth")}
    watch["on"] = False
    return loaded


def by_music21(name):
    from music21 import converter, expressions, key

    path = Path(importlib.util.find_spec("music21").origin).parent / "corpus" / "bach" / f"{name}.mxl"
    score = converter.parse(path, forceSource=True, storePickle=False)
    parts = []
    for part in score.parts:
        notes = [note for note in part.flatten().notes if not note.duration.isGrace]
        tied = [note.tie is not None and note.tie.type in ("stop", "continue") for note in notes]
        held = [any(isinstance(mark, expressions.Fermata) for mark in note.expressions) for note in notes]
        parts.append([(n.offset, n.offset + n.quarterLength, n.pitch.midi, t, h) for n, t, h in zip(notes, tied, held)])
    return parts, next(iter(score.parts[0].flatten().getElementsByClass(key.KeySignature))).sharps


def assert_equal_to_music21(found, reference, per_quarter):
    parts, sharps = reference
    assert found.key_signature == sharps
    assert len(found.pitch) == len(found.onset) == len(found.fermata)
    assert len(found.pitch) >= per_quarter * max(end for part in parts for _, end, *_ in part)
    for voice, part in enumerate(parts):
        heard = np.zeros(len(found.pitch))
        for step in range(len(found.pitch)):
            now, before = step / per_quarter, (step - 1) / per_quarter
            sounding = [note for note in part if note[0] <= now < note[1]]
            heard[step] = len(sounding)
            if sounding:
                [(begin, _, pitch, tied, held)] = sounding
                assert found.pitch[step, voice] == pitch
                assert found.onset[step, voice] == (before < begin and not tied)
                if voice == 0:
                    assert found.fermata[step] == held
        silent = heard == 0
        assert not found.pitch[silent, voice].any()
        assert not found.onset[silent, voice].any()
        assert voice or not found.fermata[silent].any()


def test_ten_chorales_are_note_for_note_those_of_music21(sixteenths):
    eighths = {chorale.name: chorale for chorale in chorales.load()}
    for name in TEN:
        reference = by_music21(name)
        assert_equal_to_music21(sixteenths[name], reference, 4)
        assert_equal_to_music21(eighths[name], reference, 2)


@pytest.mark.slow
def test_all_chorales_are_note_for_note_those_of_music21(sixteenths):
    for name, chorale in sixteenths.items():
        assert_equal_to_music21(chorale, by_music21(name), 4)


def test_the_data_card_is_right(sixteenths):
    pitch = np.concatenate([chorale.pitch for chorale in sixteenths.values()])
    assert len(sixteenths) == 364
    assert len(pitch) == 79_240
    assert sum(chorale.fermata.any() for chorale in sixteenths.values()) == 363
    onset = np.concatenate([chorale.onset.any(1) for chorale in sixteenths.values() if len(chorale.onset) % 2 == 0])
    assert 0.03 < onset[1::2].sum() / onset.sum() < 0.04
    notes = [note for _, voices in chorales._pieces().values() for voice in voices for note in voice]
    assert sum((4 * note.begin).denominator > 1 for note in notes) == 5
    middle = [np.median(voice[voice > 0]) for voice in pitch.T]
    assert middle == sorted(middle, reverse=True)
    for voice, low, high in zip(pitch.T, (57, 53, 48, 36), (81, 74, 69, 64)):  # about what a choir can sing
        assert low <= voice[voice > 0].min() < voice.max() <= high
    assert 0.005 < np.any(pitch == 0, axis=1).mean() < 0.02


def test_nothing_is_written_to_disk(sixteenths):
    assert not watch["written"]
    watch["on"] = True
    with open(os.devnull, "w"):
        watch["on"] = False
    assert watch["written"] == [os.devnull], "the watch sees nothing"


def test_grids_agree_and_arrays_are_protected(sixteenths):
    for chorale in chorales.load("eighth"):
        fine = sixteenths[chorale.name]
        np.testing.assert_array_equal(chorale.pitch, fine.pitch[::2])
        np.testing.assert_array_equal(chorale.fermata, fine.fermata[::2])
        assert (chorale.tune, chorale.key_signature) == (fine.tune, fine.key_signature)
    for array in (fine.pitch, fine.onset, fine.fermata):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def runs(pitches, length):
    intervals = np.diff(pitches.astype(int)).tolist()
    return {tuple(intervals[i : i + length]) for i in range(len(intervals) - length + 1)}


def test_no_melody_is_in_two_parts_of_the_split(sixteenths):
    parts = chorales.split(tuple(sixteenths.values()))
    assert sorted(chorale.name for part in parts for chorale in part) == sorted(sixteenths)
    shares = [len(part) / 364 for part in parts]
    assert 0.75 < shares[0] < 0.85
    assert min(shares) > 0.07
    again = chorales.split(chorales.load("eighth"))
    assert [[c.name for c in part] for part in parts] == [[c.name for c in part] for part in again]
    melodies = [[c.pitch[c.onset[:, 0], 0] for c in part] for part in parts]
    whole = [{tuple(np.diff(melody.astype(int))) for melody in part} for part in melodies]
    shared = [set.union(*(runs(melody, 12) for melody in part)) for part in melodies]
    for a, b in itertools.combinations(range(3), 2):
        assert not whole[a] & whole[b]
        assert not shared[a] & shared[b]
    every_tenth = [set.union(*(runs(m, 12) for part in melodies for m in part[i::10])) for i in (0, 5)]
    assert every_tenth[0] & every_tenth[1], "without care there would be no leak to test for"


def test_tunes_are_those_of_the_hymn_book(sixteenths):
    from music21.corpus.chorales import ChoraleListRKBWV

    tune = {name: chorale.tune for name, chorale in sixteenths.items()}
    passion = [
        "bwv244.15",
        "bwv244.17",
        "bwv244.44",
        "bwv244.54",
        "bwv244.62",
        "bwv248.5",
        "bwv270",
        "bwv271",
        "bwv135.6",
    ]
    joy = ["bwv227.1", "bwv227.7", "bwv227.11", "bwv358", "bwv64.8", "bwv81.7", "bwv87.7"]  # Jesu, meine Freude
    assert len({tune[name] for name in passion}) == len({tune[name] for name in joy}) == 1
    assert tune[passion[0]] != tune[joy[0]]
    assert max(Counter(tune.values()).values()) < 20, "tunes are lumped together"
    titles = {f"bwv{entry['bwv']}": entry["title"] for entry in ChoraleListRKBWV().byRiemenschneider.values()}
    known = sorted(set(titles) & set(tune))
    pairs = [(a, b) for a, b in itertools.combinations(known, 2) if titles[a] == titles[b]]
    assert len(pairs) > 100
    assert np.mean([tune[a] == tune[b] for a, b in pairs]) > 0.9  # some texts are sung to two tunes


NOTE = "<note><pitch><step>{}</step>{}<octave>{}</octave></pitch><duration>{}</duration>{}</note>"


def write_piece(folder, name, parts):
    xml = "".join(
        f"<part><measure><attributes><divisions>8</divisions><key><fifths>-2</fifths></key></attributes>{part}</measure>"
        "</part>"
        for part in parts
    )
    with zipfile.ZipFile(folder / f"{name}.mxl", "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
        archive.writestr(f"{name}.xml", f"<score-partwise>{xml}</score-partwise>")


def test_a_piece_written_by_hand_is_read_as_written(tmp_path, monkeypatch):
    held = "<notations><fermata/></notations>"
    soprano = NOTE.format("C", "", 5, 8, "<tie type='start'/>") + NOTE.format("C", "", 5, 4, "<tie type='stop'/>")
    soprano += NOTE.format("B", "<alter>-1</alter>", 4, 2, "") + NOTE.format("A", "", 4, 1, "")
    soprano += NOTE.format("A", "", 4, 1, "") + NOTE.format("G", "", 4, 8, held)
    alto = "<note><rest/><duration>8</duration></note><forward><duration>8</duration></forward>"
    alto += "<note><grace/><pitch><step>C</step><octave>5</octave></pitch></note>" + NOTE.format("E", "", 4, 8, held)
    low = NOTE.format("F", "<alter>1</alter>", 3, 24, "")
    write_piece(tmp_path, "hand", [soprano, alto, low, low])
    write_piece(tmp_path, "duet", [soprano, alto])
    monkeypatch.setattr(chorales, "_folder", lambda: tmp_path)
    pieces = chorales._pieces.__wrapped__()
    assert set(pieces) == {"hand"}
    sharps, voices = pieces["hand"]
    assert sharps == -2
    pitch, onset, fermata = chorales._on_grid(voices, 4)
    assert pitch[:, 0].tolist() == [72, 72, 72, 72, 72, 72, 70, 69, 67, 67, 67, 67]  # the second A is off the grid
    assert onset[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert fermata.tolist() == [0] * 8 + [1] * 4
    assert pitch[:, 1].tolist() == [0] * 8 + [64] * 4
    assert pitch[:, 2].tolist() == [54] * 12
    assert chorales._on_grid(voices, 2)[1][:, 0].tolist() == [1, 0, 0, 1, 1, 0]


def test_a_transposed_melody_is_the_same_tune(monkeypatch):
    def voices(melody, length=1):
        return [[chorales.Note(i * length, (i + 1) * length, int(p), True, False) for i, p in enumerate(melody)]]

    rng = np.random.default_rng(0)
    first, second = 60 + rng.integers(12, size=(2, 30))
    pieces = {
        "first": first,
        "transposed": first + 5,
        "second": second,
        "with another end": np.append(first[:20], second[:10]),
        "inverted": 120 - first,
    }
    monkeypatch.setattr(chorales, "_pieces", lambda: {name: (0, voices(melody)) for name, melody in pieces.items()})
    tunes = chorales._tunes.__wrapped__()
    assert tunes["first"] == tunes["transposed"] == tunes["with another end"]
    assert len({tunes["first"], tunes["second"], tunes["inverted"]}) == 3


def test_what_is_missing_is_explained(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match="music21, which is not installed"):
            chorales._pieces.__wrapped__()
    with monkeypatch.context() as patch:
        spec = importlib.util.spec_from_file_location("music21", tmp_path / "__init__.py")
        patch.setattr(importlib.util, "find_spec", lambda name: spec)
        with pytest.raises(FileNotFoundError, match="without its corpus"):
            chorales._pieces.__wrapped__()
        (tmp_path / "corpus" / "bach").mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match="no four-part"):
            chorales._pieces.__wrapped__()
        chord = NOTE.format("C", "", 4, 8, "") + NOTE.format("E", "", 4, 8, "<chord/>")
        write_piece(tmp_path / "corpus" / "bach", "chords", [chord] * 4)
        with pytest.raises(ValueError, match="must be one melody"):
            chorales._pieces.__wrapped__()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="grid must be one of 'eighth', 'sixteenth', got 'half'"):
        inspect.unwrap(chorales.load)("half")
    with pytest.raises(TypeError, match="chorales must be a sequence of Chorale"):
        inspect.unwrap(chorales.split)([1, 2])
