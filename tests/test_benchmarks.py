"""Loaders of the benchmark data sets: on small files of the right formats, and on the real ones where they are given.

The real files are looked for in GENAI_COURSE_DATA alone and never downloaded here. Fashion-MNIST and IMDB have so far
been loaded from small files only.
"""

import gzip
import hashlib
import inspect
import io
import json
import os
import pickle
import struct
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from genai_course.data import _fetch, benchmarks

RNG = np.random.default_rng(1)


@pytest.fixture
def give(tmp_path, monkeypatch):
    """Return a function that puts files where a user would, in place of the real ones, and forbids to unpickle."""
    monkeypatch.setenv("GENAI_COURSE_DATA", str(tmp_path))
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)

    def put(name, *contents):
        old = _fetch.REGISTRY[name]
        pins = [(len(data), hashlib.sha256(data).hexdigest()) for data in contents]
        source = old._replace(mirrors=[], files=dict(zip(old.files, pins, strict=True)))
        monkeypatch.setitem(_fetch.REGISTRY, name, source)
        (tmp_path / old.folder).mkdir()
        for file, data in zip(old.files, contents):
            (tmp_path / old.folder / file).write_bytes(data)

    return put


def idx(array):
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize(("n", "m"), [(5, 3), (1, 0)])
def test_idx(give, name, n, m):
    arrays = [RNG.integers(0, 256, s, np.uint8) for s in ((n, 28, 28), n, (m, 28, 28), m)]
    give(name, *map(idx, arrays))
    images = getattr(benchmarks, name)()
    for got, want in zip((images.train_images, images.train_labels, images.test_images, images.test_labels), arrays):
        np.testing.assert_array_equal(got, want, strict=True)
        assert not got.flags.writeable


def test_binarized_mnist(give):
    arrays, files = [RNG.integers(0, 2, (n, 784), np.uint8) for n in (4, 3, 1)], []
    for array in arrays:
        scipy.io.savemat(file := io.BytesIO(), {"X": array}, do_compression=True)
        files.append(file.getvalue())
    give("binarized_mnist", *files)
    splits = benchmarks.binarized_mnist()
    for got, want in zip((splits.train, splits.valid, splits.test), arrays):
        np.testing.assert_array_equal(got, want.reshape(-1, 28, 28), strict=True)
        assert not got.flags.writeable
        assert got.flags.c_contiguous


@pytest.mark.parametrize("length", [1, 10, 19, 20, 1001])
def test_tiny_shakespeare(give, length):
    text = "".join(RNG.choice(list("abc d\n"), length))
    give("tiny_shakespeare", text.encode())
    splits = benchmarks.tiny_shakespeare()
    assert splits.train + splits.valid + splits.test == text
    assert len(splits.train) == int(0.9 * length)
    assert abs(len(splits.valid) - len(splits.test)) <= 1


def test_names(give):
    words = ["".join(RNG.choice(list("abcdefgh"), 3)) for _ in range(2000)]
    give("names", "\n".join(words).encode())
    splits = benchmarks.names()
    parts = [splits.train, splits.valid, splits.test]
    assert Counter(words) == sum(map(Counter, parts), Counter())
    assert len(set(words)) == sum(len(set(part)) for part in parts)  # so no name is in two parts
    assert all(150 < len(part) < 1700 for part in parts)


def test_jsb_chorales(give):
    pieces = {"test": [[[21]]], "train": [[[60, 64, 67, 72], [], [108]], [[]]], "valid": [[[], [60, 61]]]}
    give("jsb_chorales", json.dumps(pieces).encode())
    splits = benchmarks.jsb_chorales()
    for part, want in pieces.items():
        rolls = getattr(splits, part)
        assert [[(np.flatnonzero(step) + 21).tolist() for step in roll] for roll in rolls] == want
        assert all(roll.dtype == bool and roll.shape[1] == 88 and not roll.flags.writeable for roll in rolls)


def test_eth_ucy(give):
    tables = {file: RNG.integers(-99, 99, (n + 1, 4)) / 4 for n, file in enumerate(_fetch.REGISTRY["eth_ucy"].files)}
    give("eth_ucy", *("\n".join("\t".join(map(str, row)) for row in t.tolist()).encode() for t in tables.values()))
    scenes = benchmarks.eth_ucy()
    assert [len(r) for r in scenes.univ] == [len(tables["students001.txt"]), len(tables["students003.txt"])]
    loaded = [r for scene in vars(scenes).values() for r in scene]
    assert sorted(r.tolist() for r in loaded) == sorted(t.tolist() for t in tables.values())
    for scene, file in {"eth": "biwi_eth", "hotel": "biwi_hotel", "zara1": "crowds_zara01"}.items():
        (recording,) = getattr(scenes, scene)
        np.testing.assert_array_equal(recording, tables[f"{file}.txt"])
        assert not recording.flags.writeable


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [0, 1, 2, 60])
def test_windows_are_all_the_runs_without_a_gap(rows, length):
    """Against a search that knows no sorting: every pedestrian, every start, is the next frame there?"""
    cells = RNG.choice(120, rows, replace=False)  # 3 pedestrians, 40 frames, half of the cells empty
    recording = np.c_[10.0 * (cells % 40), cells // 40, RNG.normal(size=(rows, 2))]
    place = {(p, f): (x, y) for f, p, x, y in recording.tolist()}
    runs = [[(p, f + 10 * t) for t in range(length)] for p, f in sorted(place)]
    want = [[place[cell] for cell in run] for run in runs if all(cell in place for cell in run)]
    got = benchmarks.windows(recording, length)
    np.testing.assert_array_equal(got, np.reshape(want, (-1, length, 2)))


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("recording", (bad,))
        for bad in (np.zeros(4), np.zeros((3, 3)), np.full((2, 4), np.nan), "x", None, [[1, 2], [3]])
    ]
    + [("length", (np.zeros((3, 4)), bad)) for bad in (0, -1, 2.0, True, None, "2")],
)
def test_windows_names_a_bad_argument(argument, arguments):
    with pytest.raises((ValueError, TypeError), match=f"^{argument} must"):
        inspect.unwrap(benchmarks.windows)(*arguments)


def archive(*members):
    """Return a .tar.gz of (name, text, changes to the header)."""
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w:gz") as tar:
        for name, text, changes in members:
            header = tarfile.TarInfo(name)
            header.size = len(text.encode())
            for attribute, value in changes.items():
                setattr(header, attribute, value)
            tar.addfile(header, io.BytesIO(text.encode()))
    return file.getvalue()


def test_imdb_reads_reviews_and_nothing_else(give, tmp_path, monkeypatch):
    reviews = {
        ("train", "neg"): ["awful", "no <br /> good"],
        ("train", "pos"): ["fine, très fine", "great", ""],
        ("test", "neg"): ["bad"],
        ("test", "pos"): ["good"],
        ("train", "unsup"): [f"text {i}" for i in range(12)],
    }
    named = [(f"aclImdb/{a}/{b}/{i}_8.txt", text, {}) for (a, b), ts in reviews.items() for i, text in enumerate(ts)]
    link = {"linkname": "../../../../etc/passwd", "size": 0}
    tricks = [
        ("../aclImdb/train/pos/90_8.txt", "outside", {}),
        ("/aclImdb/train/pos/91_8.txt", "absolute", {}),
        ("aclImdb/train/pos/../../../92_8.txt", "above", {}),
        ("aclImdb/train/pos/93_8.txt/../../../../x", "above", {}),
        ("aclImdb/train/pos/94_8.txt\n", "line", {}),
        ("aclImdb/train/pos/95_8.txt", "", {"type": tarfile.SYMTYPE, **link}),
        ("aclImdb/train/pos/96_8.txt", "", {"type": tarfile.LNKTYPE, **link}),
        ("aclImdb/train/pos/97_8.txt", "", {"type": tarfile.DIRTYPE}),
        ("aclImdb/train/pos/98_8.txt", "", {"type": tarfile.FIFOTYPE}),
        ("aclImdb/train/pos/99_8.txt", "", {"type": tarfile.CHRTYPE}),
        ("aclImdb/test/unsup.txt", "no review", {}),
        ("aclImdb/train/urls_pos.txt", "http://example.org", {}),
    ]
    members = named + tricks
    give("imdb", archive(*(members[i] for i in np.random.default_rng(2).permutation(len(members)))))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    loaded = benchmarks.imdb()
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked
    for part in ("train", "test"):
        bad, good = reviews[part, "neg"], reviews[part, "pos"]
        assert list(getattr(loaded, f"{part}_texts")) == bad + good
        assert getattr(loaded, f"{part}_labels").tolist() == [0] * len(bad) + [1] * len(good)
    assert list(loaded.unlabeled_texts) == reviews["train", "unsup"]  # 2 before 10
    with pytest.raises(AttributeError):
        loaded.train_texts = ()


@pytest.fixture
def real(monkeypatch):
    """Return a function that loads a data set from the user's folder, and skips the test if it is not there."""

    def load(name):
        root, source = os.environ.get("GENAI_COURSE_DATA"), _fetch.REGISTRY[name]
        if not root or not all((Path(root).expanduser() / source.folder / file).exists() for file in source.files):
            pytest.skip(f"GENAI_COURSE_DATA has no {name}")
        monkeypatch.setitem(_fetch.REGISTRY, name, source._replace(mirrors=[]))
        return getattr(benchmarks, name)()

    return load


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_images(real, name):
    """Counts of the classes as published: MNIST's are uneven, Fashion-MNIST's even."""
    images = real(name)
    assert images.train_images.shape == (60_000, 28, 28)
    assert images.test_images.shape == (10_000, 28, 28)
    counts = np.bincount(images.train_labels).tolist(), np.bincount(images.test_labels).tolist()
    if name == "fashion_mnist":
        assert counts == ([6000] * 10, [1000] * 10)
    else:
        assert counts[0] == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        assert counts[1] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        scaled = images.train_images / 255  # the two constants that countless programs normalize with
        assert (round(scaled.mean(), 4), round(scaled.std(), 4)) == (0.1307, 0.3081)


def test_real_binarized_mnist(real):
    splits, images = real("binarized_mnist"), real("mnist")
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [50_000, 10_000, 10_000]
    assert all(part.max() == 1 and part.dtype == np.uint8 for part in (splits.train, splits.valid, splits.test))
    gray = images.test_images[np.argsort(images.test_labels, kind="stable")]
    impossible = ((gray == 0) & (splits.test == 1)) | ((gray == 255) & (splits.test == 0))
    assert not impossible.any()
    p = gray / 255
    assert abs((splits.test - p).sum() / np.sqrt((p * (1 - p)).sum())) < 4  # and as often 1 as gray says


def test_real_tiny_shakespeare(real):
    splits = real("tiny_shakespeare")
    text = splits.train + splits.valid + splits.test
    assert (len(text), len(set(text)), text.count("\n")) == (1_115_394, 65, 40_000)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1_003_854, 55_770, 55_770)


def test_real_names(real):
    """The likelihood of makemore's bigram counts is published: 2.4540 nats a character."""
    splits = real("names")
    words = splits.train + splits.valid + splits.test
    assert (len(words), len(set(words))) == (32_033, 29_494)
    pairs = Counter(pair for word in words for pair in zip("." + word, word + "."))
    first = Counter()
    for (a, _), count in pairs.items():
        first[a] += count
    nats = -sum(count * np.log(count / first[a]) for (a, _), count in pairs.items()) / sum(pairs.values())
    assert round(nats, 4) == 2.4540


def test_real_jsb_chorales(real):
    splits = real("jsb_chorales")
    parts = splits.train, splits.valid, splits.test
    assert [len(part) for part in parts] == [229, 76, 77]
    assert [sum(map(len, part)) for part in parts] == [13_807, 4_602, 4_725]
    assert max(roll.sum(1).max() for part in parts for roll in part) == 4


def test_real_eth_ucy(real):
    """Errors of the constant-velocity forecast as published by Schöller et al. (2020): mean, and last step for eth."""
    scenes = real("eth_ucy")
    assert sum(len(r) for scene in vars(scenes).values() for r in scene) == 74_428
    counts, errors = [], {}
    for scene in ("eth", "hotel", "univ", "zara1", "zara2"):
        paths = np.concatenate([benchmarks.windows(r) for r in getattr(scenes, scene)])
        forecast = paths[:, 7:8] + np.arange(1, 13)[:, None] * (paths[:, 7] - paths[:, 6])[:, None]
        distance = np.linalg.norm(forecast - paths[:, 8:], axis=-1)
        counts.append(len(paths))
        errors[scene] = distance[:, -1].mean() if scene == "eth" else distance.mean()
    assert counts == [364, 1197, 24_334, 2356, 5910]
    assert errors == pytest.approx({"eth": 2.28, "hotel": 0.32, "univ": 0.52, "zara1": 0.43, "zara2": 0.32}, abs=0.005)


def test_real_imdb(real):
    reviews = real("imdb")
    assert [len(t) for t in (reviews.train_texts, reviews.test_texts, reviews.unlabeled_texts)] == [
        25_000,
        25_000,
        50_000,
    ]
    assert reviews.train_labels.mean() == reviews.test_labels.mean() == 0.5
