"""Fewer evaluations: how many, with which solver, and what a guided sampler saves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from niwaki.compression.arithmetic import passes
from niwaki.compression.config import DistillConfig
from niwaki.compression.search.evaluations import (
    distances,
    fewer_evaluations,
    learnt,
    learnt_evaluations,
    sampled,
    solvers_of,
    steps_for,
)
from niwaki.core.contract import DataSpec, GenerativeModel
from niwaki.models import build

IMAGE = DataSpec.of("image", (1, 8, 8))
LABELLED = DataSpec.of("image", (1, 8, 8), classes=10)


def ddpm(data: DataSpec = IMAGE, **sampling: Any) -> GenerativeModel:
    torch.manual_seed(0)
    settings = {
        "widths": [8, 8],
        "blocks": 1,
        "attention": [],
        "groups": 4,
        "sampling": {"steps": 32, **sampling},
    }
    return build("ddpm", settings, data).eval()


def test_evaluations_are_halved_and_learnt_ones_are_around_what_the_plan_says() -> None:
    model = ddpm()
    assert fewer_evaluations(model) == (16, 8, 4)
    assert learnt_evaluations(model, DistillConfig(evaluations=4)) == (8, 4, 2)
    assert learnt_evaluations(model, DistillConfig(evaluations=1)) == (2, 1)
    assert learnt_evaluations(model, DistillConfig(evaluations=24)) == (24, 12)


def test_a_solver_that_asks_twice_a_step_takes_fewer_steps_for_as_many_evaluations() -> None:
    model = ddpm()
    assert solvers_of(model)[0] == "ddim"
    assert {"dpmpp_2m", "heun"} <= set(solvers_of(model))
    assert passes(sampled(model, 7, "heun")) == 7
    assert steps_for(model, 7) == 7
    assert steps_for(ddpm(solver="heun"), 7) == 4


def test_the_model_s_own_sampling_has_no_distance_and_fewer_evaluations_have_some() -> None:
    model = ddpm()
    assert distances(model, 32, ("ddim",), n=4)["ddim"] == pytest.approx(0.0, abs=1e-6)
    few = distances(model, 4, ("ddim", "heun"), n=4)
    assert min(few.values()) > 1e-3


def test_a_student_of_a_guided_model_asks_once_a_step() -> None:
    model = ddpm(LABELLED, guidance=2.0)
    assert passes(sampled(model, 16, None)) == 32
    assert passes(learnt(model, 16)) == 16
    assert learnt_evaluations(model, DistillConfig(evaluations=4)) == (16, 8, 4, 2)
