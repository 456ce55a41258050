"""TarFlow: causal in both directions, the same token by token as at once, exact in density and inverse."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, batch, make
from torch import Tensor

from niwaki.compression import prune
from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki.models.flow.autoregressive_layers import CausalMove, Reorder, patch_order
from niwaki.models.flow.transforms import Affine, Spline, Transform

TOKENS, DIM = 5, 3
MOVES: dict[str, Transform] = {"affine": Affine(), "spline": Spline(4)}


def stirred(module: torch.nn.Module, size: float = 0.3) -> torch.nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn_like(p) / (p.shape[-1] ** 0.5 if p.ndim > 1 else 1.0))
    return module


def layer(move: str = "affine", *, backwards: bool = False, dropout: float = 0.0) -> CausalMove:
    torch.manual_seed(0)
    made = CausalMove(
        TOKENS, DIM, MOVES[move], backwards=backwards, width=16, depth=2, heads=2, dropout=dropout, classes=3
    )
    stirred(made)
    return made.double()


def jacobian(move: CausalMove, x: Tensor, y: Tensor) -> Tensor:
    def forward(v: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same units are left out
        return move(v[None], y)[0][0]

    return torch.autograd.functional.jacobian(forward, x)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("move", MOVES)
def test_a_token_depends_on_itself_and_on_those_before_it(move: str, backwards: bool, training: bool) -> None:
    """By gradients, in train mode too; within a token every value is moved by itself."""
    found = layer(move, backwards=backwards, dropout=0.3).train(training)
    x = torch.randn(TOKENS * DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    slope = jacobian(found, x, torch.tensor([1])).view(TOKENS, DIM, TOKENS, DIM).transpose(1, 2)
    if backwards:
        slope = slope.flip(0, 1)
    for t in range(TOKENS):
        assert (slope[t, t + 1 :] == 0).all()
        torch.testing.assert_close(slope[t, t], torch.diag(slope[t, t].diagonal()), atol=0.0, rtol=0.0)
        assert (slope[t, t].diagonal() > 0).all()
        assert (slope[t, :t].abs().amax((1, 2)) > 0).all(), "all before it are heard"


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("move", MOVES)
def test_the_log_determinant_is_that_of_the_jacobian(move: str, backwards: bool) -> None:
    found = layer(move, backwards=backwards)
    x = torch.randn(TOKENS * DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.linalg.slogdet(jacobian(found, x, torch.tensor([2]))).logabsdet
    torch.testing.assert_close(found(x[None], torch.tensor([2]))[1][0], expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("move", MOVES)
def test_token_by_token_is_the_fixed_point_of_the_whole_pass(move: str, backwards: bool) -> None:
    """x = f⁻¹(z; θ(x)) from any start: after as many passes over all tokens as there are, every one is right
    (Song et al. 2021, "Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving")."""
    found, y = layer(move, backwards=backwards), torch.arange(4) % 3
    z = torch.randn(4, TOKENS * DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    told: list[Tensor] = []
    handle = found.leave.register_forward_hook(lambda *call: told.append(call[2]))
    x = torch.randn_like(z)
    for _ in range(TOKENS):
        found(x, y)
        theta = found.transform.arrange(told[-1].flatten(0, 1).unflatten(1, (-1, DIM)))
        rows = z.unflatten(1, (TOKENS, DIM))
        rows = rows.flip(1) if backwards else rows
        moved = found.transform.inverse(rows.flatten(0, 1), theta).unflatten(0, (4, TOKENS))
        x = (moved.flip(1) if backwards else moved).flatten(1)
    handle.remove()
    torch.testing.assert_close(found.inverse(z, y), x, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(found(x, y)[0], z, atol=1e-10, rtol=1e-10)


def model(**changes: object) -> GenerativeModel:
    found = make("tarflow", **changes)
    stirred(found)
    return found.eval()


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("changes", [{}, {"move": "spline"}, {"patch": 4, "blocks": 3}], ids=str)
def test_the_sampler_with_its_cache_does_what_the_inverse_does(
    changes: dict[str, object], ratio: float
) -> None:
    found = model(**changes)
    if ratio:
        found = prune(found, ratio=ratio, min_width=4, round_to=4)
    data = batch(DIGITS, 6)
    z = found.run("encode", 6, inputs=dict(data))
    back = found.run("decode", 6, inputs={"z": z, "class": data["class"]})
    torch.testing.assert_close(back, data.x, atol=1e-5, rtol=0)
    torch.testing.assert_close(back, found.decode(z, data["class"]).detach(), atol=1e-5, rtol=0)


def test_patches_are_read_row_by_row_with_their_channels_together() -> None:
    order = patch_order((2, 4, 4), 2)
    image = torch.arange(32.0).view(2, 4, 4)
    tokens, _ = Reorder(order)(image.flatten()[None])
    tokens = tokens.view(4, 8)
    assert tokens[0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]
    assert tokens[1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]
    assert tokens[2].tolist() == [8, 9, 12, 13, 24, 25, 28, 29]
    assert torch.equal(Reorder(order).inverse(tokens.flatten()[None])[0], image.flatten())


def test_images_that_are_not_made_of_patches_are_refused() -> None:
    with pytest.raises(CallError, match="6×8 are not made of squares of 4"):
        make("tarflow", DataSpec.of("image", (1, 6, 8)), patch=4)
