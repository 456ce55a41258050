"""Columns of different units are brought to one scale; pictures, clips and tokens stay as they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation import coverage_per_cluster, frechet_distance, manifold
from niwaki.evaluation.memorization.copies import find_copies
from niwaki.evaluation.statistics.samples import value_span, value_widths
from niwaki.features import build
from niwaki.features.classifier import ClassifierNetwork
from niwaki.features.encoders import build_encoder
from niwaki.features.selfsupervised import load_encoder, save_encoder
from niwaki.features.units import Units, has_units, units_of

END = math.inf
OTHERS = {
    "image": DataSpec.of("image", (3, 8, 8)),
    "video": DataSpec.of("video", (2, 3, 8, 8)),
    "text": DataSpec.of("text", (16,)),
    "sound": DataSpec.of("audio", (64,)),
}
OWN = {
    "vector": DataSpec.of("vector", (4,), low=-END, high=END),
    "vector in a range": DataSpec.of("vector", (4,)),
    "series": DataSpec.of("series", (3, 20), low=-END, high=END),
    "one series": DataSpec.of("series", (20,), low=-END, high=END),
    "stereo": DataSpec.of("audio", (2, 20)),
}


def dataset(shape: tuple[int, ...], unit: Any, classes: int = 2, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    modality = "vector" if len(shape) == 1 else "series"
    spec = DataSpec.of(modality, shape, low=-END, high=END, classes=classes)

    def split(n: int) -> Split:
        y = rng.integers(0, classes, n)
        x = (rng.normal(size=(n, *shape)) + y.reshape(-1, *[1] * len(shape))) * unit
        return Split.of(spec, torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))

    return Dataset("units", spec, split(300), split(60), split(200), fingerprint=f"{shape}{np.ravel(unit)}")


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_one_unit_throughout_is_not_touched(name: str) -> None:
    spec = OTHERS[name]
    assert not has_units(spec)
    units = units_of(spec)
    assert units.state_dict() == {}, "so that fingerprints and weights stay what they are"
    x = torch.randn(5, *spec.shape)
    assert units(x) is x


@pytest.mark.parametrize("name", OWN)
def test_every_column_has_mean_zero_and_deviation_one(name: str) -> None:
    spec = OWN[name]
    units = units_of(spec)
    assert isinstance(units, Units)
    sides = [side if axis == "C" else 1 for axis, side in zip(spec.axes, spec.shape, strict=True)]
    torch.manual_seed(0)
    shift = torch.arange(math.prod(sides)).reshape(sides) * 100.0
    x = torch.randn(400, *spec.shape) * 10.0 ** -shift.div(100) + shift
    units.fit(x)
    along = (0, *(i + 1 for i, axis in enumerate(spec.axes) if axis != "C"))
    seen = units(x)
    assert seen.shape == x.shape
    torch.testing.assert_close(seen.mean(along), torch.zeros_like(seen.mean(along)), atol=2e-2, rtol=0)
    torch.testing.assert_close(seen.std(along), torch.ones_like(seen.std(along)), atol=2e-2, rtol=0)


def test_what_never_changes_is_centred_and_not_magnified() -> None:
    units = Units(OWN["vector"])
    x = torch.randn(100, 4)
    x[:, 1], x[:, 2] = 1e6, 0.0
    units.fit(x)
    assert units.scale[1] == units.scale[2] == 1.0
    assert (units(x)[:, 1:3] == 0).all()


@pytest.mark.parametrize("ratio", [1.0, 30.0, 1e3, 1e6])
def test_a_column_that_is_wrong_is_seen_in_any_unit(ratio: float) -> None:
    """Off by five of its deviations, it used to move nothing where the others are 1000 times larger."""
    unit = np.array([ratio, ratio, ratio, 1.0], np.float32)
    data = dataset((4,), unit)
    (extractor,) = build(["random"], data)
    real, wrong = data.test.values().numpy(), data.test.values().numpy().copy()
    wrong[:, 3] += 5
    seen, off = extractor(real), extractor(wrong)
    again = extractor(data.train.values()[:200].numpy())
    assert frechet_distance(seen, off).value > 20 * frechet_distance(seen, again).value
    assert manifold(seen, off).precision.value < 0.7


def test_features_do_not_depend_on_the_unit() -> None:
    """Grams or kilograms: the same features, up to rounding."""
    plain = dataset((4,), np.ones(4, np.float32))
    scaled = dataset((4,), np.array([1024.0, 1.0, 2.0**-10, 8.0], np.float32))
    one, other = (build(["random"], d)[0](d.test.values()) for d in (plain, scaled))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_channels_of_series() -> None:
    data = dataset((2, 16), np.array([[1e4], [1.0]], np.float32))
    (extractor,) = build(["random"], data)
    real = data.test.values().numpy()
    wrong = real.copy()
    wrong[:, 1] += 5
    assert frechet_distance(extractor(real), extractor(wrong)).value > 20


def test_the_classifier_looks_through_the_units_of_its_first_batches() -> None:
    from niwaki.training import TrainConfig, fit

    seen = []
    for unit in (np.ones(4, np.float32), np.array([1024.0, 1.0, 2.0**-10, 8.0], np.float32)):
        data = dataset((4,), unit)
        torch.manual_seed(0)
        network = ClassifierNetwork(data.spec)
        fit(network, data.train, TrainConfig(steps=5, batch=64, device="cpu"), seed=0)
        np.testing.assert_allclose(1.0 / network.units.scale, data.train.values().std(0), rtol=0.1)
        with torch.no_grad():
            seen.append(network.eval()(data.test.values()))
    torch.testing.assert_close(*seen, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_encoders_look_through_the_units_of_their_first_batches(name: str, tmp_path: Path) -> None:
    from niwaki.core.store import read_tensors, write_tensors
    from niwaki.training import TrainConfig, fit

    data = dataset((4,), np.array([1e3, 1.0, 1.0, 1e-3], np.float32))
    torch.manual_seed(0)
    encoder = build_encoder(name, {"width": 16, "features": 8, "projection": 4}, data.spec)
    fit(encoder, data.train, TrainConfig(steps=2, batch=64, device="cpu"), seed=0)
    deviation = 1.0 / encoder.units.scale
    np.testing.assert_allclose(deviation, data.train.values().std(0), rtol=0.1)
    save_encoder(encoder, tmp_path)
    x = data.test.values()
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(load_encoder(tmp_path)(x), encoder(x))
    weights = read_tensors(tmp_path / "model.safetensors")
    older = {key: value for key, value in weights.items() if not key.startswith("units.")}
    write_tensors(tmp_path / "model.safetensors", older)
    assert (load_encoder(tmp_path).units.scale == 1).all(), "one of before sees what it saw"


def test_widths_of_columns() -> None:
    spec = OWN["series"]
    x = np.random.default_rng(0).normal(size=(50, 3, 20)) * np.array([[1e3], [1.0], [1e-3]])
    widths = value_widths(spec, x)
    assert widths.shape == (3, 20)
    np.testing.assert_allclose(widths[:, 0], [np.ptp(x[:, c]) for c in range(3)])
    picture = np.zeros((2, 3, 8, 8))
    assert (value_widths(OTHERS["image"], picture) == value_span(OTHERS["image"], picture)).all()


def test_a_sample_that_differs_in_a_small_column_is_no_copy() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(80, 4)) * np.array([1e3, 1e3, 1e3, 1.0])
    made = train[:50].copy()
    made[:, 3] += 1.0
    spec = OWN["vector"]
    given = {"train_samples": train, "generated_samples": made, "levels": 0, "name": "plain"}
    found = find_copies(train, train[50:] + 1, made, span=value_widths(spec, made).reshape(-1), **given)
    assert found.identical == 0
    assert find_copies(train, train[50:] + 1, made, span=value_span(spec, made), **given).identical == 50


def test_clusters_need_no_units() -> None:
    with pytest.raises(CallError, match="too large"):
        coverage_per_cluster(np.full((50, 2), 1e59), np.full((50, 2), 1e59))
