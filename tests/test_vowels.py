"""Synthetic vowels: what SciPy measures in the sound is what the record says."""

import inspect
from itertools import pairwise

import jax
import numpy as np
import pytest
from scipy import linalg, signal, stats

from genai_course.data import vowels

RATE = vowels.SAMPLE_RATE


def lpc_formants(sound, order):
    """Resonances in Hz by linear prediction, autocorrelation method, after pre-emphasis."""
    sound = signal.lfilter([1, -0.97], [1], sound.astype(float)) * np.hamming(len(sound))
    r = np.correlate(sound, sound, "full")[len(sound) - 1 :]
    poles = np.roots(np.r_[1, -linalg.solve_toeplitz(r[:order], r[1 : order + 1])])
    poles = poles[(poles.imag > 0) & (np.abs(poles) > np.exp(-np.pi * 600 / RATE))]
    found = np.sort(np.angle(poles) * RATE / (2 * np.pi))
    return found[found > 150]


def formant_errors(sounds, groups, truth):
    """Relative distance [n, 3] of each true formant to the nearest resonance; men get a finer predictor."""
    found = [lpc_formants(s, 18 if g == 0 else 14) for s, g in zip(sounds, groups)]
    return np.array([[np.abs(f - t).min() / t for t in row[:3]] for f, row in zip(found, truth)])


def pitch(sound):
    """Fundamental in Hz: the highest peak of the autocorrelation between 80 and 400 Hz, refined by a parabola."""
    r = np.correlate(sound, sound, "full")[len(sound) - 1 :]
    k = RATE // 400 + r[RATE // 400 : RATE // 80].argmax()
    a, b, c = r[k - 1 : k + 2]
    return RATE / (k + 0.5 * (a - c) / (a - 2 * b + c))


def share_above(sound, frequency):
    """Part of the energy above ``frequency``, in dB."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return 10 * np.log10(power[np.fft.rfftfreq(len(sound), 1 / RATE) > frequency].sum() / power.sum())


def cascade(formants, frequency, widen=0):
    """Gain of five two-pole resonances by SciPy's filter response."""
    gain = 1
    for center, width in zip(formants, vowels.BANDWIDTHS + widen):
        r = np.exp(-np.pi * width / RATE)
        a = [1, -2 * r * np.cos(2 * np.pi * center / RATE), r * r]
        gain = gain * signal.freqz([sum(a)], a, frequency, fs=RATE)[1]
    return np.abs(gain)


@pytest.fixture(scope="module")
def spoken():
    return vowels.sample(jax.random.key(0), 150)


def test_table_is_ordered_as_voices_are():
    assert vowels.PITCH.shape == (3, 10)
    assert vowels.FORMANTS.shape == (3, 10, 3)
    assert len(vowels.VOWELS) == len(vowels.WORDS) == 10
    every = np.concatenate(
        [vowels.PITCH[..., None], vowels.FORMANTS, np.broadcast_to(vowels.UPPER[:, None], (3, 10, 2))], 2
    )
    assert (np.diff(every, axis=2) > 0).all()  # F0 < F1 < ... < F5
    assert (np.diff(every, axis=0) > 0).all()  # men < women < children
    f1, f2, f3 = np.moveaxis(vowels.FORMANTS, 2, 0)
    names = np.array(vowels.VOWELS)
    assert set(names[f2.argmax(axis=1)]) == set(names[f1.argmin(axis=1)]) == {"i"}  # the closest and most frontal
    assert set(names[f3.argmin(axis=1)]) == {"ɝ"}  # r-coloring is a low F3
    assert set(names[f1.argmax(axis=1)]) <= {"ɑ", "æ"}  # the most open


def test_synthesizer_is_the_stated_sum_of_harmonics():
    """One second at 230 Hz: lines at multiples of 230 with gains |H| / k and nothing between, so nothing folds back."""
    formants = np.array([500.0, 1500, 2500, 3500, 4500])
    sound = vowels.synthesize(np.full(101, 230.0), np.tile(formants, (101, 1)))
    assert sound.shape == (RATE,)
    spectrum = np.abs(np.fft.rfft(sound.astype(float)))
    lines = np.arange(1, int(vowels.LIMIT / 230) + 1)
    exact = cascade(formants, 230 * lines) / lines
    np.testing.assert_allclose(spectrum[230 * lines] / spectrum[230], exact / exact[0], rtol=1e-4, atol=1e-6)
    spectrum[230 * lines] = 0
    assert spectrum.max() < 1e-5 * RATE


@pytest.mark.parametrize("group", range(3))
def test_linear_prediction_finds_the_formants(group, spoken):
    chosen = np.flatnonzero(spoken.group == group)
    middle = spoken.formants[chosen, 15]
    errors = formant_errors(spoken.audio[chosen, 1600:3200], spoken.group[chosen], middle)
    assert (np.median(errors, axis=0) < [0.06, 0.025, 0.02]).all()  # F1 falls between the harmonics of a high voice
    wrong = formant_errors(spoken.audio[chosen, 1600:3200], spoken.group[chosen], 1.12 * middle)
    assert (np.median(wrong, axis=0) > [0.06, 0.025, 0.02]).all()


def test_autocorrelation_finds_the_pitch(spoken):
    ratio = [pitch(s[2000:2800]) / f for s, f in zip(spoken.audio, spoken.f0[:, 15])]
    assert np.median(np.abs(np.log(ratio))) < 0.002
    assert np.mean(np.abs(np.log(ratio)) < 0.01) > 0.97


def test_audio_is_in_range_and_starts_and_ends_in_silence(spoken):
    assert spoken.audio.dtype == np.float32
    assert spoken.audio.shape == (150, 4800)
    np.testing.assert_allclose(np.abs(spoken.audio).max(axis=1), 0.9, rtol=1e-6)
    assert np.abs(spoken.audio[:, [0, -1]]).max() < 1e-6
    assert vowels.sample(jax.random.key(1), 1, duration=0.1234).audio.shape == (1, 1974)


def test_moving_formants_do_not_click_and_nothing_is_above_the_limit():
    glides = vowels.sample(jax.random.key(2), 30, diphthong=True, breath=0.0).audio
    assert max(share_above(s, vowels.LIMIT + 100) for s in glides) < -80
    cut = [np.concatenate([a[:2000], b[2000:]]) for a, b in pairwise(glides)]  # a click for comparison
    assert np.median([share_above(s, vowels.LIMIT + 100) for s in cut]) > -60


def test_diphthongs_begin_and_end_at_their_targets():
    d = vowels.sample(jax.random.key(3), 100, duration=0.6, diphthong=True)
    assert (d.vowel != d.end_vowel).all()
    np.testing.assert_allclose(d.formants[:, [0, -1], :3], d.targets, rtol=1e-6)
    for side, part in enumerate([slice(700, 1900), slice(7700, 8900)]):
        errors = formant_errors(d.audio[:, part], d.group, d.targets[:, side])
        assert (np.median(errors, axis=0) < [0.06, 0.025, 0.02]).all()
        other = formant_errors(d.audio[:, part], d.group, d.targets[:, 1 - side])
        assert (np.median(other, axis=0)[:2] > [0.1, 0.1]).all()
    plain = vowels.sample(jax.random.key(3), 20, audio=False)
    np.testing.assert_array_equal(plain.vowel, plain.end_vowel)
    np.testing.assert_array_equal(plain.formants, plain.formants[:, :1].repeat(31, axis=1))


def test_same_key_same_sound(spoken):
    again, other = (vowels.sample(jax.random.key(seed), 150) for seed in (0, 1))
    silent = vowels.sample(jax.random.key(0), 150, audio=False)
    assert silent.audio.shape == (150, 0)
    for field in ("audio", "vowel", "end_vowel", "group", "targets", "formants", "f0"):
        assert np.array_equal(getattr(spoken, field), getattr(again, field)), field
        assert not np.array_equal(getattr(spoken, field), getattr(other, field)), field
        assert field == "audio" or np.array_equal(getattr(spoken, field), getattr(silent, field)), field


def test_parameters_have_the_stated_law():
    u = vowels.sample(jax.random.key(4), 20_000, audio=False)
    assert stats.chisquare(np.bincount(u.vowel, minlength=10)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(u.group, minlength=3)).pvalue > 1e-3
    z = np.log(u.targets[:, 0] / vowels.FORMANTS[u.group, u.vowel])
    exact = 0.06**2 + np.diag([0.05, 0.04, 0.03]) ** 2
    spread = np.sqrt((np.outer(np.diag(exact), np.diag(exact)) + exact**2) / len(z))  # standard error of a covariance
    assert np.abs((np.cov(z.T) - exact) / spread).max() < 4
    assert np.abs(z.mean(axis=0) / np.sqrt(np.diag(exact) / len(z))).max() < 4
    assert (np.diff(u.formants[:, 0], axis=1) > 0).mean() > 0.9999
    some = vowels.sample(jax.random.key(4), 500, vowels=("u", "ɑ"), groups=["women"], audio=False)
    assert set(some.vowel) == {vowels.VOWELS.index("u"), vowels.VOWELS.index("ɑ")}
    assert set(some.group) == {1}


def test_tracks_are_the_stated_envelope_and_pitch(spoken):
    track = vowels.tracks(spoken, frames=16)
    assert track.shape == (150, 16, 33)
    assert track.dtype == np.float32
    for i in range(5):
        at = [cascade(f, vowels.BANDS, vowels.WIDEN) for f in spoken.formants[i, ::2]]  # 31 frames, every other one
        exact = 20 * np.log10(at) - 6 * np.log2(vowels.BANDS / 100)
        np.testing.assert_allclose(track[i, :, :32], exact - exact.mean(), atol=1e-3)
        np.testing.assert_allclose(200 * 2 ** (track[i, :, 32] / 10), spoken.f0[i, ::2], rtol=1e-5)


def test_a_played_track_has_its_formants_and_pitch(spoken):
    sounds = np.array([vowels.play(t) for t in vowels.tracks(spoken)[:60]])
    assert sounds.shape == (60, 4800)
    np.testing.assert_allclose(np.abs(sounds).max(axis=1), 0.9, rtol=1e-6)
    errors = formant_errors(sounds[:, 1600:3200], spoken.group, spoken.formants[:60, 15])
    assert (np.median(errors, axis=0) < [0.06, 0.025, 0.02]).all()
    ratio = [pitch(s[2000:2800]) / f for s, f in zip(sounds, spoken.f0[:, 15])]
    assert np.median(np.abs(np.log(ratio))) < 0.003
    assert max(share_above(s, 6500) for s in sounds) < -80


NAN, FLAT = float("nan"), np.tile([500.0, 1500, 2500, 3500, 4500], (5, 1))
BAD_SAMPLE = [
    ("n", 0), ("n", -3), ("n", 1.0), ("n", True), ("n", "2"), ("vowels", "i"), ("vowels", ()), ("vowels", ("x",)),
    ("vowels", ("i", "i")), ("vowels", (3,)), ("groups", "men"), ("groups", ("dogs",)), ("groups", []),
    ("vowels", None), ("vowels", (["i"],)), ("duration", 0.0), ("duration", NAN), ("duration", 11.0), ("duration", "1"),
    ("breath", -0.1), ("breath", 2.0), ("breath", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_SAMPLE)
def test_bad_sample_arguments_are_named(name, value):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}\b"):
        inspect.unwrap(vowels.sample)(jax.random.key(0), **{"n": 2, name: value})


def test_other_bad_arguments_are_named():
    few = vowels.sample(jax.random.key(0), 2, audio=False)
    calls = [(vowels.sample, (jax.random.key(0), 2), {"vowels": ["i"], "diphthong": True}, "vowels")]
    for f0 in (np.full(1, 100.0), np.full(5, 5.0), np.full(5, 9e3), np.full(5, NAN), np.ones((5, 1)), "voice"):
        calls.append((vowels.synthesize, (f0, FLAT[: len(f0)]), {}, "f0"))
    for formants in (FLAT[:3], FLAT[:, :4], -FLAT, 3 * FLAT, FLAT * NAN):
        calls.append((vowels.synthesize, (np.full(5, 100.0), formants), {}, "formants"))
    calls += [(vowels.tracks, (few, frames), {}, "frames") for frames in (0, 1, 2.0)]
    calls.append((vowels.tracks, (few.formants,), {}, "utterances"))
    for track in (np.zeros(33), np.zeros((1, 33)), np.zeros((3, 32)), np.full((3, 33), NAN), None):
        calls.append((vowels.play, (track,), {}, "track"))
    calls += [(vowels.play, (np.zeros((3, 33)), duration), {}, "duration") for duration in (0.0, NAN, "a")]
    for function, arguments, options, name in calls:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}\b"):
            inspect.unwrap(function)(*arguments, **options)
