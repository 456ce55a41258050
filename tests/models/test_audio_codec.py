"""The codec of sound: frames are what they are said to be, fewer books say less, and its codes come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import batch, context, make
from torch import Tensor, nn
from torch.nn import functional as F

import niwaki
from niwaki.core.contract import CallError, DataSpec, Port
from niwaki.models.vae.audio_codec import AudioCodec
from niwaki.models.vae.code_prior import CodePrior
from niwaki.nn.layers.framed import FrameBlock, Frames, Steps
from niwaki.nn.spectra import spectral_distance

SPECS = {
    "whole frames": DataSpec.of("audio", (32,), classes=3),
    "a frame begun": DataSpec.of("audio", (37,), classes=3),
    "one channel": DataSpec.of("audio", (1, 37)),
    "stereo": DataSpec.of("audio", (2, 40)),
    "unsigned": DataSpec.of("series", (33,), low=0.0, high=5.0),
    "shorter than a frame": DataSpec.of("audio", (5,)),
}
each = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def small(spec: DataSpec, **changes: Any) -> AudioCodec:
    settings = {"strides": (2, 4), "codes": 16, "books": 3, "dim": 6, "blocks": 1, **changes}
    model = make("audio-codec", spec, **settings)
    assert isinstance(model, AudioCodec)
    return model


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_matrices_over_frames_are_convolutions(stride: int) -> None:
    torch.manual_seed(stride)
    x, there, back = torch.randn(2, 4 * stride, 3), Frames(3, 5, stride), Steps(5, 3, stride)
    weight = there.conv.weight.unflatten(1, (3 * stride, 3)).movedim(1, 2)
    expected = F.conv1d(x.mT, weight, there.conv.bias, stride=stride, padding=stride).mT
    torch.testing.assert_close(there(x), expected, atol=1e-5, rtol=1e-5)
    weight = back.conv.weight.unflatten(0, (3 * stride, 3)).permute(2, 1, 0)
    bias = back.conv.bias.unflatten(0, (3 * stride, 3))
    nn.init.zeros_(back.conv.bias)
    assert bias.shape == (3 * stride, 3)
    h = torch.randn(2, 4, 5)
    expected = F.conv_transpose1d(h.mT, weight, stride=stride, padding=stride).mT
    torch.testing.assert_close(back(h), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_block_sees_its_neighbours_alone(kernel: int) -> None:
    x = torch.randn(1, 9, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(FrameBlock(4, 8, kernel)(x)[0, 4].sum(), x)
    seen = (grad[0].abs().sum(1) > 0).nonzero().flatten().tolist()
    assert seen == list(range(4 - kernel // 2, 5 + kernel // 2))


@each
def test_codes_come_back_from_what_they_say(spec: DataSpec) -> None:
    """As long as the samples, in their range; the first books alone are a sound, too."""
    model = small(spec).eval()
    x = batch(spec, 4).x
    codes = model.encode(x)
    frames = -(-spec.shape[-1] // 8)
    assert codes.shape == (4, 3 * frames)
    for books in (1, 2, None):
        made = model.decode(codes, books)
        assert made.shape == x.shape
        assert made.min() >= spec.low
        assert made.max() <= spec.high
    assert not torch.equal(model.decode(codes, 1), model.decode(codes))


@each
def test_training_makes_what_is_decoded_like_what_was_encoded(spec: DataSpec) -> None:
    model = small(spec, waveform=1.0).train()
    data = batch(spec, 8)
    ctx = context(progress=0.1)
    with torch.no_grad():
        model.codebook.begin(model.features(data.x), ctx.rng)
    optimizer = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], 3e-3)
    losses = []
    for i in range(40):
        terms = model.loss("codes", data, context(i, 0.1))
        assert all(torch.isfinite(term) for term in terms.values())
        total = torch.stack(list(terms.values())).sum()
        losses.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        model.codebook.update()
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def test_windows_longer_than_the_sound_are_left_out() -> None:
    spec = SPECS["shorter than a frame"]
    assert set(small(spec).reconstruction(torch.zeros(2, 5), torch.zeros(2, 5))) == {"waveform"}


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_the_spectral_distance_of_a_gain_is_known(gain: float) -> None:
    """Half the relative change of magnitudes, and the logarithm of the gain; nothing for the sound itself."""
    x = torch.rand(3, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for sizes in ((64,), (32, 128)):
        found = spectral_distance(gain * x, x, sizes)
        expected = 0.5 * abs(gain - 1) + abs(np.log(gain))
        assert float(found) == pytest.approx(expected, rel=0.02)
        assert float(spectral_distance(x, x, sizes)) == 0.0


def test_silence_has_a_gradient() -> None:
    x = torch.zeros(2, 128, requires_grad=True)
    spectral_distance(x, torch.zeros(2, 128), (32,)).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("books", [1, 2, 4])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_prior_of_books_writes_as_it_was_trained(books: int, classes: int) -> None:
    """Step by step, logit for logit; a book's codes have vectors and logits that no other book's have."""
    torch.manual_seed(0)
    prior = CodePrior(5, 8, classes, books, width=8, heads=2, layers=2, dropout=0.0).eval()
    numbers = torch.randint(5, (3, 8), generator=torch.Generator().manual_seed(1))
    y = (torch.arange(3),) if classes else ()
    ports = [Port("class", (1,), "int64", high=3)] if classes else []
    graph = prior.graph(ports)
    state: list[Tensor] = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    with torch.no_grad():
        whole = prior(numbers, *y)
        token = torch.full((3,), 5)
        for at in range(8):
            logits, *rows = graph(token, torch.tensor([at]), *y, *state)
            torch.testing.assert_close(logits, whole[:, at], atol=1e-5, rtol=1e-5)
            for held, row in zip(state, rows, strict=True):
                held[:, at : at + 1] = row
            token = numbers[:, at]
    prior.loss(numbers, y[:1], torch.Generator())["nll"].backward()
    assert prior.head.weight.grad is not None
    heads = prior.head.weight.grad.abs().sum(1).unflatten(0, (books, 5))
    assert (heads > 0).all()


def test_data_that_are_no_sound_are_refused() -> None:
    for spec in (DataSpec.of("image", (1, 8, 8)), DataSpec.of("text", (16,), levels=9)):
        with pytest.raises(CallError, match="sound"):
            niwaki.models.build("audio-codec", {}, spec)
    for wrong in ({"kernel": 2}, {"strides": ()}, {"strides": (0,)}):
        with pytest.raises(CallError):
            niwaki.models.build("audio-codec", wrong, SPECS["stereo"])


def test_settings_survive() -> None:
    model = small(SPECS["stereo"], books=1, quantizer_dropout=0.0, prior_by_book=False)
    again = type(model.config).model_validate(model.config.model_dump(mode="json"))
    assert again == model.config


@pytest.mark.slow
def test_recordings_through_a_bundle(tmp_path: Path) -> None:
    """WAV files, one longer than a window, one at another rate, as one coded file and back."""
    pytest.importorskip("constriction")
    from scipy.io import wavfile

    from niwaki.deployment import export_graphs, package

    model = small(SPECS["whole frames"], prior_width=8, prior_heads=2, prior_layers=1).eval()
    package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "a.niwaki")
    rng = np.random.default_rng(0)
    for name, rate, steps in (("a", 16000, 32), ("b", 16000, 75), ("c", 8000, 20)):
        wavfile.write(tmp_path / f"{name}.wav", rate, (rng.uniform(-1, 1, steps) * 32767).astype(np.int16))
    files = sorted(tmp_path.glob("*.wav"))
    coded = niwaki.use("encode", tmp_path / "a.niwaki", files, lossy=True, out=tmp_path / "x.nwk")
    assert coded.record["seconds"] == pytest.approx((32 + 75 + 40) / 16000)
    assert coded.record["bits_per_second"] > 0
    niwaki.use("decode", tmp_path / "a.niwaki", [tmp_path / "x.nwk"], out=tmp_path / "back")
    back = {p.name: wavfile.read(p) for p in (tmp_path / "back").iterdir()}
    assert {name: len(x) for name, (_, x) in back.items()} == {"a.wav": 32, "b.wav": 75, "c.wav": 40}
    through = niwaki.use("reconstruct", tmp_path / "a.niwaki", files[:1])
    assert "log-mel distance in dB" in through.record["measures"]
