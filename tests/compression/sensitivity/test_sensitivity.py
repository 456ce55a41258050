"""Sensitivity: each layer alone, on two axes, in margins; found again, confirmed, made into settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression import small_models
from pydantic import ValidationError

from niwaki.compression import CompressConfig
from niwaki.compression.sensitivity import SensitivityConfig
from niwaki.compression.sensitivity import measure as measure_module
from niwaki.compression.sensitivity.entry import Damage, Entry, Sensitivity
from niwaki.compression.sensitivity.measure import _mattering, sensitivity
from niwaki.compression.sensitivity.scale import cheapest
from niwaki.compression.sensitivity.suggestion import suggest
from niwaki.compression.sensitivity.trials import layers_in_order, trials
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.data import DataConfig, Dataset, load
from niwaki.surgery.quantized import quantized_layers

SMALL = SensitivityConfig(
    ratios=(0.25, 0.75),
    bits=(8, 2),
    n=120,
    confirm=2,
    confirm_n=200,
    margins={"fidelity": 0.1, "diversity": 0.1},
)


class Pixels:
    """Sees the pixels themselves."""

    name, fingerprint, dim = "pixels", "pixels", 64

    def __call__(self, x: Any, batch: int = 256) -> np.ndarray:
        return np.asarray(x, np.float32).reshape(len(x), -1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(source="digits"))


@pytest.fixture(scope="module")
def found(digits: Dataset) -> Sensitivity:
    return sensitivity(small_models.gan("plain").eval(), digits, SMALL, extractors=[Pixels()])


def test_layers_stand_in_the_order_in_which_they_run() -> None:
    model = small_models.gan("hard")
    names = [n.removeprefix("generator.") for n in layers_in_order(model)]
    assert names.index("film") < names.index("conv1") < names.index("depth") < names.index("point")
    assert names[-1] == "last"
    assert not any(n.startswith("critic") for n in layers_in_order(model))


@pytest.mark.parametrize("make", [small_models.ddpm, small_models.flow, small_models.recurrent])
def test_trials_are_found_on_every_shape_and_change_one_layer_alone(make: Any) -> None:
    model = make().eval()
    for tried in trials(model, SensitivityConfig(ratios=(0.5,), bits=(4,)), seed=0)[:6]:
        assert tried.layer in layers_in_order(model)
        made = tried.make()
        if tried.technique == "prune":
            assert sum(p.numel() for p in made.parameters()) < sum(p.numel() for p in model.parameters())
        else:
            (layer,) = quantized_layers(made)
            assert layer == tried.layer


def test_every_layer_has_its_entries(found: Sensitivity) -> None:
    assert [n.removeprefix("generator.") for n in found.layers] == [
        "embed",
        "start",
        "conv1",
        "conv2",
        "last",
    ]
    for layer in found.layers:
        assert found.of(layer, "weights", 8) is not None
        assert found.of(layer, "weights", 2) is not None
    assert found.of("generator.conv1", "activations", 8) is not None
    assert found.of("generator.embed", "activations", 8) is None
    assert found.of("generator.last", "prune", 0.75) is None  # its outputs are the image
    cut = found.of("generator.conv1", "prune", 0.75)
    assert cut is not None
    assert cut.parameters > 0
    assert cut.macs > 0
    assert cut.bytes == 4 * cut.parameters


def test_eight_bits_cost_next_to_nothing_and_two_bits_more(found: Sensitivity) -> None:
    gentle = [e for e in found.entries if e.technique == "weights" and e.strength == 8]
    hard = [e for e in found.entries if e.technique == "weights" and e.strength == 2]
    size = [np.mean([abs(e.fidelity.value) for e in es if e.fidelity]) for es in (gentle, hard)]
    assert size[0] < 0.2 * size[1]
    assert all(e.bytes < h.bytes for e, h in zip(gentle, hard, strict=True))


def test_a_model_compared_with_itself_loses_exactly_nothing(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_models.gan("plain").eval()
    from niwaki.compression.sensitivity.trials import Tried

    same = Tried("generator.conv1", "weights", 8, lambda: copy.deepcopy(model))
    monkeypatch.setattr(measure_module, "trials", lambda *_, **__: [same])
    (entry,) = sensitivity(model, digits, SMALL, extractors=[Pixels()]).entries
    assert entry.fidelity == entry.diversity == Damage(0.0, (0.0, 0.0))


def test_those_that_matter_rest_on_more_samples(found: Sensitivity) -> None:
    sure = [e for e in found.entries if e.confirmed]
    assert len(sure) == 2
    assert all(e.n == 200 for e in sure)
    assert all(e.n == 120 for e in found.entries if not e.confirmed)


def test_it_is_the_same_again_and_goes_on_where_it_was_stopped(
    digits: Dataset, found: Sensitivity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = tmp_path / "sensitivity.json", small_models.gan("plain").eval()
    drawn = measure_module.drawn
    made: list[int] = []

    def counted(*args: Any) -> np.ndarray:
        made.append(1)
        return drawn(*args)

    monkeypatch.setattr(measure_module, "drawn", counted)
    first = sensitivity(model, digits, SMALL, extractors=[Pixels()], path=path)
    assert first.entries == found.entries  # deterministic
    assert Sensitivity.from_json(read_json(path)) == first
    trials_in_all = len(made) - 1
    record = read_json(path)
    record["entries"] = record["entries"][:5]
    write_json(path, record)
    made.clear()
    again = sensitivity(model, digits, SMALL, extractors=[Pixels()], path=path)
    done = sum(e["confirmed"] for e in record["entries"])
    assert len(made) - 1 == trials_in_all - 5 - done
    assert {e.key: e for e in again.entries} == {e.key: e for e in first.entries}
    made.clear()
    sensitivity(model, digits, SMALL.model_copy(update={"bits": (8,)}), extractors=[Pixels()], path=path)
    assert len(made) > 5  # other settings: begun anew


def test_the_test_split_is_not_touched(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Dataset.split

    def guarded(self: Dataset, name: str) -> Any:
        assert name != "test"
        return split(self, name)

    monkeypatch.setattr(Dataset, "split", guarded)
    config = SMALL.model_copy(update={"layers": ("generator.last",), "confirm": 0})
    assert sensitivity(small_models.gan("plain"), digits, config, extractors=[Pixels()]).entries


def test_without_a_margin_it_is_refused_with_the_remedy(digits: Dataset) -> None:
    config = SensitivityConfig(n=100, confirm=0)
    with pytest.raises(NiwakiError, match=r"no margin of .* can be measured"):
        sensitivity(small_models.gan("plain"), digits, config, extractors=[Pixels()])


def entry(layer: str, technique: str, strength: float, damage: float, size: int, half: float = 0.1) -> Entry:
    axis = Damage(damage, (damage - half, damage + half))
    return Entry(layer, technique, strength, axis, axis, 100, bytes=size)


def made_of(*entries: Entry) -> Sensitivity:
    return Sensitivity(("a", "b"), entries, {"fidelity": 1.0, "diversity": 1.0}, "pixels", 100, 0)


def test_a_suggestion_takes_what_is_cheap_and_stays_within_what_is_tolerated() -> None:
    found = made_of(
        entry("a", "weights", 8, 0.0, 300), entry("a", "weights", 4, 0.2, 350),
        entry("a", "weights", 3, 2.0, 362),
        entry("b", "weights", 8, 1.5, 30), entry("a", "prune", 0.5, 0.5, 200),
        entry("a", "prune", 0.75, 3.0, 300),
        entry("b", "prune", 0.5, 5.0, 999),
    )  # fmt: skip
    made = suggest(found, 1.0)
    assert made.layers == {"a": {"bits": 4}, "b": "float"}
    assert made.ratios == {"a": 0.5, "b": 0.0}
    assert made.fidelity == pytest.approx(0.7)
    assert made.bytes == 550
    assert suggest(found, 0.1).ratios == {"a": 0.0, "b": 0.0}
    assert suggest(found, 100).ratios == {"a": 0.75, "b": 0.5}
    with pytest.raises(CallError):
        suggest(found, 0)


def test_a_gain_pays_for_nothing() -> None:
    found = made_of(entry("a", "weights", 8, -5.0, 300), entry("b", "weights", 8, 1.5, 300))
    assert suggest(found, 1.0).layers == {"a": {"bits": 8}, "b": "float"}


def test_what_is_confirmed_is_the_worst_and_the_undecided() -> None:
    worst, harmless = entry("a", "prune", 0.75, 9.0, 10), entry("a", "weights", 8, 0.0, 10)
    open_ = entry("b", "weights", 4, 0.95, 50)
    assert _mattering([harmless, open_, worst], 2) == [worst, open_]
    assert _mattering([harmless, open_, worst], 0) == []


def test_the_cheapest_fit_extractor_looks() -> None:
    small, large = Pixels(), Pixels()
    small.name, small.dim = "small", 8
    assert cheapest([large, small], {}) is small
    assert cheapest([large, small], {"small": False}) is large
    assert cheapest([large, small], {"small": False, "pixels": False}) is large
    with pytest.raises(CallError):
        cheapest([], {})


def test_it_stands_in_a_plan() -> None:
    plan = CompressConfig.model_validate({"steps": [{"kind": "quantize"}], "sensitivity": {"n": 256}})
    assert plan.sensitivity == SensitivityConfig(n=256)
    with pytest.raises((ValidationError, CallError)):
        SensitivityConfig(ratios=(1.5,))
