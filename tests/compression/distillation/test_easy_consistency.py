"""Easy consistency tuning: its boundary, its closing gaps, and what it leaves alone where nothing is to be
learnt."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from compression import small_models
from compression.distillation.gaussians import PATHS, STD, gaussian
from compression.distillation.test_distilled import batch, context
from torch import Tensor, nn

from niwaki.compression import DistillConfig
from niwaki.compression.distillation import easy_consistency
from niwaki.compression.distillation.easy_consistency import EasyConsistency
from niwaki.core.contract import Batch, GenerativeModel
from niwaki.models import build
from niwaki.nn.diffusion import TensorProcess, columns

CONFIG = DistillConfig(evaluations=2, method="easy_consistency", steps=1600)
FIRST, LAST = 0.0, 0.999
"""Progress at which gaps are widest, and narrowest."""


def rule(name: str, **settings: object) -> EasyConsistency:
    model = gaussian(name, **settings)
    return EasyConsistency(copy.deepcopy(model), model, CONFIG, 2)


class ExactConsistency(nn.Module):
    """The consistency function of x₀ ~ N(m, STD²), as the network would say it: the flow keeps the quantile,
    so that f(x_t) = m + STD (x_t − α m) / √(α² STD² + σ²)."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.sampler, self.path = model.sampler(), TensorProcess(model.sampler().process)
        self.mean = nn.Parameter(torch.linspace(-0.5, 0.5, 64).reshape(1, 1, 8, 8))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        a, s = (columns(level, x) for level in self.levels(t))
        process = self.sampler.process
        x = x / process.network_input(torch.ones(()), a, s)
        f = self.mean + STD * (x - a * self.mean) / (a * a * STD**2 + s * s).sqrt()
        return process.conversion(self.sampler.prediction).target(f, (x - a * f) / s, a, s)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.sampler.process.kind
        if kind == "variance_preserving":
            return self.path.levels(t.long())
        time = (4.0 * t).exp() if kind == "karras" else t / 1000.0
        return self.path.levels(time)


@pytest.mark.parametrize("name", PATHS)
def test_the_end_of_the_path_is_said_to_be_itself(name: str) -> None:
    """f(x, t_min) = x: whatever the network says of a sample without noise, the sampler reads x."""
    both = rule(name)
    process = both.sampler.process
    s = 1e-4
    x, out = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    a = math.sqrt(1 - s * s) if process.preserves_variance else 1.0 - s if process.kind == "linear" else 1.0
    x0, _ = process.conversion(both.sampler.prediction).to_x0_eps(x, out, a, s)
    torch.testing.assert_close(x0, x, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", PATHS)
def test_gaps_close_and_are_wider_where_there_is_little_noise(name: str) -> None:
    both = rule(name)
    t = both.path.draw(256, torch.Generator().manual_seed(0)).sort().values
    shares = []
    for progress in (FIRST, 0.5, LAST):
        r, end = both.earlier(t, progress)
        end = end.flatten()
        assert ((r < t) | end).all()  # an end is marked, and there the time is not used
        assert (r >= 0).all()
        shares.append(float(end.float().mean()))
        ratio = torch.where(end, 0.0, r.float()) / t.clamp_min(1e-9)
        rest = ratio[t > t.median()]
        assert (rest.diff() > -0.02).all()  # later times keep at least the same share
    assert shares[0] > shares[1] >= shares[2]


@pytest.mark.parametrize("name", PATHS)
def test_the_widest_gaps_lead_to_the_data_and_the_narrowest_do_not(name: str) -> None:
    """Where r is the end the target is the real sample itself: a diffusion model's loss."""
    both = rule(name)
    little = both.path.draw(512, torch.Generator().manual_seed(0)).min().reshape(1)
    assert both.earlier(little, FIRST)[1].all()
    much = both.asked[:1]
    assert not both.earlier(much, LAST)[1].any()


@pytest.mark.parametrize("progress", [FIRST, 0.5, LAST])
@pytest.mark.parametrize("name", PATHS)
def test_the_loss_of_the_exact_consistency_function_is_zero_along_its_own_flow(
    name: str, progress: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x_t, x_r on one path of the flow of a Gaussian: all say the same end.

    Two noised copies of one sample lie on different paths, but for the noise that the flow itself would give
    that sample: ε = (x₀ − m) / STD, at which α x₀ + σ ε runs along no flow unless noise and sample are one.
    So the data are the mean, where the noise alone says the quantile, and x_r is put on the flow.
    """
    both = rule(name)
    exact = ExactConsistency(both.teacher)
    both.student.denoiser = exact
    n = 64
    t = both.path.draw(n, torch.Generator().manual_seed(1))
    r, end = both.earlier(t, progress)
    z = torch.randn(n, 1, 8, 8)
    mean = exact.mean.detach()

    def at(time: Tensor, clean: Tensor | None = None) -> Tensor:
        a, s = (columns(level, z) for level in both.path.levels(time))
        if clean is not None:
            a, s = torch.where(clean, 1.0, a), torch.where(clean, 0.0, s)
        return a * mean + (a * a * STD**2 + s * s).sqrt() * z

    flow = {"t": at(t), "r": at(r, end)}
    calls = iter(("t", "r"))
    monkeypatch.setattr(easy_consistency, "noised", lambda *_: flow[next(calls)])
    monkeypatch.setattr(both, "_times", lambda n, ctx: t)
    data = Batch({"x": mean.expand(n, 1, 8, 8), "class": torch.arange(n) % 10})
    loss = both.loss("distill", data, context(progress))
    gap = 2.0 ** -(1 + min(7, int(progress * 8)))
    assert float(loss["distill_easy_consistency"].detach()) == pytest.approx(0.0, abs=2e-3 / gap)


@pytest.mark.parametrize("name", PATHS)
def test_no_gradient_passes_the_target(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of the same loss with the target held: another network's would be the same."""
    model = build(name, {"widths": [8, 8], "blocks": 1, "attention": [], "groups": 4}, small_models.IMAGE)
    both = EasyConsistency(copy.deepcopy(model), model.eval(), CONFIG, 2)
    seen: list[Tensor] = []
    distance = easy_consistency.pseudo_huber

    def look(made: Tensor, wanted: Tensor) -> Tensor:
        seen.extend((made, wanted))
        return distance(made, wanted)

    monkeypatch.setattr(easy_consistency, "pseudo_huber", look)
    loss = both.loss("distill", batch(16), context(LAST))["distill_easy_consistency"]
    loss.backward()
    made, wanted = seen
    assert made.requires_grad
    assert not wanted.requires_grad
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in both.student.parameters())
    assert all(p.grad is None for p in both.teacher.parameters())


def test_a_guided_teacher_is_imitated_as_it_is_guided() -> None:
    """Its own step leads from x_t to x_r: another guidance, another loss; the data alone do not say it."""
    losses = []
    for guidance in (1.0, 3.0):
        settings = {"widths": [8, 8], "blocks": 1, "attention": [], "groups": 4, "guidance": guidance}
        torch.manual_seed(0)
        model = build("ddpm", settings, small_models.IMAGE).eval()
        for p in model.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.5 / p[0].numel() ** 0.5)
        both = EasyConsistency(copy.deepcopy(model), model, CONFIG, 2)
        loss = both.loss("distill", batch(32), context(0.5))["distill_easy_consistency"]
        losses.append(float(loss.detach()))
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(("steps", "stages"), [(50, 3), (600, 3), (900, 4), (1600, 8), (99999, 8)])
def test_a_short_training_stays_at_wide_gaps(steps: int, stages: int) -> None:
    model = gaussian("flow-matching")
    config = DistillConfig(evaluations=1, method="easy_consistency", steps=steps)
    both = EasyConsistency(copy.deepcopy(model), model, config, 1)
    t = torch.tensor([0.9])
    r, _ = both.earlier(t, LAST)
    wider = 1.0 + 8.0 / (1.0 + math.exp(9.0))
    assert float(1.0 - r / t) == pytest.approx(wider / 2**stages, rel=1e-3)


def test_times_that_the_few_steps_ask_at_are_trained_more() -> None:
    both = rule("ddpm")
    t = both._times(4000, context())
    share = float(torch.isin(t, both.asked).float().mean())
    assert share == pytest.approx(easy_consistency.ASKED, abs=0.03)
