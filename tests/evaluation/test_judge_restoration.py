"""The judge `restoration`, on pictures whose noise is known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy, one_shot
from evaluation.vectors import Identity

from niwaki.core.contract import DataSpec, Real, ValueSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.restoration import Restoration
from niwaki.evaluation.metrics.ms_ssim import ms_ssim
from niwaki.evaluation.metrics.restored import by_frame, enlarged, psnr, structural_similarity

X = ValueSpec("image", (1, 8, 8), "CHW", Real(-1.0, 1.0))
SMALL = ValueSpec("image", (1, 4, 4), "CHW", Real(-1.0, 1.0))


def pictures(n: int, seed: int) -> np.ndarray:
    """Blocks of 2×2, so that a smaller version knows all."""
    rng = np.random.default_rng([seed, 7])
    return np.repeat(np.repeat(rng.uniform(-0.8, 0.8, (n, 1, 4, 4)), 2, 2), 2, 3).astype(np.float32)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    spec = DataSpec({"x": X, "noisy": X, "low": SMALL})
    parts = []
    for n, seed in ((200, 1), (80, 2), (120, 3)):
        x = pictures(n, seed)
        noisy = x + 0.3 * np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)
        given = {"noisy": torch.from_numpy(noisy), "low": torch.from_numpy(x[..., ::2, ::2].copy())}
        parts.append(Split.of(spec, torch.from_numpy(x), **given))
    return Dataset("blocks", spec, *parts, fingerprint="7" * 64)


def model(name: str, column: str, spec: ValueSpec, function: Any) -> Toy:
    programs = {"sample": one_shot("make", X, X.shape), name: one_shot("restore", X, **{column: spec})}
    return Toy(programs, {"make": lambda z: z, "restore": function})


def means(x: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Of each block: the noise falls to a half."""
    blocks = x.reshape(len(x), 1, 4, 2, 4, 2).mean((3, 5))
    return share * np.repeat(np.repeat(blocks, 2, 2), 2, 3) + (1 - share) * x


def judge() -> Restoration:
    return Restoration(Tools(lambda: [Identity()]))


def test_psnr_is_that_of_the_noise_and_at_most_100() -> None:
    truth = pictures(3, 0)
    np.testing.assert_allclose(psnr(truth + 0.2, truth, 2.0), 20.0, atol=1e-4)
    np.testing.assert_allclose(psnr(truth, truth, 2.0), 100.0)


def test_similarity_is_ms_ssim_and_of_images_alone() -> None:
    a, b = pictures(4, 0), pictures(4, 1)
    np.testing.assert_allclose(structural_similarity(a, b, X), ms_ssim(a, b, low=-1, high=1))
    assert structural_similarity(a, b, ValueSpec("vector", (3,))) is None


def test_enlarging_repeats_values() -> None:
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    found = enlarged(x, (1, 4, 2))
    assert found is not None
    np.testing.assert_array_equal(found[0, 0], [[0, 1], [0, 1], [2, 3], [2, 3]])
    assert enlarged(x, (1, 3, 2)) is None
    assert enlarged(x, (4,)) is None


def test_a_denoiser_is_measured_beside_the_noisy_version(dataset: Dataset) -> None:
    runner = model("restore", "noisy", X, means)
    assert "restoration" in [j.name for j in judges_for(runner, dataset, Tools(list))]
    section = judge().evaluate(judge().evidence(runner, dataset, "test", 1000, 0), dataset)
    ratio = section.figures[0]
    # The mean of four halves the deviation: 20 log₁₀ 2 = 6.02 dB.
    assert ratio.reference is not None
    assert ratio.value - ratio.reference == pytest.approx(20 * math.log10(2), abs=0.3)
    assert ratio.reference == pytest.approx(20 * math.log10(2 / 0.3), abs=0.1)
    assert section.details["better_than_degraded"] == 1.0
    labels = [m["label"] for m in section.details["exhibits"][0]["media"]]
    assert labels == ["given", "restored", "truth"]
    assert [f.better for f in section.figures] == ["higher", "higher", "lower"]
    json.dumps(section.to_json(), allow_nan=False)


def test_an_enlarger_that_knows_the_blocks_is_exact(dataset: Dataset) -> None:
    runner = model("upscale", "low", SMALL, lambda low: np.repeat(np.repeat(low, 2, 2), 2, 3))
    section = judge().evaluate(judge().evidence(runner, dataset, "test", 1000, 0), dataset)
    assert section.figures[0].value == section.figures[0].reference == 100.0
    assert section.figures[1].value == pytest.approx(1.0)


def test_planted_damage_is_found_and_the_same_model_loses_nothing(dataset: Dataset) -> None:
    one, good = judge(), model("restore", "noisy", X, means)
    margins = one.margins(one.evidence(good, dataset, "validation", 1000, 0), dataset, 120)
    margins = Margins.from_json(json.loads(json.dumps(margins.to_json())))
    before = one.evidence(good, dataset, "test", 1000, 0)
    same = one.compare(before, one.evidence(good, dataset, "test", 1000, 0), margins, dataset)
    assert same.axes["fidelity"].outcome == "no loss"
    half = model("restore", "noisy", X, lambda x: means(x, 0.5))
    lost = one.compare(before, one.evidence(half, dataset, "test", 1000, 0), margins, dataset)
    assert lost.axes["fidelity"].outcome == "loss"
    assert lost.arrays["fall"].mean() == pytest.approx(lost.axes["fidelity"].delta)
    json.dumps(lost.to_json(), allow_nan=False)


def test_it_needs_a_column_of_what_is_degraded(dataset: Dataset) -> None:
    assert not Restoration.applies(model("restore", "blurred", X, means), dataset)
    assert not Restoration.applies(model("restore", "x", X, means), dataset)


def test_a_prediction_is_measured_beside_the_last_frame_standing_still() -> None:
    """A brightness that grows by the same amount from frame to frame: who sees two frames knows the rest."""
    clip, before = (ValueSpec("video", (t, 1, 8, 8), "TCHW", Real(-1.0, 1.0)) for t in (4, 2))
    spec, parts = DataSpec({"x": clip, "past": before}), []
    for n, seed in ((60, 1), (30, 2), (40, 3)):
        rng = np.random.default_rng(seed)
        whole = rng.uniform(-0.4, 0, (n, 1, 1, 8, 8)) + 0.1 * np.arange(6).reshape(6, 1, 1, 1)
        whole = torch.from_numpy(whole.astype(np.float32))
        parts.append(Split.of(spec, whole[:, 2:].contiguous(), past=whole[:, :2].contiguous()))
    clips = Dataset("growing", spec, *parts, fingerprint="6" * 64)
    steps = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1, 1)
    programs = {
        "sample": one_shot("make", clip, clip.shape),
        "continue": one_shot("go_on", clip, past=before),
    }

    def go_on(past: np.ndarray) -> np.ndarray:
        return past[:, 1:] + steps * (past[:, 1:] - past[:, :1])

    runner = Toy(programs, {"make": lambda z: z, "go_on": go_on})
    section = judge().evaluate(judge().evidence(runner, clips, "test", 1000, 0), clips)
    ratio = section.figures[0]
    assert ratio.value > 90
    # The last frame is 0.1, 0.2, 0.3, 0.4 too dark, of a range of 2.
    assert ratio.reference == pytest.approx(-10 * math.log10((0.01 + 0.04 + 0.09 + 0.16) / 4 / 4), abs=1e-3)
    assert ratio.reference_name == "the last known frame, standing still"


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 1, 4, 6), (3, 3, 8, 8), (5, 1, 12, 8), (8, 1, 16, 16)])
def test_frames_are_measured_each_by_itself(shape: tuple[int, ...]) -> None:
    spec = ValueSpec("video", shape, "TCHW", Real(-1.0, 1.0))
    truth = np.random.default_rng(0).uniform(-0.5, 0.5, (4, *shape)).astype(np.float32)
    x = truth + 0.1 * np.arange(1, shape[0] + 1, dtype=np.float32)[:, None, None, None]
    found = by_frame(x, truth, spec)
    wanted = 20 - 20 * np.log10(np.arange(1, shape[0] + 1)) + 6.0206
    np.testing.assert_allclose(found["PSNR in dB"], np.tile(wanted, (4, 1)), atol=1e-3)
    alike = found["structural similarity (SSIM)"]
    assert alike.shape == (4, shape[0])
    assert (np.diff(alike.mean(0)) < 0).all()


def test_what_is_no_clip_has_no_frames() -> None:
    assert by_frame(pictures(3, 0), pictures(3, 1), X) == {}


def test_a_prediction_is_followed_frame_by_frame_beside_the_last_known_one_standing_still() -> None:
    clip, past = (ValueSpec("video", (k, 1, 4, 4), "TCHW", Real(-1.0, 1.0)) for k in (3, 2))
    spec = DataSpec({"x": clip, "past": past})
    parts = []
    for n in (40, 20, 30):
        first = torch.rand(n, 1, 1, 4, 4, generator=torch.Generator().manual_seed(n)) - 0.9
        whole = first + 0.2 * torch.arange(5)[None, :, None, None, None]  # brighter by 0.2 in each frame
        parts.append(Split.of(spec, whole[:, 2:].contiguous(), past=whole[:, :2].contiguous()))
    data = Dataset("brighter", spec, *parts, fingerprint="8" * 64)
    programs = {
        "sample": one_shot("make", clip, clip.shape),
        "continue": one_shot("restore", clip, past=past),
    }
    follows = Toy(
        programs,
        {
            "make": lambda z: z,
            "restore": lambda p: np.concatenate([p[:, -1:] + 0.2 * k for k in (1, 2, 2)], 1),
        },
    )
    evidence = judge().evidence(follows, data, "test", 30, 0)
    curve = judge().evaluate(evidence, data).details["over_time"][0]
    assert curve["title"] == "PSNR in dB, by frame"
    assert curve["values"][:2] == pytest.approx([100.0, 100.0], abs=1.0)
    assert curve["values"][2] == pytest.approx(20.0, abs=0.01)  # 0.2 of a range of 2
    still = [20 - 20 * math.log10(k) for k in (1, 2, 3)]
    assert curve["reference"] == pytest.approx(still, abs=0.01)
    assert curve["reference_name"] == "the last known frame, standing still"
