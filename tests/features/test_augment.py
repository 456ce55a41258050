from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from niwaki.core.contract import DataSpec, Real, Tokens, ValueSpec
from niwaki.nn.augment.geometry import affine, resample
from niwaki.nn.augment.views import Augment, augment

NOTHING = Augment(
    shift=0,
    crop=1,
    zoom=0,
    rotate=0,
    brightness=0,
    contrast=0,
    color=0,
    cutout=0,
    amplitude=0,
    jitter=0,
    mask=0,
)
ALL = Augment(flip=True, blur=0.5, noise=0.1)
SPECS = [
    DataSpec.of("image", (1, 8, 8)),
    DataSpec.of("image", (3, 20, 12), low=0.0, high=1.0),
    DataSpec.of("series", (2, 40)),
    DataSpec.of("vector", (7,), low=-3.0, high=3.0),
    DataSpec.of("video", (4, 2, 8, 8)),
]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(spec: DataSpec, n: int = 16, seed: int = 0) -> Tensor:
    unit = torch.rand(n, *spec.shape, generator=rng(seed))
    return spec.low + (spec.high - spec.low) * unit


def only(**strengths: float) -> Augment:
    return NOTHING.model_copy(update=strengths)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: str(s.shape))
def test_shape_and_range_stay_and_the_generator_decides(spec: DataSpec) -> None:
    x = samples(spec)
    kept = x.clone()
    view = augment(x, spec, ALL, rng(1))
    assert view.shape == x.shape
    assert view.dtype == torch.float32
    assert spec.low <= float(view.min()) <= float(view.max()) <= spec.high
    torch.manual_seed(99)
    assert torch.equal(augment(x, spec, ALL, rng(1)), view)
    other = augment(x, spec, ALL, rng(2))
    assert ((view - other).flatten(1).abs().amax(1) > 1e-3).all(), "every sample has views of its own"
    assert ((view - x).flatten(1).abs().amax(1) > 1e-3).all()
    assert torch.equal(x, kept), "the samples themselves are left alone"


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: str(s.shape))
def test_without_strength_nothing_changes(spec: DataSpec) -> None:
    x = samples(spec)
    assert torch.equal(augment(x, spec, NOTHING, rng()), x)


def test_nothing_is_mirrored_unless_asked() -> None:
    assert Augment().flip is False
    spec = DataSpec.of("image", (1, 6, 6))
    x = samples(spec, 200)
    mirrored = (augment(x, spec, only(flip=True), rng()) - x.flip(3)).abs().flatten(1).amax(1) < 1e-5
    assert 70 < int(mirrored.sum()) < 130
    # With the defaults the affine map never turns the handedness round: its determinant is positive.
    theta = affine(500, 6, 6, Augment(), rng())
    assert (torch.det(theta[:, :, :2]) > 0).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 3, 8, 8), (2, 40), (7,)])
def test_colours_are_those_of_pictures_with_channels(shape: tuple[int, ...]) -> None:
    """All else has none, clips keep theirs, and their views are what they were."""
    kind = {1: "vector", 2: "series", 3: "image", 4: "video"}[len(shape)]
    spec = DataSpec.of(kind, shape)
    x = samples(spec)
    assert torch.equal(augment(x, spec, Augment(color=1), rng()), augment(x, spec, Augment(color=0), rng()))


@pytest.mark.parametrize("most", [0.2, 0.5, 1.0])
def test_colours_move_and_shapes_stay(most: float) -> None:
    """Before its offsets a view is mean + factor · (channel − mean): differences of pixels keep their mean
    over the channels, and those of channels are scaled alike, or are 0 in views in grey."""
    spec = DataSpec.of("image", (3, 6, 6), low=-100.0, high=100.0)
    x = torch.rand(400, 3, 6, 6, generator=rng()) * 2 - 1  # nothing is clipped
    view = augment(x, spec, only(color=most), rng(1))
    steps, expected = view.diff(dim=3), x.diff(dim=3)
    torch.testing.assert_close(steps.mean(1), expected.mean(1), atol=1e-4, rtol=0)
    apart, were = (d - d.mean(1, keepdim=True) for d in (steps, expected))
    factor = (apart * were).flatten(1).sum(1) / were.flatten(1).square().sum(1)
    torch.testing.assert_close(apart, factor.view(-1, 1, 1, 1) * were, atol=1e-3, rtol=0)
    grey = factor.abs() < 1e-4
    assert 50 < int(grey.sum()) < 110
    assert 1 - most - 1e-3 <= float(factor[~grey].min()) <= float(factor.max()) <= 1 + most + 1e-3
    torch.testing.assert_close(view[grey].std(1), torch.zeros(int(grey.sum()), 6, 6), atol=1e-4, rtol=0)
    offset = (view.mean((2, 3)) - x.mean((2, 3))).abs().amax()
    assert float(offset) <= 0.2 * most * 200 + 2


def test_a_crop_stays_inside_and_is_resized_to_the_whole() -> None:
    """Of a ramp a crop is a flatter ramp within the same ends: linear interpolation keeps lines."""
    spec = DataSpec.of("image", (1, 9, 9))
    ramp = torch.linspace(-1, 1, 9).expand(64, 1, 9, 9).contiguous()
    view = augment(ramp, spec, only(crop=0.5), rng())
    slope = view[..., 1:] - view[..., :-1]
    torch.testing.assert_close(slope, slope[..., :1, :1].expand_as(slope), atol=1e-5, rtol=0)
    share = slope[:, 0, 0, 0] / 0.25
    assert 0.5 <= float(share.min()) < 0.6 < 0.9 < float(share.max()) <= 1.0
    series = DataSpec.of("series", (1, 9))
    line = augment(ramp[:, :, 0], series, only(crop=0.5), rng())
    slope = line[..., 1:] - line[..., :-1]
    torch.testing.assert_close(slope, slope[..., :1].expand_as(slope), atol=1e-5, rtol=0)
    assert 0.5 <= float(slope.min()) / 0.25 <= 0.6


def test_a_rotation_is_one_of_pixels() -> None:
    """By 90° a picture of any proportions turns about its middle, edges repeated, without being squeezed."""
    x = samples(DataSpec.of("image", (1, 5, 9)), 1)
    theta = affine(400, 5, 9, only(rotate=180), rng())
    cos = theta[:, 0, 0]
    quarter = theta[cos.abs().argmin()].clone()[None]
    sign = 1.0 if quarter[0, 1, 0] > 0 else -1.0
    exact = torch.tensor([[[0.0, -sign * 4 / 8, 0.0], [sign * 8 / 4, 0.0, 0.0]]])
    torch.testing.assert_close(quarter, exact, atol=0.05, rtol=0)
    turned = resample(x, torch.nn.functional.affine_grid(exact, [1, 1, 5, 9], align_corners=True))
    middle = x[0, 0, :, 2:7]  # 5×5, turned a quarter: what lies in the middle of the result
    expected = np.rot90(middle.numpy(), k=-1 if sign < 0 else 1)
    np.testing.assert_allclose(turned[0, 0, :, 2:7].numpy(), expected, atol=1e-5)


def test_a_shift_moves_by_at_most_its_share() -> None:
    spec = DataSpec.of("image", (1, 11, 11))
    x = torch.full((200, 1, 11, 11), -1.0)
    x[:, :, 5, 5] = 1.0
    view = (augment(x, spec, only(shift=0.2), rng()) + 1).squeeze(1)
    at = torch.arange(11.0)
    mass = view.sum((1, 2))
    rows = (view.sum(2) * at).sum(1) / mass - 5
    columns = (view.sum(1) * at).sum(1) / mass - 5
    for moved in (rows, columns):
        assert 1.8 < float(moved.abs().max()) <= 0.2 * 11 + 1e-4
    assert abs(float(torch.corrcoef(torch.stack([rows, columns]))[0, 1])) < 0.25


def test_brightness_contrast_and_blur_are_what_they_say() -> None:
    spec = DataSpec.of("image", (1, 8, 8), low=-10, high=10)
    x = torch.randn(100, 1, 8, 8, generator=rng(3))
    mean, deviation = x.mean((1, 2, 3)), x.flatten(1).std(1)
    view = augment(x, spec, only(brightness=0.1), rng())
    offset = (view - x).flatten(1)
    torch.testing.assert_close(offset, offset[:, :1].expand_as(offset), atol=1e-5, rtol=0)
    assert 1.8 < float(offset.abs().max()) <= 2.0
    view = augment(x, spec, only(contrast=0.4), rng())
    torch.testing.assert_close(view.mean((1, 2, 3)), mean, atol=1e-5, rtol=0)
    factor = view.flatten(1).std(1) / deviation
    assert 0.6 <= float(factor.min()) < 0.65 < 1.35 < float(factor.max()) <= 1.4 + 1e-5
    view = augment(x, spec, only(blur=1.0), rng())
    assert (view.flatten(1).std(1) < deviation).all()


def test_a_hole_is_one_square_of_the_mean() -> None:
    spec = DataSpec.of("image", (2, 8, 8))
    x = samples(spec, 50)
    view = augment(x, spec, only(cutout=0.25), rng())
    changed = (view != x).any(1)
    assert (changed.sum((1, 2)) == 4).all()
    assert (changed.any(2).sum(1) == 2).all()
    assert (changed.any(1).sum(1) == 2).all()
    for one, before, where in zip(view, x, changed, strict=True):
        torch.testing.assert_close(one[:, where], before.mean().expand(2, 4))


def test_vectors_take_values_of_others_in_the_same_column() -> None:
    spec = DataSpec.of("vector", (6,), low=0, high=1000)
    x = (torch.arange(40.0)[:, None] + 100 * torch.arange(6.0)).contiguous()
    view = augment(x, spec, only(mask=0.3), rng())
    changed = view != x
    assert abs(float(changed.float().mean()) - 0.3) < 0.1
    assert torch.equal(view.div(100, rounding_mode="floor"), x.div(100, rounding_mode="floor"))
    lone = augment(x[:1], spec, only(mask=0.3, jitter=0.1), rng())
    assert torch.equal(lone, x[:1]), "one sample has no others to take values from"


def test_series_without_bounds_have_finite_views() -> None:
    """Their range is infinite, so noise goes by their deviation."""
    spec = DataSpec({"x": ValueSpec("series", (2, 40), "CT", Real(-math.inf, math.inf))})
    x = 50 * torch.randn(16, 2, 40, generator=rng())
    view = augment(x, spec, ALL, rng(1))
    assert bool(torch.isfinite(view).all())
    jitter = augment(x, spec, only(jitter=0.1), rng(1)) - x
    assert 1 < float(jitter.std()) < 50


def test_views_of_tokens_are_tokens_of_the_same_place() -> None:
    """Column j holds numbers 10·j … 10·j + 9: a replacement comes from the same place of another sample."""
    spec = DataSpec.of("text", (6,), levels=60)
    x = torch.randint(0, 10, (64, 6), generator=rng()) + 10 * torch.arange(6)
    view = augment(x, spec, only(mask=0.5), rng(1))
    assert view.dtype == torch.int64
    assert torch.equal(view // 10, x // 10)
    assert 0.3 < float((view != x).float().mean()) < 0.6  # a tenth of the replacements are the same number
    cut = augment(x, spec, only(cutout=0.5), rng(1)) != x
    assert bool((cut.sum(1) <= 3).all())
    moved = augment(x, spec, only(shift=0.4), rng(1))
    steps = {next(s for s in range(-2, 3) if row.equal(own[(torch.arange(6) + s).clamp(0, 5)])) for own, row
             in zip(x, moved, strict=True)}  # fmt: skip
    assert steps == {-2, -1, 0, 1, 2}
    grid = DataSpec({"x": ValueSpec("image", (4, 5), "HW", Tokens(9))})
    codes = torch.randint(0, 9, (8, 4, 5), generator=rng())
    assert augment(codes, grid, Augment(), rng()).shape == codes.shape


def test_every_frame_of_a_clip_is_seen_alike() -> None:
    spec = DataSpec.of("video", (5, 1, 8, 8))
    still = samples(DataSpec.of("image", (1, 8, 8)))[:, None].expand(-1, 5, -1, -1, -1)
    view = augment(still, spec, ALL.model_copy(update={"noise": 0.0}), rng(1))
    assert torch.allclose(view, view[:, :1].expand_as(view), atol=1e-6)
