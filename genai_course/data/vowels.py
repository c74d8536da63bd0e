"""Spoken vowels and diphthongs, synthesized from published averages.

Data card
    Origin    mean pitch and formants of ten American English vowels of 33 men, 28 women and 15 children: Peterson &
              Barney (1952), "Control methods used in a study of the vowels", J. Acoust. Soc. Am. 24:175-184, Table II,
              doi:10.1121/1.1906875. Checked against public copies, not the paper: F1-F3 against two, the pitch of men
              and women against one. The synthesizer, F4, F5, bandwidths, and scatter of speakers and tokens are ours
    License   published measurements, nothing to download; no recording is involved
    Size      any number of utterances, float32 at 16 kHz, about 4 ms of work each
    Splits    none; draw fresh utterances with a new key
    Known     vowel, group, formants and pitch at every moment (``formants``, ``f0``), the targets that were aimed at

Sound is a sum of the harmonics k f0(t) with the gains (1 / k) H(k f0): a glottal slope of -12 dB and lip radiation of
+6 dB an octave, and H the product of five two-pole resonances. Gains are linear between frames 10 ms apart, so a
moving formant makes no click, and no harmonic passes ``LIMIT``, so none folds back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Float32, Int

from genai_course import _check
from genai_course.data import rng_from_key

SAMPLE_RATE = 16_000  # Hz
HOP = 160  # samples between frames
LIMIT = 0.97 * SAMPLE_RATE / 2  # highest frequency of a harmonic, Hz
VOWELS = ("i", "ɪ", "ɛ", "æ", "ɑ", "ɔ", "ʊ", "u", "ʌ", "ɝ")
WORDS = ("heed", "hid", "head", "had", "hod", "hawed", "hood", "who'd", "hud", "heard")
GROUPS = ("men", "women", "children")
PITCH = np.array(  # mean F0 in Hz, [group, vowel]
    [
        [136, 135, 130, 127, 124, 129, 137, 141, 130, 133],
        [235, 232, 223, 210, 212, 216, 232, 231, 221, 218],
        [272, 269, 260, 251, 256, 263, 276, 274, 261, 261],
    ]
)
FORMANTS = np.array(  # mean F1, F2, F3 in Hz, [group, formant, vowel]
    [
        [
            [270, 390, 530, 660, 730, 570, 440, 300, 640, 490],
            [2290, 1990, 1840, 1720, 1090, 840, 1020, 870, 1190, 1350],
            [3010, 2550, 2480, 2410, 2440, 2410, 2240, 2240, 2390, 1690],
        ],
        [
            [310, 430, 610, 860, 850, 590, 470, 370, 760, 500],
            [2790, 2480, 2330, 2050, 1220, 920, 1160, 950, 1400, 1640],
            [3310, 3070, 2990, 2850, 2810, 2710, 2680, 2670, 2780, 1960],
        ],
        [
            [370, 530, 690, 1010, 1030, 680, 560, 430, 850, 560],
            [3200, 2730, 2610, 2320, 1370, 1060, 1410, 1170, 1590, 1820],
            [3730, 3600, 3570, 3320, 3170, 3180, 3310, 3260, 3360, 2160],
        ],
    ]
).swapaxes(1, 2)  # now [group, vowel, formant]
UPPER = np.array([[3500, 4500], [4100, 5100], [4600, 5600]])  # F4, F5 in Hz by group
BANDWIDTHS = np.array([60, 90, 150, 200, 300])  # Hz
BANDS = 700 * (10 ** (np.linspace(150.5, 2458.2, 32) / 2595) - 1)  # Hz, 100 to 5,500, evenly spaced in mel
WIDEN = 60  # Hz added to the bandwidths of a track's envelope, so that no resonance falls between two bands


@dataclass(frozen=True)
class Utterances:
    """``n`` utterances; frames are ``HOP`` samples apart and include both ends. Frequencies in Hz."""

    audio: Float32[np.ndarray, "n samples"]  # within [-0.9, 0.9]; no samples if not asked for
    vowel: Int[np.ndarray, " n"]  # index into VOWELS, at the start
    end_vowel: Int[np.ndarray, " n"]  # the same again unless a diphthong
    group: Int[np.ndarray, " n"]  # index into GROUPS
    targets: Float32[np.ndarray, "n 2 3"]  # F1, F2, F3 aimed at, at start and end
    formants: Float32[np.ndarray, "n frames 5"]
    f0: Float32[np.ndarray, "n frames"]


def _response(formants, frequency, widen=0.0):
    """Complex gain [..., k] at ``frequency [..., k]`` of two-pole resonances [..., 5] with unit gain at 0 Hz."""
    z = np.exp(-2j * np.pi * frequency / SAMPLE_RATE)
    radius = np.exp(-np.pi * (BANDWIDTHS + widen) / SAMPLE_RATE)
    gain = 1.0
    for r, center in zip(radius, np.moveaxis(formants, -1, 0)[..., None]):
        c = 2 * r * np.cos(2 * np.pi * center / SAMPLE_RATE)
        gain = gain * (1 - c + r * r) / (1 - c * z + r * r * z * z)
    return gain


def _harmonics(f0):
    """Frequencies [frames, k] of the harmonics that stay below LIMIT."""
    return np.asarray(f0, float)[:, None] * np.arange(1, int(LIMIT / np.max(f0)) + 1)


def _additive(f0, gain):
    """Sum of sinusoids of frequencies k f0 and complex gains [frames, k], both linear between frames."""
    knots, ramp = HOP * np.arange(len(f0)), (np.arange(HOP) / HOP).astype(np.float32)
    phase = 2 * np.pi / SAMPLE_RATE * np.cumsum(np.interp(np.arange(knots[-1]), knots, f0))
    turn = np.exp(1j * phase).astype(np.complex64).reshape(-1, HOP)
    total, wave, gain = np.zeros(turn.shape, np.float32), turn, gain.astype(np.complex64)[..., None]
    for k in range(gain.shape[1]):
        total += (wave * (gain[:-1, k] + (gain[1:, k] - gain[:-1, k]) * ramp)).imag
        wave = wave * turn
    return total.ravel()


def synthesize(
    f0: Float[np.ndarray, " frames"], formants: Float[np.ndarray, "frames 5"]
) -> Float32[np.ndarray, " samples"]:
    """Return (frames - 1) HOP samples of a voice of pitch ``f0`` and five ``formants``, in Hz, at a peak of 0.9."""
    f0 = _check.array("f0", f0, ndim=1)
    formants = _check.array("formants", formants, shape=(len(f0), 5))
    if len(f0) < 2 or np.min(f0) < 20 or np.max(f0) > LIMIT:
        raise ValueError(f"f0 must hold at least 2 frames within 20 to {LIMIT:g} Hz, got {f0!r:.60}")
    if np.min(formants) <= 0 or np.max(formants) > SAMPLE_RATE / 2:
        raise ValueError(f"formants must lie within 0 to {SAMPLE_RATE / 2:g} Hz, got {formants!r:.60}")
    frequency = _harmonics(f0)
    return _level(_additive(f0, _response(formants, frequency) * f0[:, None] / frequency))


def _level(audio):
    return (0.9 * audio / np.abs(audio).max()).astype(np.float32)


def _fade(samples):
    x = np.linspace(0, 1, samples)
    return np.sin(np.pi / 2 * np.clip(np.minimum(x / 0.08, (1 - x) / 0.15), 0, 1)) ** 2


def sample(
    key: Array,
    n: int,
    *,
    vowels: Sequence[str] = VOWELS,
    groups: Sequence[str] = GROUPS,
    duration: float = 0.3,
    diphthong: bool = False,
    breath: float = 0.01,
    audio: bool = True,
) -> Utterances:
    """Draw ``n`` utterances of ``duration`` seconds, vowel and group uniform over the given ones.

    A diphthong glides from one vowel to another. A speaker scales all formants by exp(0.06 N), a token its formants by
    exp((0.05, 0.04, 0.03, 0.02, 0.02) N) and its pitch by exp(0.1 N), with N standard Gaussian. ``breath`` is the level
    of white noise relative to the voice. Without ``audio`` only the parameters are drawn, the same for the same key.
    """
    rng, n = rng_from_key(key), _check.integer("n", n)
    among = np.array(_indices("vowels", vowels, VOWELS, 1 + bool(diphthong)))
    duration = _check.number("duration", duration, least=0.02, most=10.0)
    breath = _check.number("breath", breath, least=0.0, most=1.0)
    group = rng.choice(_indices("groups", groups, GROUPS, 1), n)
    start = rng.integers(len(among), size=n)
    end = (start + rng.integers(1, len(among), n)) % len(among) if diphthong else start
    vowel, end_vowel = among[start], among[end]

    centers = [np.concatenate([FORMANTS[group, v], UPPER[group]], axis=1) for v in (vowel, end_vowel)]
    scatter = [0.05, 0.04, 0.03, 0.02, 0.02] * rng.normal(size=(n, 2, 5))
    if not diphthong:
        scatter[:, 1] = scatter[:, 0]
    targets = np.minimum(np.stack(centers, axis=1) * np.exp(scatter + 0.06 * rng.normal(size=(n, 1, 1))), LIMIT)
    t = np.linspace(0, 1, math.ceil(round(duration * SAMPLE_RATE) / HOP) + 1)
    s = np.clip((t - 0.2) / 0.6, 0, 1)[:, None]
    formants = targets[:, :1] + (targets[:, 1:] - targets[:, :1]) * s**2 * (3 - 2 * s)
    level, slope, phase = rng.normal(size=(n, 1)), rng.normal(size=(n, 1)), rng.random((n, 1))
    vibrato = 0.01 * np.sin(2 * np.pi * (5 * duration * t + phase))
    f0 = PITCH[group, vowel][:, None] * np.exp(0.1 * level) * (1 + 0.06 * slope * (t - 0.5) - 0.08 * t + vibrato)

    sound = np.zeros((n, round(duration * SAMPLE_RATE) if audio else 0), np.float32)
    if audio:
        fade = _fade(sound.shape[1])
        for i in range(n):
            voice = synthesize(f0[i], formants[i])[: len(fade)]
            sound[i] = _level(fade * (voice + breath * voice.std() * rng.normal(size=len(fade))))
    single = (a.astype(np.float32) for a in (targets[..., :3], formants, f0))
    return Utterances(sound, vowel, end_vowel, group, *single)


def _indices(name, words, known, least):
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise TypeError(f"{name} must be a sequence of words of {known}, got {words!r:.60}")
    found = [known.index(_check.choice(name, word, known)) for word in words]
    if len(set(found)) < max(least, len(found)):
        raise ValueError(f"{name} must be at least {least} different words of {known}, got {words!r:.60}")
    return found


def tracks(utterances: Utterances, frames: int = 12) -> Float32[np.ndarray, "n frames 33"]:
    """Return what a model of speech can learn from: at each frame the envelope in 32 bands, then the pitch.

    Envelope: 20 log10 |H(f)| - 6 log2(f / 100) in dB at ``BANDS``, less its mean over the utterance, with all
    bandwidths wider by ``WIDEN``. Pitch: 10 log2(f0 / 200).
    """
    if not isinstance(utterances, Utterances):
        raise TypeError(f"utterances must be what sample gives, got {type(utterances).__name__}")
    pick = np.linspace(0, utterances.f0.shape[1] - 1, _check.integer("frames", frames, least=2))
    low = np.minimum(pick.astype(int), utterances.f0.shape[1] - 2)
    weight = (pick - low)[:, None]
    both = np.concatenate([utterances.formants, utterances.f0[..., None]], axis=-1)
    both = both[:, low] * (1 - weight) + both[:, low + 1] * weight
    envelope = 20 * np.log10(np.abs(_response(both[..., :5], BANDS, WIDEN))) - 6 * np.log2(BANDS / 100)
    envelope -= envelope.mean(axis=(1, 2), keepdims=True)
    return np.concatenate([envelope, 10 * np.log2(both[..., 5:] / 200)], axis=-1).astype(np.float32)


def play(track: Float[np.ndarray, "frames 33"], duration: float = 0.3) -> Float32[np.ndarray, " samples"]:
    """Return the sound of one track, with all harmonics in phase and none above the last band, at a peak of 0.9."""
    track = np.asarray(_check.array("track", track, shape=(None, 33)), float)
    if len(track) < 2:
        raise ValueError(f"track must have at least 2 frames, got {len(track)}")
    count = math.ceil(round(_check.number("duration", duration, least=0.02, most=10.0) * SAMPLE_RATE) / HOP) + 1
    when = np.linspace(0, len(track) - 1, count)
    track = np.stack([np.interp(when, np.arange(len(track)), column) for column in track.T], axis=1)
    f0 = np.clip(200 * 2 ** (track[:, -1] / 10), 40, 1000)
    frequency = _harmonics(f0)
    db = np.stack([np.interp(f, BANDS, row, right=-200) for f, row in zip(frequency, track[:, :-1])])
    sound = _additive(f0, 10 ** (db / 20))[: round(duration * SAMPLE_RATE)]
    return _level(sound * _fade(len(sound)))
