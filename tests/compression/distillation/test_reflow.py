"""Reflow: what its pairs are, and that straight paths are what it leads to."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from compression import small_models
from compression.distillation.test_distilled import batch, context
from compression.distillation.test_fewer_steps import DATA, QUICK, SMALL, Ideal, ddpm

from niwaki.compression import CompressConfig, DistillConfig, compress
from niwaki.compression.distillation.fewer_steps import diffusion_of
from niwaki.compression.distillation.reflow import Reflow
from niwaki.core.contract import Batch, CallError, GenerativeModel
from niwaki.models import build

PAIRS = 24
CONFIG = DistillConfig(evaluations=2, method="reflow", pairs=PAIRS)


def begun(teacher: GenerativeModel, data: Batch) -> Reflow:
    both = Reflow(copy.deepcopy(teacher), teacher, CONFIG, 4)
    both.begin_stage(context(), lambda k: data)
    return both


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_pairs_are_the_teachers_own_samples_and_where_they_began(name: str, guidance: float) -> None:
    torch.manual_seed(0)
    teacher = build(name, {**SMALL, "guidance": guidance, "steps": 3}, small_models.IMAGE).eval()
    both = begun(teacher, batch(16))
    seed = int(torch.randint(2**31, (), generator=context().rng))
    labels = torch.cat([batch(16)["class"], batch(16)["class"][:8]])
    wanted = teacher.sample(PAIRS, seed=seed, condition=labels.numpy())
    torch.testing.assert_close(both.made, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(both.condition_0, labels)
    from niwaki.core.backend import TorchBackend
    from niwaki_runtime.samplers import Noise

    process = teacher.sampler().process
    a, s = process.levels(3)[0]
    start = process.start_scale(3) * Noise(TorchBackend(), seed, 0, PAIRS).normal((1, 8, 8))
    torch.testing.assert_close(a * both.made + s * both.noise, start, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
def test_where_paths_are_straight_there_is_nothing_to_learn(name: str) -> None:
    """All data at one point: the exact denoiser follows its own pairs."""
    torch.manual_seed(0)
    model = build(name, {**SMALL, "spacing": "trailing"}, small_models.IMAGE).eval()
    model.denoiser = Ideal(model)
    data = Batch({"x": model.denoiser.c.detach().expand(16, 1, 8, 8), "class": torch.arange(16) % 10})
    both = Reflow(model, model, CONFIG, 8)
    both.begin_stage(context(), lambda k: data)
    assert float(both.loss("distill", data, context())["distill_reflow"]) < 1e-6


def test_pairs_are_kept_with_the_training_and_drawn_from_the_context() -> None:
    """A training that was stopped goes on with the same pairs; the batch's samples play no part."""
    teacher = ddpm(steps=4)
    both = begun(teacher, batch(16))
    again = Reflow(copy.deepcopy(teacher), teacher, CONFIG, 4)
    again.load_state_dict(both.state_dict())
    other = batch(16).replaced(x=torch.zeros(16, 1, 8, 8))
    first, second = both.loss("distill", batch(16), context()), again.loss("distill", other, context())
    assert torch.equal(first["distill_reflow"], second["distill_reflow"])


def test_a_network_that_is_given_its_estimates_is_refused() -> None:
    teacher = ddpm(self_conditioning=True)
    with pytest.raises(CallError, match="self_conditioning: false"):
        Reflow(copy.deepcopy(teacher), teacher, CONFIG, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", "flow-matching"])
def test_paths_become_straight(name: str, tmp_path: Path) -> None:
    """One step of the student leads nearly where eight of its own do; of the teacher it does not."""
    torch.manual_seed(0)
    teacher = build(name, {**SMALL, "steps": 8}, small_models.IMAGE)
    with torch.no_grad():
        for p in teacher.parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=0.5 / p[0].numel() ** 0.5)
    step = DistillConfig(evaluations=2, method="reflow", steps=200, pairs=512, **QUICK)
    made = compress(teacher, DATA, CompressConfig(steps=(step,), measure=False), workdir=tmp_path, seed=0)
    sampler = diffusion_of(made.model)
    assert (sampler.steps, sampler.solver, sampler.evaluations()) == (2, "euler", 2)

    def bend(model: GenerativeModel) -> float:
        few, many = (model.eval().sample(256, seed=1, steps=k, solver="euler", clip=0.0) for k in (1, 8))
        return float((few - many).square().mean())

    assert bend(made.model) < 0.5 * bend(teacher)
