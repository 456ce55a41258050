"""What is rounded in an explanation are the trained weights, whether or not there was time to judge them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from niwaki.compression.config import FinetuneConfig, PruneConfig, QuantizeConfig
from niwaki.compression.search.choices import Choices, Template
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import explaining
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.explaining import Undone, explain
from niwaki.workflow.searching.rehearsal import Loss
from niwaki.workflow.searching.weights import Weights


@pytest.mark.parametrize(("seconds", "judged"), [(600.0, 3), (0.0, 2)])
def test_layers_are_left_unrounded_in_the_trained_model(
    monkeypatch: pytest.MonkeyPatch, seconds: float, judged: int
) -> None:
    rounded_of: list[str] = []

    def without(search: Any, candidate: Any, name: str, model: Any, config: Any, *, now: float) -> Undone:
        rounded_of.append(model)
        return Undone("rounded", name, {}, 0.0, candidate.choices)

    monkeypatch.setattr(explaining, "carry_out", lambda *a, **k: None)
    monkeypatch.setattr(explaining, "_after", lambda search, candidate, plan, k: plan[k].kind)
    monkeypatch.setattr(explaining, "_without", without)
    loss = Loss(1.5, (1.0, 2.0), "loss")
    rehearsal = SimpleNamespace(losses=lambda model: {"fidelity": loss}, particulars={})
    template = Template(PruneConfig(), FinetuneConfig(), QuantizeConfig(backend="niwaki"))
    run = SimpleNamespace(reporter=Quiet(), model="whole")
    search: Any = SimpleNamespace(run=run, template=template, rehearsal=rehearsal)
    candidate = Candidate(Choices({"a": 0.5}, {"a": 4}), trained=(20, 40))
    found = explain(search, candidate, Weights(), seconds=seconds)
    assert [kind for kind, _ in found.steps][-1] == "quantize"
    assert len(found.steps) == judged
    assert rounded_of == ["finetune"]
