"""Patches, masks and the loss of the masked autoencoder."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from features.toys import toy

from niwaki.core.contract import Batch, CallError, Context, DataSpec
from niwaki.features.encoders import build_encoder
from niwaki.features.mae import Mae, hidden_patches, masked_error, masked_nll, random_mask
from niwaki.features.patches import choose_patch, patchify, positions, unpatchify

SMALL = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8}


def mae(shape: tuple[int, ...] | str, **changes: object) -> Mae:
    torch.manual_seed(0)
    made = build_encoder("mae", {**SMALL, **changes}, toy(shape).spec)
    assert isinstance(made, Mae)
    return made


@pytest.mark.parametrize(
    ("shape", "patch", "grid"),
    [((1, 8, 8), 2, (4, 4)), ((3, 12, 20), 4, (3, 5)), ((3, 6, 4), 1, (6, 4)), ((2, 30), 5, (6,))],
)
def test_patches_are_the_parts_of_a_sample_row_by_row(
    shape: tuple[int, ...], patch: int, grid: tuple[int, ...]
) -> None:
    x = torch.randn(5, *shape)
    rows = patchify(x, patch)
    assert torch.equal(unpatchify(rows, patch, grid), x)
    if len(grid) == 2:
        parts = [
            x[:, :, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].permute(0, 2, 3, 1).flatten(1)
            for r in range(grid[0])
            for c in range(grid[1])
        ]
    else:
        parts = [x[:, :, i * patch : (i + 1) * patch].transpose(1, 2).flatten(1) for i in range(grid[0])]
    assert torch.equal(rows, torch.stack(parts, 1))


def test_patches_of_clips_are_blocks_of_time_and_space() -> None:
    x = torch.randn(2, 3, 4, 6, 2)
    rows = patchify(x, 2)
    assert torch.equal(unpatchify(rows, 2, (2, 3, 1)), x)
    assert torch.equal(rows[:, 4], x[:, :, 2:4, 2:4].movedim(1, -1).flatten(1))  # second in time, second row


@pytest.mark.parametrize(("count", "share"), [(16, 0.75), (16, 0.5), (49, 0.6), (4, 0.99), (4, 0.01)])
def test_exactly_the_share_is_hidden_in_every_sample(count: int, share: float) -> None:
    hidden = hidden_patches(count, share)
    assert hidden == min(max(round(count * share), 1), count - 1)
    visible, mask = random_mask(300, count, hidden, torch.Generator().manual_seed(0))
    assert (mask.sum(1) == hidden).all()
    assert visible.shape == (300, count - hidden)
    assert not mask.gather(1, visible).any(), "what is visible is not hidden"
    assert (visible.sort(1).values.diff(dim=1) > 0).all(), "and none is visible twice"
    often = mask.float().mean(0)
    assert float((often - hidden / count).abs().max()) < 0.15, "no place is preferred"


def test_the_loss_sees_hidden_patches_alone() -> None:
    painted = torch.randn(6, 16, 4, requires_grad=True)
    target = torch.randn(6, 16, 4, requires_grad=True)
    _, mask = random_mask(6, 16, 12, torch.Generator().manual_seed(0))
    error = masked_error(painted, target, mask)
    slow = [
        float((painted[i, j] - target[i, j]).detach().square().mean())
        for i in range(6)
        for j in range(16)
        if bool(mask[i, j])
    ]
    assert float(error.detach()) == pytest.approx(sum(slow) / len(slow), rel=1e-6)
    error.backward()
    for tensor in (painted, target):
        assert tensor.grad is not None
        assert (tensor.grad[~mask] == 0).all()
        assert (tensor.grad[mask] != 0).all()


def test_the_painter_never_sees_what_is_hidden() -> None:
    model = mae((1, 8, 8)).eval()
    patches = torch.randn(3, 16, 4)
    visible, mask = random_mask(3, 16, 12, torch.Generator().manual_seed(0))
    painted = model.reconstruct(patches, visible)
    changed = torch.where(mask[:, :, None], torch.randn_like(patches), patches)
    assert torch.equal(model.reconstruct(changed, visible), painted)
    shown = torch.where(mask[:, :, None], patches, patches + 1)
    assert not torch.allclose(model.reconstruct(shown, visible), painted, atol=1e-3)
    # The order in which the visible patches come does not matter, their places do.
    torch.testing.assert_close(model.reconstruct(patches, visible.flip(1)), painted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((1, 8, 8), 64), ((3, 32, 16), 64), ((2, 40), 32), ((4, 1, 8, 8), 128), ("text", 32)],
)
def test_every_parameter_learns_and_features_have_their_size(shape: Any, dim: int) -> None:
    model = mae(shape)
    batch = Batch({"x": toy(shape).train.values()[:16]})
    context = Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))
    (loss,) = model.loss("paint", batch, context).values()
    loss.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    assert model.features(batch.x).shape == (16, dim) == (16, model.dim)


def test_hidden_tokens_are_judged_by_their_probability() -> None:
    """A painter that knows nothing pays log 5 for each token; one that is right and sure, nothing."""
    _, mask = random_mask(6, 8, 3, torch.Generator().manual_seed(0))
    target = torch.randint(0, 5, (6, 8, 2))
    assert float(masked_nll(torch.zeros(6, 8, 10), target, mask)) == pytest.approx(math.log(5))
    sure = 40.0 * F.one_hot(target, 5).flatten(2)
    assert float(masked_nll(sure, target, mask)) < 1e-6
    wrong = torch.where(mask[:, :, None], sure, torch.zeros_like(sure))
    assert torch.equal(masked_nll(wrong, target, mask), masked_nll(sure, target, mask))


def test_a_normalised_target_forgets_mean_and_contrast_of_each_patch() -> None:
    model = mae((1, 8, 8), normalize=True)
    patches = torch.randn(3, 16, 4)
    target = model._target(patches)
    torch.testing.assert_close(target.mean(2), torch.zeros(3, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(target, model._target(3 * patches + 7), atol=1e-3, rtol=0)


def test_places_can_be_told_apart() -> None:
    for grid in ((8, 8), (3, 12), (64,)):
        place = positions(grid, 32)
        apart = torch.cdist(place, place) + 1e6 * torch.eye(len(place))
        assert float(apart.min()) > 0.1


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((1, 8, 8), 2), ((3, 32, 32), 4), ((1, 28, 28), 4), ((3, 64, 64), 8), ((1, 31, 31), 1), ((2, 1000), 10)],
)
def test_the_patch_is_chosen_by_the_size(shape: tuple[int, ...], patch: int) -> None:
    modality = "image" if len(shape) == 3 else "series"
    found, grid = choose_patch(DataSpec.of(modality, shape), None, "mae")
    assert found == patch
    assert grid == tuple(s // patch for s in shape[1:])


@pytest.mark.parametrize(
    ("spec", "settings", "sentence"),
    [
        (DataSpec.of("vector", (6,)), {}, "a vector of shape (6,) has none; use 'simclr' or 'moco'"),
        (DataSpec.of("image", (1, 8, 8)), {"patch": 16}, "patches of 16 are larger than samples of 8×8"),
        (DataSpec.of("image", (1, 8, 8)), {"patch": 3}, "set 'model.patch' to one of 1, 2, 4"),
        (DataSpec.of("image", (1, 8, 8)), {"patch": 8}, "into 4 … 1024 equal parts"),
        (
            DataSpec.of("image", (1, 8, 8)),
            {"heads": 3},
            "3 heads do not divide a width of 64; change 'model.width'",
        ),
        (DataSpec.of("image", (1, 8, 8)), {"masked": 1.0}, "'model.masked' of the model 'mae'"),
        (DataSpec.of("series", (1, 3)), {}, "no patch cuts 3 steps into"),
        (DataSpec.of("text", (13,)), {"patch": 2}, "into 4 … 1024 equal parts"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    spec: DataSpec, settings: dict[str, object], sentence: str
) -> None:
    with pytest.raises(CallError) as error:
        build_encoder("mae", settings, spec)
    assert sentence in str(error.value)
