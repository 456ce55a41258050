"""A student is taught by what its teacher says at equal noise; what is compared is chosen by the graph's
role."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.compression import FinetuneConfig, prune
from niwaki.compression.distillation.distances import DISTANCES, soft_targets, spread_distance
from niwaki.compression.distillation.distilled import Distilled
from niwaki.compression.distillation.finetune import finetune
from niwaki.compression.distillation.rules import on_latents, on_noised_data
from niwaki.compression.distillation.teachers import answers
from niwaki.compression.distillation.tokens import forced_logits
from niwaki.core.contract import Batch, CallError, Context, DataSpec, GenerativeModel, Graph, Port, View
from niwaki.data import Split
from niwaki_runtime.samplers import Sampler, State


def context(progress: float = 0.0) -> Context:
    return Context(0, progress, "train", {}, torch.Generator().manual_seed(3))


def batch(n: int = 32) -> Batch:
    torch.manual_seed(1)
    return Batch({"x": torch.rand(n, 1, 8, 8) * 2 - 1, "class": torch.arange(n) % 10})


def split(n: int = 256) -> Split:
    b = batch(n)
    return Split.of(small_models.IMAGE, b.x, b["class"])


class Silent(small_models.SmallGan):
    """As an adapted module: it has no loss of its own."""

    name = "silent"

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        raise CallError("this module is not trained here")


def silent() -> Silent:
    torch.manual_seed(0)
    return Silent(small_models.Config(), small_models.IMAGE)


@pytest.mark.parametrize("make", [small_models.gan, small_models.ddpm, small_models.flow])
def test_a_student_equal_to_its_teacher_has_nothing_to_learn(make: object) -> None:
    model = make().eval()  # type: ignore[operator]
    both = Distilled(copy.deepcopy(model), model, FinetuneConfig()).eval()
    data = batch() if model.spec.modality == "image" else Batch({"x": torch.randn(8, 6)})
    found = {
        k: v for p in both.phases() for k, v in both.loss(p.name, data, context()).items() if "distill" in k
    }
    assert found
    assert all(v.item() == 0.0 for v in found.values())


def test_a_denoiser_is_asked_about_noised_data_at_every_noise_level() -> None:
    model = small_models.ddpm()
    data = Batch({"x": torch.full((4096, 1, 8, 8), 0.5), "class": torch.arange(4096) % 10})
    x, t, y = on_noised_data(model, "denoiser", model.graphs()["denoiser"], data, context())
    assert t.min() >= 0
    assert t.max() <= 999
    assert torch.bincount((t / 100).long(), minlength=10).min() > 300  # uniform over 0 … 999
    # x_t = α x₀ + σ ε, α² + σ² = 1, x₀ = ½: E x_t = α/2 and Var x_t = 1 − α², so Var + 4 E² = 1 everywhere
    for k in range(10):
        part = x[(t >= 100 * k) & (t < 100 * k + 20)]
        assert float(part.var() + 4 * part.mean().square()) == pytest.approx(1.0, abs=0.06)
    dropped = y == 10
    assert 0.05 < float(dropped.float().mean()) < 0.15
    assert torch.equal(y[~dropped], data["class"][~dropped])


def test_a_generator_is_asked_about_normal_latents_and_the_batchs_classes() -> None:
    model, data = small_models.gan(), batch(4096)
    z, y = on_latents(model, "generator", model.graphs()["generator"], data, context())
    assert float(z.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(z.var()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(y, data["class"])


def test_the_own_loss_trains_on_beside_the_distance_and_unscaled_in_other_phases() -> None:
    model = small_models.gan().eval()
    small = prune(model, ratio=0.5, round_to=1, min_width=2)
    both = Distilled(small, model, FinetuneConfig(task_loss_weight=0.25, outputs=10.0, distance="l2")).eval()
    assert [p.name for p in both.phases()] == ["critic", "generator"]
    assert both.phases()[1].parameters == ("student.generator",)
    own = small.loss("generator", batch(), context())["generator"]
    terms = both.loss("generator", batch(), context())
    torch.testing.assert_close(terms["generator"], 0.25 * own)
    torch.testing.assert_close(
        both.loss("critic", batch(), context()), small.loss("critic", batch(), context())
    )
    ctx = context()
    small.loss("generator", batch(), ctx)  # the distance is taken after the own loss has drawn its noise
    with torch.no_grad():
        inputs = on_latents(model, "generator", model.graphs()["generator"], batch(), ctx)
        expected = 10.0 * (small.generator(*inputs) - model.generator(*inputs)).square().mean()
    torch.testing.assert_close(terms["distill_generator"], expected)


def test_only_what_the_teacher_teaches_learns_fast() -> None:
    model = small_models.gan()
    rates = Distilled(copy.deepcopy(model), model, FinetuneConfig(lr=0.01, own_lr=0.001)).rates()
    assert rates == {"generator": 0.01, "critic": 0.001}
    model = silent()
    assert Distilled(copy.deepcopy(model), model, FinetuneConfig(lr=0.01)).rates() == {"distill": 0.01}


def test_distances_are_means_over_all_values() -> None:
    a, b = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    assert float(DISTANCES["l1"](a, b)) == 1.5
    assert float(DISTANCES["l2"](a, b)) == 2.5
    assert float(DISTANCES["l1l2"](a, b)) == 4.0


def test_the_teacher_is_no_part_of_what_is_trained_averaged_or_saved() -> None:
    model = small_models.gan()
    both = Distilled(prune(model, ratio=0.5, round_to=1, min_width=2), model, FinetuneConfig())
    assert all(name.startswith("student.") for name in both.state_dict())
    both.train()
    assert not both.teacher.training
    assert not any(p.requires_grad for p in both.teacher.parameters())
    both.to(torch.float64)
    assert {p.dtype for p in both.teacher.parameters()} == {torch.float64}  # it follows the student


def test_running_statistics_are_frozen_in_the_second_half() -> None:
    model = small_models.gan()
    both = Distilled(copy.deepcopy(model), model, FinetuneConfig()).train()
    norm = both.student.generator.norm1
    before = norm.running_mean.clone()
    both.loss("generator", batch(), context(0.2))
    moved = norm.running_mean.clone()
    assert not torch.equal(moved, before)
    both.loss("generator", batch(), context(0.6))
    assert torch.equal(norm.running_mean, moved)


@pytest.mark.parametrize("make", [silent, small_models.gan])
def test_training_brings_the_student_to_the_teacher(make: object) -> None:
    teacher = make()  # type: ignore[operator]
    torch.manual_seed(5)
    for p in teacher.generator.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=1.5 / math.sqrt(p[0].numel()))
    teacher.eval()
    before = copy.deepcopy(teacher.state_dict())
    small = prune(teacher, ratio=0.25, round_to=1, min_width=2)
    z, y = torch.randn(512, 12, generator=torch.Generator().manual_seed(9)), torch.arange(512) % 10

    def gap(model: GenerativeModel) -> float:
        with torch.no_grad():
            return float((model.eval().generator(z, y) - teacher.generator(z, y)).square().mean())

    config = FinetuneConfig(
        steps=80, batch=64, lr=3e-3, task_loss_weight=0.01, ema=0.9, precision="fp32", device="cpu"
    )
    taught = finetune(small, teacher, split(), config, seed=0)
    assert gap(taught) < 0.5 * gap(small)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert taught.surgery == small.surgery


def test_where_nothing_can_be_learned_it_is_said() -> None:
    class Odd(Silent):
        def graphs(self) -> dict[str, Graph]:
            return {"oracle": Graph("oracle", self.generator, (Port("z", (1, 12)),))}

        def sampler(self) -> Sampler:
            return super().sampler().override(graph="oracle")

    torch.manual_seed(0)
    model = Odd(small_models.Config(), small_models.IMAGE)
    with pytest.raises(CallError, match="no rule says how to distil a graph of the role oracle"):
        Distilled(copy.deepcopy(model), model, FinetuneConfig())


def test_the_spread_is_the_mean_error_of_the_distances_between_samples() -> None:
    torch.manual_seed(0)
    wanted, made = torch.randn(6, 2, 3), torch.randn(6, 2, 3)
    errors, lengths = [], []  # of vectors of 6 values
    for i in range(6):
        for j in range(i):
            length = float((wanted[i] - wanted[j]).norm())
            errors.append(abs(float((made[i] - made[j]).norm()) - length))
            lengths.append(length)
    assert float(spread_distance(made, wanted)) == pytest.approx(sum(errors) / 15 / 6**0.5, rel=1e-5)
    # Moving all samples alike changes no distance; shrinking them to their mean by s takes 1 − s of each.
    assert float(spread_distance(wanted + 3.0, wanted)) == pytest.approx(0.0, abs=1e-5)
    assert float(spread_distance(0.7 * wanted, wanted)) == pytest.approx(
        0.3 * sum(lengths) / 15 / 6**0.5, rel=1e-5
    )


def test_the_spread_counts_only_where_samples_are_made() -> None:
    terms = {}
    for make in (silent, small_models.ddpm):
        model = make().eval()
        student = copy.deepcopy(model)
        with torch.no_grad():
            for p in student.parameters():
                p.mul_(0.9)
        for spread in (0.0, 8.0):
            both = Distilled(student, model, FinetuneConfig(task_loss_weight=0.0, spread=spread)).eval()
            for phase in both.phases():
                found = both.loss(phase.name, batch(), context(0.4))
                terms[make.__name__, spread] = {k.split("_")[0] for k in found}
    assert terms == {
        ("silent", 0.0): {"distill"},
        ("silent", 8.0): {"distill", "spread"},
        ("ddpm", 0.0): {"distill"},
        ("ddpm", 8.0): {"distill"},
    }


class Decoding(small_models.SmallRecurrent):
    """A recurrent model whose author called its step a decoder, with its state on the axis of a GRU's."""

    name = "decoding"

    def graphs(self) -> dict[str, Graph]:
        (graph,) = super().graphs().values()
        state = State("hidden", "hidden_next", (1, 1, self.config.width), batch_axis=1)
        cell = View(self, "step")
        return {"decode": Graph("decoder", cell, graph.inputs, graph.outputs, (state,))}

    def step(self, token: Tensor, position: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        logits, after = self.cell(token, position, hidden[0])
        return logits, after[None]


@pytest.mark.parametrize("make", [small_models.SmallRecurrent, Decoding])
def test_what_is_called_token_by_token_is_taught_sequences_whatever_its_role(make: type) -> None:
    torch.manual_seed(0)
    model = make(small_models.Config(), DataSpec.of("text", (5,), levels=7))
    both = Distilled(copy.deepcopy(model), model, FinetuneConfig(task_loss_weight=0.0))
    nn.init.normal_(both.student.cell.head.weight)
    x = torch.randint(0, 7, (8, 5))
    terms = both.loss("distill", Batch({"x": x}), context(0.5))
    assert list(terms) == ["distill_decode"]
    made, wanted = (forced_logits(m, "decode", Batch({"x": x}), context()) for m in (both.student, model))
    assert float(terms["distill_decode"].detach()) == pytest.approx(
        both.config.outputs * float(soft_targets(made, wanted, both.config.temperature).detach())
    )


def test_state_is_no_answer() -> None:
    graph = Decoding(small_models.Config(), DataSpec.of("text", (5,), levels=7)).graphs()["decode"]
    assert [tuple(a.shape) for a in answers(graph, graph.example(4))] == [(4, 7)]
