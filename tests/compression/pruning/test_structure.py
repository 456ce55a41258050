"""Couplings are found once for models that differ in nothing but weights, and anew for all others."""

from __future__ import annotations

import copy

import pytest
import torch
from compression import small_models

from niwaki.compression import PruneConfig
from niwaki.compression.pruning import choice
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.choice import chosen_couplings
from niwaki.compression.pruning.structure import structure_of
from niwaki.compression.pruning.trial import Trial


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that a trial was made of."""
    made: list[str] = []

    class Counted(Trial):
        def __init__(self, model, seed=0):  # type: ignore[no-untyped-def]
            made.append(structure_of(model))
            super().__init__(model, seed)

    monkeypatch.setattr(choice, "Trial", Counted)
    monkeypatch.setattr(choice, "_known", {})
    return made


def test_weights_are_no_part_of_a_structure() -> None:
    one, other = small_models.gan(), small_models.gan()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert structure_of(one) == structure_of(other) == structure_of(copy.deepcopy(one))


def test_widths_edits_and_noted_numbers_are() -> None:
    model = small_models.gan()
    cut = pruned(model, PruneConfig(ratio=0.5, round_to=1, min_width=2)).model
    assert structure_of(cut) != structure_of(model)
    noted = copy.deepcopy(model)
    next(iter(noted.children())).heads = 3  # type: ignore[assignment]
    assert structure_of(noted) != structure_of(model)


def test_couplings_of_a_structure_are_found_once_and_are_the_same(tried: list[str]) -> None:
    model = small_models.gan()
    first, skipped = chosen_couplings(model, PruneConfig())
    first.clear()  # what a caller does with them changes nothing
    skipped["x"] = "y"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    found, reasons = chosen_couplings(model, PruneConfig())
    assert found
    assert "x" not in reasons
    assert len(tried) == 1
    chosen_couplings(model, PruneConfig(), seed=1)
    chosen_couplings(model, PruneConfig(exclude=(found[0].layers[0],)))
    assert len(tried) == 3


def test_no_more_than_a_few_are_remembered(tried: list[str]) -> None:
    model = small_models.gan()
    for seed in range(2 * choice._KEPT):
        chosen_couplings(model, PruneConfig(), seed=seed)
    assert len(choice._known) == choice._KEPT
