"""What a page shows of a sound: its curve, under it its spectrum, and a recording that plays."""

from __future__ import annotations

import base64
import io
import re
import wave

import numpy as np
import pytest
from PIL import Image

from niwaki.modalities.base import modality_of
from niwaki.modalities.spectrum import frames_of, mel_bands
from niwaki_runtime.specs import Real, ValueSpec

RATE = 8000.0
SPECS = {
    "mono": ValueSpec("audio", (2000,), "T", Real(), RATE),
    "stereo": ValueSpec("audio", (2, 2000), "CT", Real(), RATE),
    "unsigned": ValueSpec("audio", (2000,), "T", Real(0.0, 1.0), RATE),
    "short": ValueSpec("audio", (40,), "T", Real(), RATE),
    "no rate": ValueSpec("audio", (2000,), "T", Real()),
}


def shown(x: np.ndarray, spec: ValueSpec) -> tuple[str, np.ndarray]:
    """The drawing's text, and the pixels of the spectrum in it."""
    media = modality_of(spec).show(x, spec)
    assert media.kind == "sound"
    drawing = base64.b64decode(media.also.split(",", 1)[1]).decode()
    (picture,) = re.findall(r'href="data:image/png;base64,([^"]+)"', drawing)
    return drawing, np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_sound_has_curves_and_a_spectrum(spec: ValueSpec) -> None:
    x = np.random.default_rng(0).uniform(spec.low, spec.high, spec.shape)
    drawing, pixels = shown(x, spec)
    assert drawing.count("<polyline") == spec.size // spec.shape[-1]
    frames = frames_of(spec)
    assert pixels.shape == (frames.bands, spec.shape[-1] // frames.hop + 1, 3)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0])
def test_the_brightest_row_is_the_band_of_the_tone(hertz: float) -> None:
    spec = SPECS["mono"]
    _, pixels = shown(0.5 * np.sin(2 * np.pi * hertz * np.arange(2000) / RATE), spec)
    brightness = pixels[:, 5:-5].astype(int).sum((1, 2))[::-1]
    frames = frames_of(spec)
    band = mel_bands(frames)[:, round(hertz * frames.size / RATE)].argmax()
    assert abs(int(brightness.argmax()) - int(band)) <= 1


@pytest.mark.parametrize("name", ["mono", "unsigned"])
def test_silence_is_dark(name: str) -> None:
    spec = SPECS[name]
    _, pixels = shown(np.full(spec.shape, (spec.low + spec.high) / 2), spec)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
    assert pixels[0, 0].tolist() == [68, 1, 84]


@pytest.mark.parametrize("name", ["mono", "stereo"])
def test_the_recording_holds_the_samples(name: str) -> None:
    spec = SPECS[name]
    x = np.random.default_rng(0).uniform(-1, 1, spec.shape)
    data = modality_of(spec).show(x, spec).data
    with wave.open(io.BytesIO(base64.b64decode(data.split(",", 1)[1]))) as file:
        assert (file.getframerate(), file.getnframes()) == (RATE, 2000)
        values = np.frombuffer(file.readframes(2000), "<i2").reshape(2000, -1).T / 32767
    np.testing.assert_allclose(values, np.atleast_2d(x), atol=1 / 32767)
