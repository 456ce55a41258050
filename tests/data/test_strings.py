"""Plucked strings: the note that was asked, its decay, and the harmonics that the pluck leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.plucked import Strings, frequency, pluck

RATE = 8000.0
SMALL = {"source": "strings", "samples": 160}


@pytest.fixture(scope="module")
def strings() -> Dataset:
    return load(DataConfig.model_validate(SMALL))


def one(hertz: float, *, at: float = 0.3, decay: float = 2.0, length: int = 4000) -> np.ndarray:
    """A string without noise `(length,)`."""
    each = (np.array([v]) for v in (hertz, at, decay, 0.5e-3))
    return pluck(Strings(*each, rattle=0.0), length, RATE, np.random.default_rng(0))[0]


def strength(x: np.ndarray, hertz: float) -> float:
    """Of the harmonic at `hertz`, under a Hann window."""
    t = np.arange(len(x)) / RATE
    return float(np.abs((x * np.hanning(len(x))) @ np.exp(-2j * np.pi * hertz * t)))


@pytest.mark.parametrize(
    ("note", "hertz"),
    [("A4", 440.0), ("A3", 220.0), ("C4", 261.6256), ("C#4", 277.1826), ("Bb2", 116.5409), ("Cb4", 246.9417)],
)
def test_notes_are_those_of_equal_temperament(note: str, hertz: float) -> None:
    assert frequency(note) == pytest.approx(hertz, rel=1e-6)


@pytest.mark.parametrize("note", ["H3", "C", "", "4", "C3x"])
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(CallError, match="note"):
        DataConfig.model_validate({**SMALL, "notes": [note]})


@pytest.mark.parametrize("hertz", [98.3, 110.0, 146.83, 233.08, 261.63, 391.2])
def test_the_pitch_is_right_to_two_cents_whatever_the_period(hertz: float) -> None:
    x = one(hertz)
    near = hertz * 2.0 ** (np.linspace(-20, 20, 161) / 1200)
    loudest = near[np.argmax([strength(x, f) for f in near])]
    assert abs(1200 * np.log2(loudest / hertz)) <= 2.0


@pytest.mark.parametrize("decay", [0.3, 0.6, 1.2])
def test_the_first_harmonic_falls_by_60_db_in_the_time_asked(decay: float) -> None:
    x, gap = one(130.0, decay=decay), 1600
    first, second = strength(x[400:1600], 130.0), strength(x[400 + gap : 1600 + gap], 130.0)
    fallen = 20 * np.log10(first / second)
    assert fallen == pytest.approx(60 * gap / RATE / decay, rel=0.05)


@pytest.mark.parametrize("missing", [2, 3, 4, 5])
def test_the_place_of_the_pluck_takes_out_harmonics(missing: int) -> None:
    x = one(125.0, at=1 / missing, length=1000)
    each = np.array([strength(x, 125.0 * k) for k in range(1, 7)])
    assert each[missing - 1] < 0.05 * np.delete(each, missing - 1)[: missing - 1].min()


def test_a_force_pushes_as_much_as_it_pulls() -> None:
    x = one(125.0, decay=50.0)  # 64 steps a period
    assert abs(x[64:1344].mean()) < 0.01 * np.abs(x).max()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_sounds_are_in_range_and_notes_equally_frequent(split: str, strings: Dataset) -> None:
    part = strings.split(split)
    assert part.y is not None
    loudest = part.x.abs().amax(1)
    assert (loudest <= 0.95 + 1e-6).all()
    assert (loudest >= 0.4 - 1e-6).all()
    counts = torch.bincount(part.y, minlength=8)
    assert counts.max() - counts.min() <= 1
    for name, (low, high) in {"pluck": (0.08, 0.5), "decay": (0.25, 1.5)}.items():
        values = part.column(name).data
        assert values.shape == part.y.shape
        assert low <= values.min() < values.max() <= high


def test_the_same_seed_gives_the_same_sounds_and_another_others() -> None:
    config = {**SMALL, "samples": 40, "length": 100}
    a, b, c = (load(DataConfig.model_validate({**config, "seed": seed})) for seed in (3, 3, 4))
    assert torch.equal(a.train.x, b.train.x)
    assert not torch.equal(a.train.x, c.train.x)
    assert a.fingerprint == b.fingerprint != c.fingerprint


def test_spec_and_audit(strings: Dataset) -> None:
    assert (strings.spec.modality, strings.spec.shape, strings.spec.x.rate) == ("audio", (2000,), RATE)
    assert strings.spec.class_names[:2] == ("C3", "D3")
    assert strings.audit.worst is None
