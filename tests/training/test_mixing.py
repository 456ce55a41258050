"""Mixup and CutMix: what a mixed sample is made of, and that losses are mixed alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, Phase, Trainable
from niwaki.data import Split
from niwaki.models import build
from niwaki.training import Interrupted, TrainConfig, fit
from niwaki.training.mixing import Mixer, build_mixer
from niwaki.training.mixing_config import MixConfig
from niwaki_runtime.errors import CallError

SPEC = DataSpec.of("image", (1, 6, 4), levels=5, classes=3)


def batch(n: int = 8) -> Batch:
    """Images of one level each, that of their number."""
    level = (torch.arange(n) % 5).float() / 2 - 1
    return Batch({"x": level.view(-1, 1, 1, 1).expand(n, 1, 6, 4), "class": torch.arange(n) % 3})


class Classifier(Trainable):
    """A linear layer and its cross-entropy, by names or by shares of names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(24, 3)
        self.seen: list[float] = []

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("net",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        self.seen.append(float(torch.rand((), generator=ctx.rng)))
        return {"cross_entropy": F.cross_entropy(self.net(batch.x.flatten(1)), batch["class"])}


def split() -> Split:
    return Split.of(SPEC, torch.randint(0, 5, (32, 1, 6, 4), dtype=torch.uint8), torch.arange(32) % 3)


def mixed(config: dict, number: int = 0, *, stored: bool = True):
    made = Mixer(MixConfig(**config), SPEC, seed=3).mix(batch(), number, 0.0, stored=stored)
    assert made is not None
    return made


def test_mixup_is_its_equation_and_levels_stay_levels():
    x = batch().x
    for number in range(20):
        made = mixed({"mixup": 0.7}, number, stored=False)
        known = [made.share * x + (1 - made.share) * x.roll(k, 0) for k in range(8)]
        by = next(k for k in range(1, 8) if torch.allclose(made.first.x, known[k]))
        assert torch.equal(made.second["class"], batch()["class"].roll(by, 0))
        assert torch.equal(made.first["class"], batch()["class"])
        rounded = mixed({"mixup": 0.7}, number).first.x
        assert torch.equal(rounded, (made.first.x * 2).round() / 2)


def test_cutmix_pastes_a_box_and_counts_its_places():
    x, shares = batch().x, []
    for number in range(60):
        made = mixed({"cutmix": 1.0}, number)
        theirs = made.first.x != x
        kept = 1.0 - theirs[(theirs.sum((1, 2, 3)) > 0)].double().mean() if theirs.any() else 1.0
        assert float(kept) == pytest.approx(made.share)
        rows, columns = theirs.any(0)[0].any(1), theirs.any(0)[0].any(0)
        assert torch.equal(theirs.any(0)[0], rows[:, None] & columns[None])
        shares.append(made.share)
    assert min(shares) < 0.3
    assert max(shares) > 0.9


def test_the_mixed_loss_is_that_of_the_mixed_target():
    """Cross-entropy is linear in its target: one evaluation by shares of names is the same, and so is its
    gradient; both halves see the same noise."""
    model = Classifier()
    config = TrainConfig(
        steps=1, batch=8, optimizer="sgd", betas=(0.0, 0.9), lr=1.0, schedule="constant", ema=0.0,
        precision="fp32", mix={"mixup": 1.0}, accumulate=2, log_every=1,
    )  # fmt: skip
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    drawn = []
    plain = Mixer.mix

    def spy(self, *args, **named):
        drawn.append(plain(self, *args, **named))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mixer, "mix", spy)
        result = fit(model, split(), config, seed=0)
    assert model.seen[0] == model.seen[1] != model.seen[2] == model.seen[3]
    (made,) = drawn
    one_hot = [F.one_hot(side["class"], 3).float() for side in (made.first, made.second)]
    target = made.share * one_hot[0] + (1 - made.share) * one_hot[1]
    again = Classifier()
    loss = F.cross_entropy(again.net(made.first.x.flatten(1)), target)
    loss.backward()
    assert result.last["fit/cross_entropy"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        slope = dict(again.named_parameters())[name].grad
        torch.testing.assert_close(before[name] - parameter, slope, rtol=1e-4, atol=1e-6)


def test_it_resumes_to_the_bit_ends_when_it_should_and_leaves_validation_alone(tmp_path):
    rows = split()
    config = TrainConfig(
        steps=8, batch=8, mix={"mixup": 1.0, "cutmix": 1.0, "until": 0.5, "share": 0.9}, checkpoint_every=2,
        precision="fp32", log_every=1,
    )  # fmt: skip

    def stop(step, total, last):
        if step == 3:
            raise KeyboardInterrupt

    whole, half = Classifier(), Classifier()
    fit(whole, rows, config, seed=0, directory=tmp_path / "whole", validation=rows)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        fit(half, rows, config, seed=0, directory=tmp_path / "half", progress=stop)
    half = Classifier()
    fit(half, rows, config, seed=0, directory=tmp_path / "half", resume=True)
    assert torch.equal(whole.net.weight, half.net.weight)
    mixer = Mixer(config.mix, SPEC, seed=0)
    assert mixer.mix(batch(), 0, 0.5) is None
    kinds = {mixer.mix(batch(), k, 0.49) is None for k in range(60)}
    assert kinds == {True, False}


def test_amounts_beside_a_sample_are_mixed_like_it():
    spec = DataSpec({**SPEC.columns, "edges": SPEC.x, "size": DataSpec.of("vector", (2,)).x})
    given = Batch({**batch(), "edges": batch().x, "size": torch.arange(16.0).view(8, 2)})
    made = Mixer(MixConfig(cutmix=1.0), spec, 0).mix(given, 1, 0.0)
    assert made is not None
    assert torch.equal(made.first["edges"], made.first.x)
    sizes = [made.share * given["size"] + (1 - made.share) * given["size"].roll(k, 0) for k in range(8)]
    by = next(k for k in range(1, 8) if torch.allclose(made.first["size"], sizes[k]))
    assert torch.equal(made.second["class"], given["class"].roll(by, 0))
    assert torch.equal(made.second["size"], made.first["size"])


def test_what_cannot_be_mixed_is_refused_in_a_sentence():
    vectors = DataSpec.of("vector", (4,), classes=2)
    tokens = DataSpec({"x": DataSpec.of("text", (4,), levels=9).x, "class": SPEC["class"]})
    pairs = DataSpec({**SPEC.columns, "b": SPEC.x}, unpaired=("b",))
    for model, spec, config, said in (
        (build("vae", {"conditional": False}, SPEC), SPEC, {"mixup": 1.0}, "told nothing about its samples"),
        (Classifier(), DataSpec.of("vector", (4,)), {"mixup": 1.0}, "told nothing about its samples"),
        (Classifier(), tokens, {"cutmix": 1.0}, "samples of amounts"),
        (Classifier(), pairs, {"mixup": 1.0}, "cannot mix 'b'"),
        (Classifier(), vectors, {"cutmix": 1.0}, "these samples have none"),
    ):
        with pytest.raises(CallError, match=said):
            build_mixer(MixConfig(**config), model, spec, 0)
    assert build_mixer(MixConfig(mixup=1.0), Classifier(), vectors, 0)
    with pytest.raises(CallError, match="'mixup' or 'cutmix' above 0"):
        TrainConfig(mix={"share": 0.5})
