"""What a student of a mean flow and its teacher are asked."""

from __future__ import annotations

import copy

import pytest
import torch
from compression import small_models
from compression.distillation.test_distilled import batch, context

from niwaki.compression import FinetuneConfig
from niwaki.compression.distillation.distilled import Distilled
from niwaki.compression.distillation.rules import on_flow_maps
from niwaki.core.contract import Batch, GenerativeModel
from niwaki.models import build


def mean_flow(**settings: object) -> GenerativeModel:
    torch.manual_seed(0)
    small = {"widths": [8], "blocks": 1, "attention": [], "groups": 4, **settings}
    return build("mean-flow", small, small_models.IMAGE).eval()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_half_of_the_times_are_those_of_the_sampler(steps: int) -> None:
    model = mean_flow(steps=steps)
    graph = model.shipped_graphs()["average_velocity"]
    x, t, r, y = on_flow_maps(model, "average_velocity", graph, batch(64), context())
    own = torch.arange(64) % 2 == 0
    torch.testing.assert_close(t[own] - r[own], torch.full((32,), 1.0 / steps))
    assert len(t[own].unique()) == steps
    assert (t > r).all()
    assert torch.equal(y, batch(64)["class"])
    if steps == 1:  # from noise alone, as sampling begins
        assert float(x[own].std()) == pytest.approx(1.0, abs=0.1)
    else:
        assert float(x[own].std()) < 1.0


def test_data_of_another_shape_are_not_asked_about() -> None:
    model = mean_flow()
    graph = model.shipped_graphs()["average_velocity"]
    assert on_flow_maps(model, "average_velocity", graph, Batch({"x": torch.randn(4, 6)}), context()) is None


def test_a_student_equal_to_its_teacher_differs_in_nothing() -> None:
    model = mean_flow()
    both = Distilled(copy.deepcopy(model), model, FinetuneConfig()).eval()
    (phase,) = both.phases()
    terms = both.loss(phase.name, batch(16), context())
    assert float(terms["distill_average_velocity"].detach()) == pytest.approx(0.0, abs=1e-6)
