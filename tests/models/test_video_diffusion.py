"""Denoisers over space and time: what the frames of a clip know of each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import CLIPS, LATER, batch, context, make
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec, ValueSpec
from niwaki.models.diffusion.unet import UNet
from niwaki.models.video.space_time_unet import SpaceTimeUNet
from niwaki.models.video.temporal import TEMPORAL

SETTINGS: dict[str, Any] = {
    "widths": (8, 16),
    "blocks": 1,
    "attention": (False, True),
    "heads": 2,
    "groups": 4,
}
LAYERS = sorted(TEMPORAL)
ALONG_A_PIXEL = [name for name in LAYERS if name != "joint"]


def layer(name: str, frames: int, stirred: bool = True) -> nn.Module:
    """A layer over time of 8 channels; stirred: with weights that matter."""
    torch.manual_seed(0)
    made = TEMPORAL[name](8, frames, 2, 4).eval()
    if stirred:
        for p in made.parameters():
            nn.init.normal_(p, std=0.5)
    return made


def clip_of(n: int, frames: int) -> Tensor:
    """Feature maps `(n·frames, 8, 3, 5)`."""
    return torch.randn(n * frames, 8, 3, 5, generator=torch.Generator().manual_seed(1))


def network(frames: int = 4, stirred: bool = False, **settings: Any) -> SpaceTimeUNet:
    torch.manual_seed(0)
    made = SpaceTimeUNet(1, frames=frames, **{**SETTINGS, **settings}).eval()
    if stirred:
        for part in made.modules():
            if isinstance(part, nn.Conv2d) and part.weight.abs().max() < 0.05:  # those that start near zero
                nn.init.normal_(part.weight, std=0.2)
    return made


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("frames", [1, 2, 7])
class TestLayersOverTime:
    def test_they_start_as_nearly_the_identity(self, name: str, frames: int) -> None:
        x = clip_of(2, frames)
        change = (layer(name, frames, stirred=False)(x) - x).detach().abs()
        assert 0 < float(change.max()) < 0.1

    def test_clips_are_computed_alone(self, name: str, frames: int) -> None:
        over_time, x = layer(name, frames), clip_of(3, frames)
        alone = torch.cat([over_time(part) for part in x.split(frames)])
        torch.testing.assert_close(over_time(x), alone)


@pytest.mark.parametrize("name", ALONG_A_PIXEL)
@pytest.mark.parametrize("frames", [1, 2, 7])
class TestLayersAlongAPixel:
    def test_a_pixel_sees_no_other_pixel_and_no_other_clip(self, name: str, frames: int) -> None:
        over_time = layer(name, frames)
        # Norms are over whole frames, as in any U-Net; what mixes frames is seen without them.
        over_time.norm = nn.Identity()
        x = clip_of(2, frames)
        other = x.clone()
        other[:frames, :, 1, 2] += 1.0
        changed = (over_time(other) - over_time(x)).abs().amax(1) > 1e-6
        assert changed[:frames, 1, 2].any()
        changed[:frames, 1, 2] = False
        assert not changed.any()


@pytest.mark.parametrize("frames", [2, 5])
def test_attention_without_its_distances_follows_any_order_of_the_frames(frames: int) -> None:
    """softmax over a set has no order; the distances are what gives it one."""
    over_time, x = layer("attention", frames), clip_of(1, frames)
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(2))
    order = order if not torch.equal(order, torch.arange(frames)) else order.flip(0)
    assert not torch.allclose(over_time(x[order]), over_time(x)[order], atol=1e-4)
    nn.init.constant_(over_time.near, 0.3)
    torch.testing.assert_close(over_time(x[order]), over_time(x)[order])


def test_attention_is_the_formula() -> None:
    frames, over_time = 3, layer("attention", 3)
    x = clip_of(1, frames)
    h = over_time.norm(x)
    q, k, v = (f(h)[:, :, 1, 2] for f in (over_time.q, over_time.k, over_time.v))  # (frames, channels)
    mixed = []
    for head in range(2):
        some = slice(4 * head, 4 * head + 4)
        scores = q[:, some] @ k[:, some].T / 2.0
        for i in range(frames):
            for j in range(frames):
                scores[i, j] += over_time.near[head, i - j + frames - 1]
        mixed.append(scores.softmax(1) @ v[:, some])
    wanted = x[:, :, 1, 2] + torch.cat(mixed, 1) @ over_time.out.weight[:, :, 0, 0].T + over_time.out.bias
    torch.testing.assert_close(over_time(x)[:, :, 1, 2], wanted)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_joint_attention_is_the_formula_over_all_places(frames: int) -> None:
    over_time, x = layer("joint", frames), clip_of(1, frames)
    h = over_time.norm(x)
    placed = over_time._placed(h)
    rows = [f.permute(0, 2, 3, 1).flatten(0, 2) for f in (over_time.q(placed), over_time.k(placed))]
    values = over_time.v(h).permute(0, 2, 3, 1).flatten(0, 2)  # (frames·h·w, channels)
    mixed = []
    for head in range(2):
        some = slice(4 * head, 4 * head + 4)
        scores = rows[0][:, some] @ rows[1][:, some].T / 2.0
        mixed.append(scores.softmax(1) @ values[:, some])
    out = torch.cat(mixed, 1).unflatten(0, (frames, 3, 5)).permute(0, 3, 1, 2)
    torch.testing.assert_close(over_time(x), x + over_time.out(out))


def test_joint_attention_sees_every_place_of_every_frame_and_tells_them_apart() -> None:
    over_time, x = layer("joint", 3), clip_of(1, 3).requires_grad_()
    over_time.norm = nn.Identity()
    (gradient,) = torch.autograd.grad(over_time(x)[1, :, 1, 2].square().sum(), x)
    assert (gradient.abs().amax(1) > 0).all()
    same = torch.ones(3, 8, 3, 5)
    placed = over_time._placed(same).flatten(2).permute(0, 2, 1).flatten(0, 1)
    assert float((torch.cdist(placed, placed) + torch.eye(45)).detach().min()) > 1e-3


def test_convolution_commutes_with_a_shift_in_time_away_from_the_ends() -> None:
    over_time, x = layer("convolution", 8), clip_of(1, 8)
    torch.testing.assert_close(over_time(x.roll(2, 0))[3:7], over_time(x)[1:5])


@pytest.mark.parametrize("temporal", [("attention",), ("convolution",), ("convolution", "attention")])
@pytest.mark.parametrize("patch", [1, 2])
def test_an_untrained_network_is_nearly_one_of_single_frames(temporal: tuple[str, ...], patch: int) -> None:
    """Each frame's output follows its own input; after stirring, the others' too."""
    x = torch.randn(1, 4, 1, 16, 16)
    other = x.clone()
    other[:, 0] += torch.randn(1, 1, 16, 16)
    t = torch.tensor([10.0])
    moved = []
    for stirred in (False, True):
        net = network(temporal=temporal, patch=patch, stirred=stirred)
        with torch.no_grad():
            change = (net(other, t) - net(x, t)).abs().amax((0, 2, 3, 4))
        moved.append(float(change[1:].max() / change[0]))
    assert moved[0] < 0.05
    assert moved[1] > 10 * moved[0]


def test_without_layers_over_time_it_is_the_u_net_of_images() -> None:
    net = network(frames=3, temporal=())
    torch.manual_seed(0)
    images = UNet(1, **SETTINGS).eval()
    images.load_state_dict(net.state_dict())
    x, t = torch.randn(2, 3, 1, 8, 8), torch.tensor([3.0, 400.0])
    wanted = torch.stack([images(x[:, k], t) for k in range(3)], 1)
    torch.testing.assert_close(net(x, t), wanted)


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("past", [0, 1, 3])
@pytest.mark.parametrize("patch", [1, 2])
def test_any_number_of_frames_and_any_past(frames: int, past: int, patch: int) -> None:
    net = network(frames=frames, past=past, patch=patch)
    x, t = torch.randn(2, frames, 1, 8, 12), torch.tensor([3.0, 400.0])
    known = [torch.randn(2, past, 1, 8, 12)] if past else []
    assert net(x, t, *known).shape == x.shape


def test_what_is_made_follows_every_frame_of_the_past() -> None:
    net = network(frames=3, past=3, stirred=True)
    x, t = torch.randn(1, 3, 1, 8, 8), torch.tensor([300.0])
    past = torch.randn(1, 3, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x, t, past).square().sum(), past)
    assert (gradient.abs().amax((0, 2, 3, 4)) > 0).all()


class TestModel:
    def test_it_continues_a_past_by_sample_and_by_continue_alike(self) -> None:
        model = make("video-diffusion", LATER).eval()
        past = batch(LATER, 3)["past"].numpy()
        assert set(model.programs()) >= {"sample", "continue"}
        a, b = (model.run(name, 3, seed=5, inputs={"past": past}) for name in ("sample", "continue"))
        assert torch.equal(a, b)
        assert tuple(a.shape) == (3, 4, 2, 8, 16)
        c = model.run("sample", 3, seed=5, inputs={"past": past[::-1].copy()})
        assert not torch.equal(a, c)

    def test_trained_without_a_past_it_makes_clips_of_nothing_and_after_one(self) -> None:
        model = make("video-diffusion", LATER, without_past=0.5).eval()
        assert not model.program("sample").inputs
        assert set(model.program("continue").inputs) == {"past"}
        with torch.no_grad():
            for p in model.parameters():  # layers that start near zero would hide the past
                p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        past = batch(LATER, 3)["past"].numpy()
        free = model.run("sample", 3, seed=5)
        after = model.run("continue", 3, seed=5, inputs={"past": past})
        assert free.shape == after.shape == (3, 4, 2, 8, 16)
        assert not torch.equal(free, after)
        nothing = model.run("continue", 3, seed=5, inputs={"past": 0 * past})
        torch.testing.assert_close(free, nothing)

    def test_a_share_of_the_samples_is_trained_without_its_past(self) -> None:
        model, rows = make("video-diffusion", LATER, without_past=0.25), batch(LATER, 400)
        (given,) = model.asked(rows, context())
        gone = (given == 0).flatten(1).all(1)
        assert 0.15 < float(gone.float().mean()) < 0.35
        assert torch.equal(given[~gone], rows["past"][~gone])

    def test_a_past_may_be_left_out(self) -> None:
        model = make("video-diffusion", LATER, conditioning={"columns": ()})
        assert not model.conditions
        assert "continue" not in model.programs()

    def test_guidance_asks_with_and_without_the_class_and_always_with_the_past(self) -> None:
        spec = DataSpec({**LATER.columns, "class": ValueSpec.label(3)})
        model = make("video-diffusion", spec, guidance=2.0).eval()
        assert model.sampler().conditions == ("class", "past")
        past = batch(spec, 2)["past"].numpy()
        found = model.run("sample", 2, seed=0, inputs={"past": past})
        assert torch.isfinite(found).all()

    def test_frames_known_by_a_mask_are_kept_and_the_rest_is_made(self) -> None:
        model = make("video-diffusion", CLIPS).eval()
        known, mask = batch(CLIPS, 2).x, torch.zeros(2, 3, 1, 8, 8)
        mask[:, 0] = 1.0
        found = model.run("inpaint", 2, seed=0, inputs={"known": known.numpy(), "mask": mask.numpy()})
        assert torch.equal(found[:, 0], known[:, 0])
        assert not torch.equal(found[:, 1], known[:, 1])

    def test_the_loss_follows_the_context_alone(self) -> None:
        model = make("video-diffusion", LATER)
        rows = batch(LATER, 4)
        loss = model.loss("denoiser", rows, context())["denoiser"]
        again = model.loss("denoiser", rows, context())["denoiser"]
        assert torch.equal(loss, again)

    @pytest.mark.parametrize(
        ("spec", "settings", "reason"),
        [
            (DataSpec.of("image", (1, 8, 8)), {}, r"makes clips \(T, C, H, W\)"),
            (DataSpec.of("video", (3, 1, 8, 8), low=0.0), {}, "needs values in −1 … 1"),
            (DataSpec.of("video", (3, 1, 9, 8)), {"patch": 2}, "'patch' 2 does not divide"),
            (DataSpec.of("video", (3, 1, 8, 6)), {"widths": (8, 8, 8)}, "cannot be halved 2 times"),
            (
                DataSpec.of("video", (3, 1, 8, 8)),
                {"temporal": ("attention",), "attention": ()},
                "nothing connects the frames",
            ),
            (
                DataSpec({"x": LATER.x, "past": ValueSpec("video", (2, 2, 8, 8))}),
                {},
                "must be frames like those of the clips",
            ),
        ],
    )
    def test_data_that_it_is_not_for(self, spec: DataSpec, settings: dict[str, Any], reason: str) -> None:
        with pytest.raises(CallError, match=reason):
            make("video-diffusion", spec, **settings)
