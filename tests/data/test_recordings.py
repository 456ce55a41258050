"""Sound files: every depth of WAV, other rates, silence, clipping, and windows that no two splits share."""

from __future__ import annotations

import importlib.util
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.sounds import clipping, read_sound, resampled, trimmed

RATE = 8000


def tone(seconds: float, hertz: float = 440.0, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    return np.asarray(loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))


def write(path: Path, x: np.ndarray, rate: int = RATE, bits: int = 16) -> None:
    """`(T,)` or `(T, C)` as whole numbers of 8 to 32 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, top = bits // 8, 2 ** (bits - 1)
    values = np.clip(np.round(x * top), -top, top - 1).astype("<i4")
    raw = (
        (values + 128).astype("u1").tobytes()
        if bits == 8
        else values.reshape(-1, 1).view("u1")[:, :width].tobytes()
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if x.ndim == 1 else x.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)


def read(path: Path, **settings: Any) -> Dataset:
    return load(
        DataConfig.model_validate({"source": "recordings", "path": str(path), "length": 400, **settings})
    )


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_of_every_depth_is_read(tmp_path: Path, bits: int, channels: int) -> None:
    x = np.stack([tone(0.1, 300.0 * (c + 1)) for c in range(channels)], 1)
    write(tmp_path / "a.wav", x, bits=bits)
    found = read_sound(tmp_path / "a.wav", "a.wav")
    assert found.rate == RATE
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, x.T, atol=1.01 / 2 ** (bits - 1))


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_wav_of_floats_is_read(tmp_path: Path, kind: str) -> None:
    x = tone(0.1).astype(kind)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, x)
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav", "a.wav").values[0], x, atol=1e-7)


@pytest.mark.parametrize(
    "raw", [b"", b"RIFF", b"RIFF\x10\x00\x00\x00WAVEfmt ", b"fLaC1234", b"no sound at all"]
)
def test_what_is_broken_or_no_sound_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(raw)
    with pytest.raises(CallError, match=r"'a\.wav'") as told:
        read_sound(tmp_path / "a.wav", "a.wav")
    assert "object at" not in str(told.value)


@pytest.mark.parametrize("rate", [0, 10**7 + 1, 2 * 10**9, 2**32 - 1])
def test_a_rate_that_no_sound_has_is_not_believed(tmp_path: Path, rate: int) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, tone(0.1).astype(np.float32))
    raw = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(raw[:24] + rate.to_bytes(4, "little") + raw[28:])
    with pytest.raises(CallError, match=r"'a\.wav'"):
        read_sound(tmp_path / "a.wav", "a.wav")


@pytest.mark.parametrize(("rate", "wanted"), [(1e7, 10.0), (3.0, 48_000.0), (1e9, 8000.0)])
def test_rates_too_far_apart_are_refused(rate: float, wanted: float) -> None:
    with pytest.raises(CallError, match="cannot be brought"):
        resampled(np.ones((1, 10)), rate, wanted)


def test_flac_is_read_by_soundfile(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    x = tone(0.1)
    soundfile.write(tmp_path / "a.flac", x, RATE, subtype="PCM_24")
    np.testing.assert_allclose(read_sound(tmp_path / "a.flac", "a.flac").values[0], x, atol=2e-7)


@pytest.mark.skipif(importlib.util.find_spec("soundfile") is not None, reason="soundfile is installed")
def test_without_soundfile_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(CallError, match=r"niwaki\[audio\]"):
        read_sound(tmp_path / "a.flac", "a.flac")


@pytest.mark.parametrize("rate", [4000, 11_025, 16_000, 44_100, 48_000])
def test_a_tone_is_the_same_tone_at_another_rate(rate: int) -> None:
    """440 Hz stays; what lies above half the new rate is gone."""
    x = (tone(0.5, rate=rate) + (tone(0.5, 7000.0, rate) if rate > 14_000 else 0))[None]
    found = resampled(x, rate, RATE)[0]
    assert abs(len(found) - RATE // 2) <= 1
    inner = slice(300, -300)
    np.testing.assert_allclose(found[inner], tone(0.5)[: len(found)][inner], atol=4e-3)


def test_silence_at_both_ends_is_cut_off() -> None:
    x = np.concatenate([np.zeros(1000), tone(0.2), np.full(700, 1e-4)])[None]
    begin, end = trimmed(x, RATE, 50.0)
    assert 1000 - 80 <= begin <= 1000
    assert 2600 <= end <= 2600 + 80
    assert trimmed(np.zeros((2, 500)), RATE, 50.0) == (0, 0)


@pytest.mark.parametrize(
    ("loud", "expected"), [(0.9, False), (1.0, False), (1.5, True), (5.0, True)]
)  # a sine that just reaches full scale stays there for no more than two steps
def test_clipping_is_values_in_rows_at_full_scale(loud: float, expected: bool) -> None:
    x = np.clip(tone(0.2, 441.0, loud=loud), -1, 1)[None]
    found = clipping(x)
    assert (found > 0) == expected
    if expected:
        assert found == pytest.approx((np.abs(x) >= 1).sum(), abs=0.1 * found)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(40):
        write(
            tmp_path / ("high" if i % 2 else "low") / f"{i:02d}.wav", 0.5 * rng.uniform(-1, 1, 1900 + 10 * i)
        )
    return tmp_path


def test_a_file_is_in_one_split_and_folders_are_classes(many: Path) -> None:
    found = read(many, stride=200)
    assert found.spec.class_names == ("high", "low")
    assert (found.spec.modality, found.spec.shape, found.spec.x.rate) == ("audio", (400,), RATE)
    files = {name: {_file_of(many, row) for row in split.x.numpy()} for name, split in found.splits.items()}
    assert sum(map(len, files.values())) == len(set.union(*files.values())) == 40


def _file_of(root: Path, row: np.ndarray) -> str:
    """The file that holds these values."""
    for path in sorted(root.rglob("*.wav")):
        values = read_sound(path, path.name).values[0]
        starts = np.flatnonzero(values == row[0])
        if any(np.array_equal(values[a : a + len(row)], row) for a in starts):
            return path.name
    raise AssertionError("a window of no file")


def test_few_files_are_divided_by_time(tmp_path: Path) -> None:
    """No moment is in two splits, whatever the stride."""
    for i in range(2):
        write(tmp_path / f"{i}.wav", np.arange(i * 16_000, i * 16_000 + 16_000) / 32768)
    found = read(tmp_path, stride=100, trim=0)
    moments = {
        name: {round(v * 32768) for v in split.x.numpy().ravel()} for name, split in found.splits.items()
    }
    assert moments["train"].isdisjoint(moments["validation"])
    assert moments["train"].isdisjoint(moments["test"])
    assert moments["validation"].isdisjoint(moments["test"])
    assert max(moments["train"] & set(range(16_000))) < min(moments["test"] & set(range(16_000)))


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo(tmp_path: Path, channels: int) -> None:
    left, right = tone(2.0, 201.37), tone(2.0, 307.71)
    write(tmp_path / "both.wav", np.stack([left, right], 1))
    found = read(tmp_path, channels=channels, trim=0)
    first = found.train.x
    assert tuple(first.shape[1:]) == ((400,) if channels == 1 else (2, 400))
    whole = torch.cat([s.x for s in found.splits.values()])
    power = whole.square().mean()
    assert float(power) == pytest.approx(0.0625 if channels == 1 else 0.125, rel=0.02)


def test_the_audit_names_what_was_done(many: Path) -> None:
    write(many / "low" / "clipped.wav", np.clip(tone(0.5, loud=3.0), -1, 1))
    write(many / "low" / "silent.wav", np.zeros(2000))
    write(many / "low" / "fast.wav", tone(0.5, rate=16_000), rate=16_000)
    write(many / "low" / "short.wav", tone(0.02))
    (many / "low" / "broken.wav").write_bytes(b"RIFF....WAVE")
    (many / "low" / "notes.txt").write_text("x")
    found = read(many).audit
    texts = {f.kind + ": " + f.text: f.items for f in found.findings}

    def items(*words: str) -> tuple[str, ...]:
        (match,) = (v for k, v in texts.items() if all(w in k for w in words))
        return match

    assert items("clipped") == ("low/clipped.wav",)
    assert items("left out", "silent") == ("low/silent.wav",)
    assert items("resampled") == ("low/fast.wav",)
    assert items("shorter") == ("low/short.wav",)
    assert items("unreadable") == ("low/broken.wav",)
    assert found.worst == "error"


@pytest.mark.parametrize("settings", [{"length": 100_000, "short": "drop"}, {"path": "nowhere"}])
def test_what_gives_no_window_is_one_sentence(many: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(CallError, match=r"no file|does not exist"):
        read(many, **settings) if "path" not in settings else read(many / "nowhere")


def test_a_folder_without_sounds_says_so(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="holds no sound files"):
        read(tmp_path)
