"""Distribution matching: its gradient in closed form where student and teacher are Gaussian."""

from __future__ import annotations

import copy

import pytest
import torch
from compression.distillation.gaussians import PATHS, STD, gaussian
from compression.distillation.test_distilled import batch, context
from torch import Tensor

from niwaki.compression import DistillConfig
from niwaki.compression.distillation.denoising import Denoising
from niwaki.compression.distillation.distribution_matching import DistributionMatching, matching_direction
from niwaki.core.contract import Context
from niwaki.nn.diffusion import columns


def rule(
    name: str, mean: float = 0.0, std: float = STD, steps: int = 1, **changes: object
) -> DistributionMatching:
    """The teacher's data are N(0, STD²); the fake denoiser knows the student's to be N(mean, std²)."""
    teacher = gaussian(name)
    config = DistillConfig(evaluations=steps, method="distribution_matching", **changes)
    both = DistributionMatching(copy.deepcopy(teacher), teacher, config, steps)
    both.fake = gaussian(name, mean, std)
    return both


def at(step: int) -> Context:
    return Context(step, 0.0, "main", {}, torch.Generator().manual_seed(7))


def gradient(both: DistributionMatching, made: Tensor) -> Tensor:
    """d loss / d samples, times their number."""
    made = made.requires_grad_(True)
    denoising = Denoising(both.sampler, both.teacher, batch(len(made)), context())
    (found,) = torch.autograd.grad(both._mismatch(denoising, made, context()), made)
    return found * made.numel()


@pytest.mark.parametrize("name", PATHS)
def test_where_both_distributions_are_equal_there_is_no_gradient(name: str) -> None:
    found = gradient(rule(name), STD * torch.randn(64, 1, 8, 8))
    assert float(found.abs().max()) < 1e-4


@pytest.mark.parametrize("mean", [-0.3, 0.3])
@pytest.mark.parametrize("name", PATHS)
def test_the_gradient_moves_the_mean_to_the_teachers(name: str, mean: float) -> None:
    """Gradient descent goes against the gradient, so it has the sign of what is too much, everywhere."""
    found = gradient(rule(name, mean), mean + STD * torch.randn(64, 1, 8, 8))
    assert (found.mean(0) * mean > 0).all()


@pytest.mark.parametrize("factor", [0.5, 1.5])
@pytest.mark.parametrize("name", PATHS)
def test_the_gradient_widens_what_is_narrow_and_narrows_what_is_wide(name: str, factor: float) -> None:
    """It keeps diversity: samples that lie too close to the mean are driven outwards."""
    made = factor * STD * torch.randn(256, 1, 8, 8)
    inwards = float((gradient(rule(name, 0.0, factor * STD), made.clone()) * made).mean())
    assert (inwards < 0) == (factor < 1)
    assert abs(inwards) > 1e-3


@pytest.mark.parametrize("name", PATHS)
def test_the_direction_is_the_difference_of_the_scores(name: str) -> None:
    """μ_fake − μ_real = (σ²/α) (s_fake − s_real) (Tweedie), against the scores of both Gaussians."""
    both = rule(name, 0.2, 0.6)
    x0 = torch.randn(32, 1, 8, 8)
    x, t, _, a, s = both._noised(x0, context())
    denoising = Denoising(both.sampler, both.teacher, batch(32), context())
    time = both.path.network_time(t)
    fake, real = (denoising.predicted(m, x, time, a, s)[0] for m in (both.fake, both.teacher))
    scores = [-(x - a * m) / (a * a * d * d + s * s) for m, d in ((0.2, 0.6), (0.0, STD))]
    torch.testing.assert_close(a * (fake - real), s * s * (scores[0] - scores[1]), atol=2e-4, rtol=1e-3)
    direction = matching_direction(x0, fake, real)
    size = (x0 - real).abs().flatten(1).mean(1)
    torch.testing.assert_close(direction * columns(size, x0), fake - real, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PATHS)
def test_the_fake_denoiser_has_learnt_all_where_it_is_exact(name: str) -> None:
    """The derivative of its loss by its own mean and spread vanishes on samples of just those."""
    both = rule(name, 0.2, 0.6).requires_grad_(True)
    denoising = Denoising(both.sampler, both.teacher, batch(4096), context())
    made = 0.2 + 0.6 * torch.randn(4096, 1, 8, 8)
    loss = both._denoised(denoising, made, context())
    right = torch.stack(torch.autograd.grad(loss, list(both.fake.denoiser.parameters())))
    loss = both._denoised(denoising, made + 0.2, context())
    wrong = torch.stack(torch.autograd.grad(loss, list(both.fake.denoiser.parameters())))
    assert float(right.abs().max()) < 0.1 * float(wrong.abs().max())


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("name", PATHS)
def test_what_is_trained_is_what_the_sampler_makes(name: str, steps: int) -> None:
    """The last jump's samples are distributed as those of the solver `consistency`, whose denoiser of a
    Gaussian shrinks them by what can be computed."""
    both = rule(name, steps=steps)
    n = 512
    denoising = Denoising(both.sampler, both.teacher, batch(n), context())
    made = both.made(denoising, torch.empty(n, 1, 8, 8), at(steps - 1))
    kind = both.sampler.process
    wanted = both.student.sample(n, seed=3, process=kind, solver="consistency", steps=steps)
    assert float(made.detach().std()) == pytest.approx(float(wanted.std()), rel=0.03)
    assert float(made.detach().mean()) == pytest.approx(float(wanted.mean()), abs=0.01)


def test_jumps_are_trained_in_turns_and_alone() -> None:
    both = rule("ddpm", steps=4)
    seen = []
    predicted = Denoising.predicted

    class Counting(Denoising):
        def predicted(self, *given: object, **more: object) -> tuple[Tensor, Tensor]:
            out = predicted(self, *given, **more)  # type: ignore[arg-type]
            seen.append(out[0].requires_grad)
            return out

    for step in range(8):
        seen.clear()
        denoising = Counting(both.sampler, both.teacher, batch(4), context())
        both.made(denoising, torch.empty(4, 1, 8, 8), at(step))
        assert seen == [False] * (step % 4) + [True]


@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_every_phase_trains_its_own(adversarial: float) -> None:
    both = rule("ddpm", 0.3, adversarial=adversarial, own_lr=1e-3)
    names = [p.name for p in both.phases()]
    assert names == ["distill", "fake", *(["critic"] if adversarial else [])]
    assert list(both.rates()) == names
    for phase in both.phases():
        for name, p in both.named_parameters():
            p.requires_grad_(any(name == q or name.startswith(q + ".") for q in phase.parameters))
            p.grad = None
        sum(both.loss(phase.name, batch(16), context()).values()).backward()  # type: ignore[union-attr]
        moved = {n for n, p in both.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
        owner = {"fake": "fake.", "critic": "critic.", "distill": "student."}[phase.name]
        assert moved
        assert all(name.startswith(owner) for name in moved)
