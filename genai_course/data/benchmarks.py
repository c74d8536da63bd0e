"""Real data sets of the benchmark tier, each file pinned by its SHA-256; each loader's docstring is its data card.

Nothing is downloaded that is in the folder GENAI_COURSE_DATA names or in the cache folder (see ``_fetch``).
``python -m genai_course.data.benchmarks`` fetches all data sets, or the ones named; ``--list`` says what there is.
Arrays are read-only.
"""

import argparse
import gzip
import json
import re
import sys
import tarfile
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import scipy.io
from jaxtyping import Bool, Float, Float64, UInt8

from genai_course import _check
from genai_course.data._fetch import REGISTRY, fetch

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Images:
    """Gray images, 0 (background) to 255, with class numbers 0 to 9."""

    train_images: UInt8[np.ndarray, "n 28 28"]
    train_labels: UInt8[np.ndarray, " n"]
    test_images: UInt8[np.ndarray, "m 28 28"]
    test_labels: UInt8[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Splits(Generic[T]):
    """The three parts of a data set."""

    train: T
    valid: T
    test: T


@dataclass(frozen=True, eq=False)
class Reviews:
    """Texts with labels, the unfavorable (0) before the favorable (1), and texts without."""

    train_texts: tuple[str, ...]
    train_labels: UInt8[np.ndarray, " n"]
    test_texts: tuple[str, ...]
    test_labels: UInt8[np.ndarray, " m"]
    unlabeled_texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Pedestrians:
    """Recordings of five test scenes and of two that only train.

    A row is video frame, pedestrian, x, y (meters); a pedestrian has one row every 10 frames, which is 0.4 s.
    """

    eth: tuple[Float64[np.ndarray, "_ 4"], ...]
    hotel: tuple[Float64[np.ndarray, "_ 4"], ...]
    univ: tuple[Float64[np.ndarray, "_ 4"], ...]
    zara1: tuple[Float64[np.ndarray, "_ 4"], ...]
    zara2: tuple[Float64[np.ndarray, "_ 4"], ...]
    train_only: tuple[Float64[np.ndarray, "_ 4"], ...]


def windows(recording: Float[np.ndarray, "n 4"], length: int = 20) -> Float[np.ndarray, "w t 2"]:
    """Return every path of ``length`` consecutive positions (x, y) of one pedestrian, those that overlap too."""
    rows = _check.array("recording", recording, shape=(None, 4))
    _check.integer("length", length)
    rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
    starts = (np.diff(rows[:, 1], prepend=np.nan) != 0) | (np.diff(rows[:, 0], prepend=np.nan) != 10)
    run = np.cumsum(starts)  # number of the gapless stretch that a row belongs to
    first = np.flatnonzero(run[: max(len(run) - length + 1, 0)] == run[length - 1 :])
    return rows[first[:, None] + np.arange(length), 2:]


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _images(name: str) -> Images:
    parts = []
    for path in fetch(name).values():
        data = gzip.decompress(path.read_bytes())  # IDX: three bytes of type, the number of dimensions, their sizes
        shape = np.frombuffer(data, ">u4", data[3], offset=4)
        parts.append(np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape))
    return Images(*parts)


def mnist() -> Images:
    """MNIST: handwritten digits.

    Origin: LeCun, Cortes and Burges (1998). License: CC BY-SA 3.0, as stated by Keras. Size: 11.6 MB.
    Splits: 60,000 training and 10,000 test images.
    Known exactly: 28 by 28 pixels, 0 (paper) to 255 (ink); the files are the original ones.
    """
    return _images("mnist")


def fashion_mnist() -> Images:
    """Fashion-MNIST: clothes in MNIST's format.

    Origin: Xiao, Rasul and Vollgraf (2017). License: MIT. Size: 30.9 MB.
    Splits: 60,000 training and 10,000 test images.
    Known exactly: 6,000 and 1,000 of each class: 0 T-shirt, 1 trousers, 2 pullover, 3 dress, 4 coat, 5 sandal,
    6 shirt, 7 sneaker, 8 bag, 9 ankle boot.
    """
    return _images("fashion_mnist")


def binarized_mnist() -> Splits[UInt8[np.ndarray, "n 28 28"]]:
    """MNIST with each pixel drawn once: 1 with probability gray / 255, else 0.

    Origin: Salakhutdinov and Murray (2008), in the draw that Larochelle published and that reported nats refer to.
    License: not stated for the data. Size: 3.9 MB. Splits: 50,000 training, 10,000 validation, 10,000 test images.
    Known exactly: the test images are sorted by class; number i is drawn from number
    ``argsort(test_labels, kind="stable")[i]`` of MNIST's test images.
    """
    paths = fetch("binarized_mnist").values()
    parts = (np.ascontiguousarray(scipy.io.loadmat(path, appendmat=False)["X"]) for path in paths)
    return Splits(*(_frozen(part.reshape(-1, 28, 28)) for part in parts))


def tiny_shakespeare() -> Splits[str]:
    """Tiny Shakespeare: 40,000 lines from the plays.

    Origin: Karpathy's char-rnn (2015). License: text in the public domain, repository MIT. Size: 1.1 MB.
    Splits, in the order of the text: the first 90% (1,003,854 characters) to train; the rest, which nanoGPT validates
    on, in two halves of 55,770 as in TensorFlow Datasets.
    Known exactly: 1,115,394 characters, 65 of them distinct.
    """
    (path,) = fetch("tiny_shakespeare").values()
    text = path.read_bytes().decode("ascii")
    train, valid = len(text) * 9 // 10, len(text) * 19 // 20
    return Splits(text[:train], text[train:valid], text[valid:])


def names() -> Splits[tuple[str, ...]]:
    """First names given in the USA: those of girls, then those of boys, each the most frequent first.

    Origin: Karpathy's makemore (2022), from a public list of the US government. License: MIT. Size: 0.2 MB.
    Splits: none is published. Here crc32(name) modulo 10 decides (0: test, 1: valid, else: train), so that a name that
    is in both lists stays in one part.
    Known exactly: 18,029 and 14,004 names of the letters a to z, 29,494 of the 32,033 distinct.
    """
    (path,) = fetch("names").values()
    parts = defaultdict(list)
    for name in path.read_text("ascii").split():
        parts[min(zlib.crc32(name.encode()) % 10, 2)].append(name)
    return Splits(tuple(parts[2]), tuple(parts[1]), tuple(parts[0]))


def jsb_chorales() -> Splits[tuple[Bool[np.ndarray, "t 88"], ...]]:
    """JSB chorales: Bach's chorales in quarter notes, as piano rolls.

    Origin: Boulanger-Lewandowski, Bengio and Vincent (2012). License: not stated. Size: 0.4 MB.
    Splits, as published: 229 / 76 / 77 pieces with 13,807 / 4,602 / 4,725 steps.
    Known exactly: column k is MIDI pitch 21 + k; at most four notes sound at a time, not told apart by voice. The
    corpus of music21 has the same pieces: never train on one and test on the other.
    """

    def roll(piece):
        notes = np.array([(t, pitch - 21) for t, chord in enumerate(piece) for pitch in chord], int).reshape(-1, 2)
        keys = np.zeros((len(piece), 88), bool)
        keys[notes[:, 0], notes[:, 1]] = True
        return _frozen(keys)

    (path,) = fetch("jsb_chorales").values()
    splits = json.loads(path.read_text("ascii"))
    return Splits(*(tuple(map(roll, splits[part])) for part in ("train", "valid", "test")))


def eth_ucy() -> Pedestrians:
    """ETH and UCY: paths of pedestrians seen from above.

    Origin: Pellegrini et al. (2009); Lerner, Chrysanthou and Lischinski (2007); in the version of Trajectron++
    (Salzmann et al., 2020), whose biwi_eth has 5,492 rows where others have 8,908: say which one a number is for.
    License: not stated for the data. Size: 2.8 MB.
    Splits, as published: each test leaves one scene out and trains on all other recordings. eth: biwi_eth; hotel:
    biwi_hotel; univ: students001, students003; zara1: crowds_zara01; zara2: crowds_zara02. Only for training:
    crowds_zara03 and uni_examples, so that zara and univ are known places even when left out.
    Known exactly: 74,428 rows; 364, 1,197, 24,334, 2,356 and 5,910 ``windows`` of 20 (8 seen, 12 to predict).
    """
    r = {path.stem: _frozen(np.loadtxt(path, ndmin=2)) for path in fetch("eth_ucy").values()}
    return Pedestrians(
        eth=(r["biwi_eth"],),
        hotel=(r["biwi_hotel"],),
        univ=(r["students001"], r["students003"]),
        zara1=(r["crowds_zara01"],),
        zara2=(r["crowds_zara02"],),
        train_only=(r["crowds_zara03"], r["uni_examples"]),
    )


def imdb() -> Reviews:
    """IMDB: movie reviews, as raw text.

    Origin: Maas et al. (2011). License: not stated. Size: 84 MB; the archive is read as a stream and never unpacked,
    and only plain files that are named as reviews count.
    Splits: 25,000 training and 25,000 test texts with labels, 50,000 without.
    Known exactly: half of the labels are 1. Favorable is 7 to 10 stars, unfavorable 1 to 4; no movie is in both parts.
    """
    (path,) = fetch("imdb").values()
    found = defaultdict(list)
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            review = re.fullmatch(r"aclImdb/(train|test)/(neg|pos|unsup)/(\d+)_\d+\.txt", member.name)
            if review and member.isreg():
                found[review[1], review[2]].append((int(review[3]), archive.extractfile(member).read().decode("utf-8")))
            archive.members.clear()  # or the headers of 100,000 files would stay in memory

    def texts(*groups):
        return tuple(text for group in groups for _, text in sorted(found[group]))

    def labels(*groups):
        return _frozen(np.repeat(np.uint8([0, 1]), [len(found[group]) for group in groups]))

    train, test = ([(part, "neg"), (part, "pos")] for part in ("train", "test"))
    return Reviews(texts(*train), labels(*train), texts(*test), labels(*test), texts(("train", "unsup")))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 0 if every data set asked for is there."""
    parser = argparse.ArgumentParser(prog="python -m genai_course.data.benchmarks", description="Fetch data sets.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(REGISTRY)} (default: all)")
    parser.add_argument("--list", action="store_true", help="print name, size and license, and fetch nothing")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(REGISTRY):
        parser.error(f"no data set {', '.join(sorted(unknown))}; there is {', '.join(REGISTRY)}")
    failed = 0
    for name in options.names or REGISTRY:
        size = sum(size for size, _ in REGISTRY[name].files.values()) / 1e6
        if options.list:
            print(f"{name:<17}{size:6.1f} MB  {REGISTRY[name].license}")
            continue
        try:
            print(name, *fetch(name).values(), sep="\n  ")
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
