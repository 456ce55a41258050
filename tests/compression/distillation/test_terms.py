"""What else a student is taught: features, soft targets, a critic's opinion, the mean of several teachers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from compression import small_models
from compression.distillation.test_distilled import batch, context, silent, split
from torch import Tensor

from niwaki.compression import FinetuneConfig, prune
from niwaki.compression.distillation.critic import Critic, critic_loss, fooling_loss
from niwaki.compression.distillation.distances import soft_targets
from niwaki.compression.distillation.distilled import CRITIC, Distilled
from niwaki.compression.distillation.features import FeatureTaps, feature_distance
from niwaki.compression.distillation.finetune import finetune
from niwaki.compression.distillation.teachers import Teachers
from niwaki.compression.distillation.tokens import forced_logits
from niwaki.core.contract import Batch, CallError, DataSpec, GenerativeModel
from niwaki.data import Split
from niwaki.models.io import save_model

OFF = {"task_loss_weight": 0.0, "spread": 0.0}


# -- features


def test_features_of_kept_channels_are_compared_with_the_teachers_same_channels() -> None:
    teacher = small_models.gan().eval()
    student = prune(teacher, ratio=0.5, round_to=1, min_width=2, exclude=("generator.embed",))
    taps = FeatureTaps(student, teacher, "generator", 8)
    assert taps.layers
    inputs = teacher.graphs()["generator"].example(16)
    with taps.recording(teacher.graphs()["generator"]) as wanted:
        teacher.graphs()["generator"](*inputs)
    with taps.recording(student.graphs()["generator"]) as made:
        student.graphs()["generator"](*inputs)
    first = taps.layers[0]  # the layer after the input: its kept channels compute what they did
    kept = taps._kept[first]
    assert 0 < len(kept) < wanted[first].shape[1]
    torch.testing.assert_close(made[first], wanted[first][:, kept])
    assert float(feature_distance(made[first], wanted[first], kept)) < 1e-10


def test_features_of_other_widths_are_compared_by_the_similarity_of_samples() -> None:
    torch.manual_seed(0)
    wanted = torch.randn(6, 5, 3)
    turned = wanted.flatten(1) @ torch.linalg.qr(torch.randn(15, 15)).Q  # a rotation keeps all similarities
    wider = torch.cat([turned, torch.zeros(6, 4)], 1)
    assert float(feature_distance(wider, wanted)) == pytest.approx(0.0, abs=1e-10)
    made = torch.randn(6, 7)
    rows = []
    for f in (made, wanted.flatten(1)):  # the definition, pair by pair
        gram = torch.tensor([[float(f[i] @ f[j]) for j in range(6)] for i in range(6)])
        rows.append(torch.stack([r / r.norm() for r in gram]))
    expected = float((rows[0] - rows[1]).square().sum()) / 36
    assert float(feature_distance(made, wanted)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [small_models.gan, small_models.ddpm, small_models.flow])
def test_equal_networks_have_equal_features(make: object) -> None:
    model = make().eval()  # type: ignore[operator]
    both = Distilled(copy.deepcopy(model), model, FinetuneConfig(features=2.0, **OFF)).eval()
    data = batch() if model.spec.modality == "image" else Batch({"x": torch.randn(8, 6)})
    terms = both.loss(both.phases()[0].name, data, context())
    found = {k: float(v.detach()) for k, v in terms.items() if k.startswith("features_")}
    assert found
    assert all(v == 0.0 for v in found.values())


def test_features_teach_what_the_outputs_do_not_reach() -> None:
    """With the outputs' distance out of the way the inside of the student comes nearer to the teacher's."""
    teacher = silent().eval()
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    config = FinetuneConfig(steps=60, lr=3e-3, features=1.0, outputs=0.0, ema=0.9, precision="fp32", **OFF)

    def gap(model: GenerativeModel) -> float:
        both = Distilled(copy.deepcopy(model), teacher, config).eval()
        return float(both.loss("distill", batch(256), context())["features_generator"])

    taught = finetune(student, teacher, split(), config, seed=0)
    assert gap(taught) < 0.5 * gap(student)


# -- tokens


def tokens(n: int = 16) -> Batch:
    x = torch.randint(0, 7, (n, 5), generator=torch.Generator().manual_seed(2))
    return Batch({"x": x})


def test_soft_targets_are_the_kl_divergence_by_definition() -> None:
    torch.manual_seed(0)
    made, wanted = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    for temperature in (1.0, 2.5):
        total = 0.0
        for s, t in zip(made.flatten(0, 1).tolist(), wanted.flatten(0, 1).tolist(), strict=True):
            p, q = ([math.exp(v / temperature) for v in row] for row in (t, s))
            p, q = ([v / sum(row) for v in row] for row in (p, q))
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert float(soft_targets(made, wanted, temperature)) == pytest.approx(
            temperature**2 * total / 12, rel=1e-5
        )


def test_a_model_of_tokens_is_stepped_over_real_sequences() -> None:
    model, data = small_models.recurrent().eval(), tokens()
    logits = forced_logits(model, "decode", data, context())
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.x.flatten())
    torch.testing.assert_close(nll * 5, model.loss("nll", data, context())["nll"])  # the model's own loss
    # causal: what comes later does not matter
    changed = data.x.clone()
    changed[:, 3:] = 0
    again = forced_logits(model, "decode", Batch({"x": changed}), context())
    assert torch.equal(again[:, :4], logits[:, :4])


def test_a_model_that_gives_all_logits_at_once_is_asked_once() -> None:
    model, data = small_models.recurrent().eval(), tokens()
    wanted = forced_logits(model, "decode", data, context())
    model.logits = lambda x: wanted + 1.0  # type: ignore[attr-defined]
    assert torch.equal(forced_logits(model, "decode", data, context()), wanted + 1.0)


def test_soft_targets_bring_a_smaller_model_of_tokens_to_its_teacher() -> None:
    teacher = small_models.recurrent().eval()
    with torch.no_grad():
        for p in teacher.parameters():
            p.mul_(2.0)
    student = prune(teacher, ratio=0.25, round_to=1, min_width=2)
    data = Split.of(teacher.spec, tokens(256).x)
    config = FinetuneConfig(
        steps=80, lr=5e-3, ema=0.9, precision="fp32", task_loss_weight=0.0, temperature=2.0
    )

    def gap(model: GenerativeModel) -> float:
        both = Distilled(copy.deepcopy(model), teacher, config).eval()
        return float(both.loss("distill", tokens(256), context())["distill_decode"])

    assert 0.0 < gap(finetune(student, teacher, data, config, seed=0)) < 0.5 * gap(student)
    assert gap(teacher) == pytest.approx(0.0, abs=1e-5)


# -- the critic


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (2, 20), (1, 4, 8, 8), (6,)])
@pytest.mark.parametrize("classes", [0, 4])
def test_a_critic_scores_samples_of_any_shape(shape: tuple[int, ...], classes: int) -> None:
    kind = {1: "vector", 2: "series", 3: "image", 4: "video"}[len(shape)]
    critic = Critic(DataSpec.of(kind, shape, classes=classes))
    y = torch.arange(5) % classes if classes else None
    x = torch.randn(5, *shape, requires_grad=True)
    scores = critic(x, y)
    assert scores.shape == (5,)
    scores.sum().backward()
    assert float(x.grad.abs().sum()) > 0
    if classes:
        assert not torch.equal(critic(x, y), critic(x, (y + 1) % classes))


def test_hinge_losses_are_as_defined() -> None:
    wanted, made = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0])
    assert float(critic_loss(wanted, made)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1) / 2)
    assert float(fooling_loss(made)) == pytest.approx(1.5)


def test_a_critic_is_trained_in_its_own_phase_and_is_no_part_of_the_student() -> None:
    teacher = silent().eval()
    both = Distilled(copy.deepcopy(teacher), teacher, FinetuneConfig(adversarial=0.5, own_lr=1e-3, lr=2e-3))
    assert [p.name for p in both.phases()] == [CRITIC, "distill"]
    assert both.phases()[0].parameters == ("critic",)
    assert both.rates() == {CRITIC: 1e-3, "distill": 2e-3}
    both.eval()
    ctx = context()
    loss = both.loss(CRITIC, batch(), ctx)[CRITIC]
    loss.backward()
    assert all(p.grad is None for p in both.student.parameters())
    assert any(float(p.grad.abs().sum()) > 0 for p in both.critic.parameters())
    terms = both.loss("distill", batch(), context())
    made = teacher.graphs()["generator"](*_asked(both))
    torch.testing.assert_close(
        terms["adversarial_generator"], -0.5 * both.critic(made, batch()["class"]).mean()
    )
    small = prune(teacher, ratio=0.5, round_to=1, min_width=2)
    trained = finetune(small, teacher, split(), FinetuneConfig(steps=4, adversarial=0.5), seed=0)
    assert set(trained.state_dict()) == set(teacher.state_dict())


def _asked(both: Distilled) -> tuple[Tensor, ...]:
    found = both._asked("generator", batch(), context())
    assert found is not None
    return found


def test_a_critic_needs_samples_to_look_at() -> None:
    model = small_models.ddpm()
    with pytest.raises(CallError, match="'adversarial' needs a graph that makes samples"):
        Distilled(copy.deepcopy(model), model, FinetuneConfig(adversarial=1.0))


# -- several teachers


def test_several_teachers_are_averaged(tmp_path: object) -> None:
    first = small_models.ddpm().eval()
    second = copy.deepcopy(first)
    with torch.no_grad():
        for p in second.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    together = Teachers([first, second])
    inputs = first.graphs()["denoiser"].example(4)
    with torch.no_grad():
        expected = (first.unet(*inputs) + second.unet(*inputs)) / 2
    torch.testing.assert_close(together("denoiser", inputs)[0], expected)
    # by name, in a recipe
    save_model(second, tmp_path / "second")  # type: ignore[operator]
    config = FinetuneConfig(steps=3, task_loss_weight=0.0, teachers=(str(tmp_path / "second"),))  # type: ignore[operator]
    alone = finetune(first, first, split(), config.model_copy(update={"teachers": ()}), seed=0)
    taught = finetune(first, first, split(), config, seed=0)
    assert not torch.equal(next(alone.parameters()), next(taught.parameters()))


def test_teachers_that_answer_unlike_each_other_are_refused() -> None:
    first, second = small_models.gan(), small_models.gan()
    for p in second.parameters():
        torch.nn.init.normal_(p, std=0.3)
    with pytest.raises(CallError, match="answer unlike each other"):
        Teachers([first, second])
    with pytest.raises(CallError, match="of one kind"):
        Teachers([first, small_models.ddpm()])
