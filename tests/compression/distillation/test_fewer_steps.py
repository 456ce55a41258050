"""A diffusion student that needs fewer steps, and a student that is smaller from the start."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compression import small_models
from compression.distillation.test_distilled import batch, context, split
from torch import Tensor, nn

import niwaki_runtime
from niwaki.compression import (
    CompressConfig,
    DistillConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
    SamplingConfig,
    compress,
)
from niwaki.compression.distillation.fewer_steps import Consistency, Progressive, _Walk, diffusion_of
from niwaki.compression.distillation.student import smaller, with_sampling
from niwaki.core.contract import Batch, CallError, GenerativeModel
from niwaki.models import build
from niwaki.models.io import load_model
from niwaki_runtime.process.schedules import timesteps

DATA = SimpleNamespace(train=split(), fingerprint="test")
QUICK = {"lr": 1e-3, "batch": 64, "ema": 0.9, "precision": "fp32", "device": "cpu"}


def ddpm(**config: object) -> GenerativeModel:
    """A small U-Net of ours, with weights that say something."""
    torch.manual_seed(0)
    settings = {"widths": [8, 8], "blocks": 1, "attention": [], "groups": 4, "steps": 8, **config}
    model = build("ddpm", settings, small_models.IMAGE).eval()
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=0.5 / p[0].numel() ** 0.5)
    return model


class Ideal(nn.Module):
    """The exact denoiser of data that is one point, in the terms of the model's own path."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        sampler = model.sampler()
        self.path, self.prediction = sampler.process, sampler.prediction
        times = self.path.nested().times(8)
        self.known = {self.path.network_time(t): self.path.alpha_sigma(t) for t in times}
        self.c = nn.Parameter(torch.linspace(-0.9, 0.9, 64).reshape(1, 1, 8, 8))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        at = (t[:, None] - torch.tensor(list(self.known))).abs().argmin(1)
        a, s = torch.tensor(list(self.known.values()))[at].reshape(-1, 2, 1, 1, 1).unbind(1)
        x = x / self.path.network_input(torch.ones(()), a, s)
        return self.path.conversion(self.prediction).target(self.c, (x - a * self.c) / s, a, s)


SMALL = {"widths": [8, 8], "blocks": 1, "attention": [], "groups": 4, "steps": 8}


def ideal(name: str) -> GenerativeModel:
    torch.manual_seed(0)
    model = build(name, SMALL, small_models.IMAGE).eval()
    model.denoiser = Ideal(model)
    return model


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
@pytest.mark.parametrize(
    "make", [lambda s, t, c: Progressive(s, t, c, 4), lambda s, t, c: Consistency(s, t, c, 8)]
)
def test_where_one_step_is_enough_there_is_nothing_to_learn(make: object, name: str) -> None:
    """All data at one point: the path is straight, so one step does what two do, and all jumps meet."""
    model = ideal(name)
    config = DistillConfig(evaluations=4)
    both = make(model, model, config)  # type: ignore[operator]
    data = Batch({"x": model.denoiser.c.detach().expand(64, 1, 8, 8), "class": torch.arange(64) % 10})
    loss = both.loss("distill", data, context())
    assert float(next(iter(loss.values()))) == pytest.approx(0.0, abs=1e-5)


def test_one_step_to_the_progressive_target_arrives_where_two_of_the_teacher_do() -> None:
    teacher = ddpm(steps=8)
    both = Progressive(copy.deepcopy(teacher), teacher, DistillConfig(evaluations=4), 4)
    assert both.sampler.steps == 8
    data, ctx = batch(64), context()
    grid = timesteps("trailing", 1000, 8)
    assert grid[::2] == timesteps("trailing", 1000, 4)  # the student's times are every other one
    walk = _Walk(both, torch.device("cpu"), data, ctx)
    at = (torch.arange(64) % 4) * 2
    x = torch.randn(64, 1, 8, 8)
    there = walk.taught(walk.taught(x, at), at + 1)
    (a, s), (a_end, s_end) = walk.levels(at), walk.levels(at + 2)
    target = (there - (s_end / s) * x) / (a_end - (s_end / s) * a)
    eps = (x - a * target) / s
    torch.testing.assert_close(a_end * target + s_end * eps, there, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddpm", "edm", "flow-matching"])
def test_the_teachers_step_is_the_samplers_own(name: str) -> None:
    """All samples started together walk the sampler's own path, guidance and clipping included."""
    torch.manual_seed(0)
    settings = {**SMALL, "steps": 4, "guidance": 2.0, "solver": "euler"}
    teacher = build(name, settings, small_models.IMAGE).eval()
    for p in teacher.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=0.5 / p[0].numel() ** 0.5)
    both = Consistency(copy.deepcopy(teacher), teacher, DistillConfig(evaluations=2), 4)
    y = torch.arange(6) % 10
    data = Batch({"x": torch.zeros(6, 1, 8, 8), "class": y})
    walk = _Walk(both, torch.device("cpu"), data, context())
    from niwaki.core.backend import TorchBackend
    from niwaki_runtime.samplers import Noise

    x = Noise(TorchBackend(), 5, 0, 6).normal((1, 8, 8)) * both.sampler.process.start_scale(4)
    for i in range(4):
        x = walk.taught(x, torch.full((6,), i))
    wanted = teacher.sample(6, seed=5, condition=y, process=both.sampler.process)
    torch.testing.assert_close(x, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param("edm", "consistency", marks=pytest.mark.slow),
        pytest.param("flow-matching", "progressive", marks=pytest.mark.slow),
        pytest.param("edm", "progressive", marks=pytest.mark.slow),
        pytest.param("flow-matching", "consistency", marks=pytest.mark.slow),
        pytest.param("edm", "easy_consistency", marks=pytest.mark.slow),
        pytest.param("flow-matching", "easy_consistency", marks=pytest.mark.slow),
        pytest.param("edm", "distribution_matching", marks=pytest.mark.slow),
        pytest.param("flow-matching", "distribution_matching", marks=pytest.mark.slow),
    ],
)
def test_other_paths_are_saved_with_their_few_steps(name: str, method: str, tmp_path: Path) -> None:
    teacher = build(name, {**SMALL, "steps": 3}, small_models.IMAGE)
    step = DistillConfig(evaluations=2, method=method, steps=4, **QUICK)
    made = compress(teacher, DATA, CompressConfig(steps=(step,), measure=False), workdir=tmp_path, seed=0)
    sampler = diffusion_of(load_model(tmp_path))
    assert sampler == diffusion_of(made.model)
    assert sampler.process == teacher.sampler().process.nested()
    assert sampler.evaluations() == 2
    bundle = niwaki_runtime.load(made.bundle, precision="exact")
    assert bundle.sample(4, seed=3) == pytest.approx(made.model.sample(4, seed=3).numpy(), abs=1e-3)


@pytest.mark.slow
def test_evaluations_are_calls_and_not_steps(tmp_path: Path) -> None:
    teacher = build("edm", SMALL, small_models.IMAGE)
    step = CompressConfig(steps=(SamplingConfig(evaluations=7),), measure=False)
    made = compress(teacher, None, step, workdir=tmp_path, seed=0)
    sampler = diffusion_of(made.model)
    assert (sampler.steps, sampler.evaluations()) == (4, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["progressive", "consistency", "easy_consistency", "distribution_matching"]
)
def test_training_for_fewer_steps_comes_nearer_to_the_teachers_samples(method: str, tmp_path: Path) -> None:
    teacher = ddpm(steps=8)
    wanted = teacher.sample(256, seed=1)
    plain = teacher.sample(256, seed=1, steps=2)
    config = CompressConfig(
        steps=(DistillConfig(evaluations=2, method=method, steps=160, **QUICK),), measure=False
    )
    made = compress(teacher, DATA, config, workdir=tmp_path, seed=0)
    sampler = diffusion_of(made.model)
    assert (sampler.steps, sampler.guidance) == (2, 1.0)
    assert made.records[0].macs[1] * 4 == made.records[0].macs[0]
    if method == "progressive":  # deterministic, so pairs can be compared
        ours = made.model.sample(256, seed=1)
        assert float((ours - wanted).square().mean()) < 0.8 * float((plain - wanted).square().mean())
    again = load_model(tmp_path)
    assert diffusion_of(again) == sampler
    bundle = niwaki_runtime.load(made.bundle, precision="exact")
    assert bundle.sampler.evaluations() == 2
    ours = made.model.sample(4, seed=3).numpy()
    assert bundle.sample(4, seed=3) == pytest.approx(ours, abs=1e-4)


@pytest.mark.slow
def test_later_steps_imitate_the_model_of_few_steps(tmp_path: Path) -> None:
    """The model of many steps answers another question; led back to it, the student would forget."""
    teacher = ddpm(steps=8, widths=[8, 16])
    few = DistillConfig(evaluations=2, steps=60, **QUICK)
    cut = PruneConfig(ratio=0.25, round_to=4, min_width=4)
    tune = FinetuneConfig(steps=60, task_loss_weight=0.0, **QUICK)
    plan = CompressConfig(steps=(few, cut, tune), measure=False)
    made = compress(teacher, DATA, plan, workdir=tmp_path, seed=0)
    first = load_model(tmp_path / "steps" / "1-distill")
    x = teacher.graphs()["denoiser"].example(64, 5)
    with torch.no_grad():
        asked = [m.denoiser(*x) for m in (made.model, first, teacher)]
    assert float((asked[0] - asked[1]).square().mean()) < 0.5 * float((asked[0] - asked[2]).square().mean())


@pytest.mark.slow
def test_a_smaller_student_of_the_same_family_is_taught_from_nothing(tmp_path: Path) -> None:
    teacher = ddpm(widths=[16, 16])
    step = DistillConfig(student={"widths": [8, 8]}, steps=40, task_loss_weight=0.0, **QUICK)
    made = compress(teacher, DATA, CompressConfig(steps=(step,), measure=False), workdir=tmp_path, seed=0)
    assert made.model.config.widths == (8, 8)
    assert made.records[0].parameters[1] < made.records[0].parameters[0]
    fresh = smaller(teacher, {"widths": [8, 8]})
    data = batch(256)
    x = torch.randn(256, 1, 8, 8), torch.full((256,), 500.0), data["class"]

    def gap(model: GenerativeModel) -> float:
        with torch.no_grad():
            return float((model.eval().denoiser(*x) - teacher.denoiser(*x)).square().mean())

    assert gap(made.model) < gap(fresh)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"width": [8]}, "has no setting 'width'; did you mean 'widths'"),
        ({"widths": [32, 32]}, "make it smaller"),
        ({"widths": "wide"}, "'model.widths' of the model 'ddpm'"),
    ],
)
def test_a_student_that_cannot_be_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(CallError, match=text):
        smaller(ddpm(widths=[16, 16]), changes)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="either 'student'"):
        DistillConfig()
    with pytest.raises(CallError, match="either 'student'"):
        DistillConfig(student={"widths": [4]}, evaluations=2)
    with pytest.raises(CallError, match="does not sample by one diffusion"):
        diffusion_of(small_models.gan())
    plan = CompressConfig(steps=(DistillConfig(evaluations=8, steps=2),), measure=False)
    with pytest.raises(CallError, match="8 are not fewer"):
        compress(ddpm(steps=8), DATA, plan, workdir=tmp_path, seed=0)
    with pytest.raises(CallError, match="put it first"):
        CompressConfig(steps=(FinetuneConfig(), DistillConfig(student={"widths": [8]})))


def test_another_sampling_is_said_by_the_config() -> None:
    model = ddpm()
    with_sampling(model, steps=3, guidance=1.0, solver="ddim")
    assert (model.config.sampling["steps"], model.sampler().steps) == (3, 3)
    fixed = small_models.ddpm()  # does not look at its config for them
    with pytest.raises(CallError, match="does not sample as its config says: 'steps'"):
        with_sampling(fixed, steps=diffusion_of(fixed).steps - 1)


@pytest.mark.slow
def test_the_same_network_in_fewer_steps_needs_no_training(tmp_path: Path) -> None:
    teacher = ddpm(steps=12)
    step = SamplingConfig(evaluations=6, solver="dpmpp_2m")
    made = compress(teacher, None, CompressConfig(steps=(step,), measure=False), workdir=tmp_path, seed=0)
    assert (diffusion_of(made.model).steps, diffusion_of(made.model).solver) == (6, "dpmpp_2m")
    assert made.records[0].notes == ("6 steps of dpmpp_2m instead of 12 of ddim",)
    wanted = teacher.sample(16, seed=1, steps=6, solver="dpmpp_2m")
    assert torch.equal(load_model(tmp_path).sample(16, seed=1), wanted)
    same = CompressConfig(steps=(SamplingConfig(evaluations=12),), measure=False)
    (idle,) = compress(teacher, None, same, workdir=tmp_path / "same", seed=0).records
    assert "the step 'sampling' changed nothing" in idle.notes[0]
    with pytest.raises(CallError, match="put it before 'quantize'"):
        CompressConfig(steps=(QuantizeConfig(), step))
    with pytest.raises(CallError, match="sampling needs"):
        SamplingConfig()
