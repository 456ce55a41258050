"""Progressive growing: a size comes in as its equation says, and resuming finds the place."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, PATCHES, batch, make
from torch.nn import functional as F

from niwaki.core.contract import CallError, Context, DataSpec
from niwaki.data import Feeder, Split
from niwaki.models.gan.growing_networks import doubled
from niwaki.training import StageConfig, TrainConfig, fit

SMALL = DataSpec.of("image", (3, 16, 16))


def at(stage: str, progress: float) -> Context:
    return Context(0, progress, stage, {}, torch.Generator().manual_seed(0))


def stages(steps: int = 6) -> TrainConfig:
    return TrainConfig(
        batch=8,
        checkpoint_every=3,
        log_every=1,
        stages=tuple(StageConfig(name=n, steps=steps) for n in ("4x4", "8x8")),
    )


@pytest.fixture(scope="module")
def split() -> Split:
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Split.of(DataSpec.of("image", (1, 8, 8)), x)


def test_every_size_is_a_stage_and_comes_in_over_a_share_of_it() -> None:
    model = make("progressive-gan", PATCHES, fade=0.25)
    assert model.sizes == ("4x4", "8x8", "16x16", "32x32")
    assert all(phase.stages == model.sizes for phase in model.phases())
    assert model.grown(at("4x4", 0.0)) == (0, 1.0), "nothing came before"
    assert model.grown(at("16x16", 0.0)) == (2, 0.0)
    assert model.grown(at("16x16", 0.125)) == (2, 0.5)
    assert model.grown(at("16x16", 0.25)) == (2, 1.0)
    assert model.grown(at("16x16", 0.9)) == (2, 1.0)
    assert model.grown(at("main", 0.0)) == (3, 1.0), "a fine-tuning trains the whole"


@pytest.mark.parametrize("level", [1, 2])
def test_the_generator_is_the_smaller_one_at_0_the_bigger_one_at_1_and_between_them_else(level: int) -> None:
    generator = make("progressive-gan", SMALL).generator
    z = torch.randn(3, 6)

    def made(level: int, alpha: float) -> torch.Tensor:
        generator.level, generator.alpha = level, alpha
        with torch.no_grad():
            return generator(z)

    before, after = doubled(made(level - 1, 1.0)), made(level, 1.0)
    assert after.shape == (3, 3, 4 << level, 4 << level)
    assert torch.equal(made(level, 0.0), before)
    assert torch.equal(
        before, F.interpolate(before, scale_factor=0.5).repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    generator.alpha = 1 - 1e-12
    torch.testing.assert_close(made(level, 1 - 1e-7), after)
    torch.testing.assert_close(made(level, 0.3), 0.7 * before + 0.3 * after)


@pytest.mark.parametrize("level", [1, 2])
def test_the_discriminator_is_the_smaller_one_of_small_images_at_0_and_the_bigger_one_at_1(
    level: int,
) -> None:
    network = make("progressive-gan", SMALL).discriminator
    x = torch.randn(4, 3, 4 << level, 4 << level)

    def said(level: int, alpha: float, x: torch.Tensor) -> torch.Tensor:
        network.features.level, network.features.alpha = level, alpha
        with torch.no_grad():
            return network(x)

    assert torch.equal(said(level, 0.0, x), said(level - 1, 1.0, F.avg_pool2d(x, 2)))
    torch.testing.assert_close(said(level, 1 - 1e-7, x), said(level, 1.0, x))


def test_real_samples_gain_their_details_as_made_ones_do() -> None:
    model, x = make("progressive-gan", SMALL), torch.randn(2, 3, 16, 16)
    small = F.avg_pool2d(x, 2)
    assert torch.equal(model.sized(x, 2), x)
    torch.testing.assert_close(model.sized(x, 0), F.avg_pool2d(x, 4))
    assert torch.equal(model.sized(x, 1, 0.0), doubled(F.avg_pool2d(small, 2)))
    torch.testing.assert_close(model.sized(x, 2, 0.5), 0.5 * x + 0.5 * doubled(small))


def test_a_stage_trains_the_sizes_up_to_its_own_and_leaves_the_networks_whole() -> None:
    model, data = make("progressive-gan", DIGITS).train(), batch(DIGITS)
    for stage, fading, new, old in (
        ("4x4", 0.0, False, True),
        ("8x8", 0.2, True, True),
        ("8x8", 0.8, True, False),
    ):
        model.zero_grad()
        sum(model.loss("generator", data, at(stage, fading)).values()).backward()  # type: ignore[union-attr]
        trained = {n for n, p in model.generator.named_parameters() if p.grad is not None}
        assert any(n.startswith("blocks.0") for n in trained) is new
        assert any(n.startswith("earlier.0") for n in trained) is old
        assert model.sample(2, seed=0).shape == (2, 1, 8, 8)


def test_logits_of_real_samples_are_drawn_to_zero_by_their_square() -> None:
    model, data = make("progressive-gan", drift=0.5), batch(DIGITS)
    said: list[torch.Tensor] = []
    model.discriminator.register_forward_hook(lambda _, given, out: said.append(out.detach()))
    terms = model.loss("discriminator", data, at("main", 0.0))
    assert set(terms) == {"real", "fake", "gradient_penalty", "drift"}
    torch.testing.assert_close(terms["drift"].detach(), 0.5 * said[0][:8].square().mean())


def test_a_recipe_must_list_the_sizes(split: Split) -> None:
    with pytest.raises(CallError, match=r"trained in the stages 4x4, 8x8; list them under train\.stages"):
        fit(make("progressive-gan", split.spec), split, TrainConfig(steps=2, batch=8), seed=0)


class Crash(Exception):
    pass


class Failing:
    """The stream of batches, until one of them cannot be had."""

    def __init__(self, split: Split, at: int) -> None:
        self.feeder, self.at = Feeder(split, 8, seed=1), at

    def batch(self, k: int):
        if k == self.at:
            raise Crash
        return self.feeder.batch(k)


@pytest.mark.parametrize(
    ("name", "crash"), [("progressive-gan", 8), ("progressive-gan", 4), ("stylegan2", 8)]
)
def test_a_training_that_broke_off_goes_on_bit_for_bit(name: str, crash: int, split: Split, tmp_path) -> None:
    """In the middle of a fade, too."""
    config = (
        stages()
        if name == "progressive-gan"
        else TrainConfig(steps=12, batch=8, checkpoint_every=3, log_every=1)
    )
    whole, broken = make(name, split.spec), make(name, split.spec)
    fit(whole, split, config, seed=1)
    with pytest.raises(Crash):
        fit(broken, split, config, seed=1, directory=tmp_path, batches=Failing(split, crash))
    again = make(name, split.spec)
    fit(again, split, config, seed=1, directory=tmp_path, resume=True)
    state = again.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.state_dict().items())
