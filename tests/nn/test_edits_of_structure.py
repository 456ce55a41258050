"""Edits besides cuts: numbers that are set, norms that are taken off, attention that is opened."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as new

from niwaki.core.contract import NiwakiError
from niwaki.surgery.attributes import SetAttribute
from niwaki.surgery.edits import apply_edits, edit_from_json
from niwaki.surgery.remove_parametrization import RemoveParametrization
from niwaki.surgery.unfused_attention import UnfusedAttention


def replayed(make: Callable[[], nn.Module], done: nn.Module, edit: object) -> nn.Module:
    """A fresh module with the recorded edit and the weights of `done`."""
    fresh = make()
    apply_edits(fresh, [edit_from_json(edit.to_json())])  # type: ignore[attr-defined]
    fresh.load_state_dict(done.state_dict())
    return fresh.eval()


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": new.weight_norm,
    "spectral norm": new.spectral_norm,
    "old weight norm": nn.utils.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_that_is_taken_off_leaves_the_outputs_bit_for_bit(name: str) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), NORMS[name](nn.Linear(6, 4)))

    x = torch.randn(3, 5)
    with torch.no_grad():  # the old norms leave history behind, which cannot be copied
        model = make().eval()
        before = model(x)
    twin = copy.deepcopy(model) if "old weight" not in name else make().eval()
    edit = RemoveParametrization("2")
    edit.apply(model)
    assert torch.equal(model(x), before)
    assert set(model.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert isinstance(model[2].weight, nn.Parameter)
    model(x).sum().backward()
    assert model[2].weight.grad is not None
    assert torch.equal(twin(x), before)  # a copy keeps its norm
    assert len(twin.state_dict()) > 4
    assert torch.equal(replayed(make, model, edit)(x), before)
    with pytest.raises(NiwakiError, match="'0' has no weight or spectral norm"):
        RemoveParametrization("0").apply(model)


MASK = torch.full((6, 6), float("-inf")).triu(1)


@pytest.mark.parametrize("first", [True, False], ids=["batch first", "positions first"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", [None, MASK, float("-inf") == MASK], ids=["free", "added", "boolean"])
def test_opened_attention_computes_what_torchs_does(first: bool, bias: bool, mask: Tensor | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.MultiheadAttention(12, 3, bias=bias, batch_first=first)).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    x = torch.randn(6, 6, 12)
    padding = torch.zeros(6, 6, dtype=torch.bool)
    padding[1, 4:] = True
    ask = {
        "attn_mask": mask,
        "key_padding_mask": padding if mask is None or mask.dtype == torch.bool else None,
    }
    expected, weights = model[0](x, x, x, **ask)
    UnfusedAttention("0").apply(model)
    got, mine = model[0](x, x, x, **ask)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine, weights, rtol=1e-5, atol=1e-6)


def test_opened_attention_with_other_widths_for_keys_and_values() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.MultiheadAttention(12, 3, kdim=5, vdim=7, batch_first=True)).eval()
    q, k, v = torch.randn(2, 4, 12), torch.randn(2, 6, 5), torch.randn(2, 6, 7)
    expected = model[0](q, k, v)[0]
    UnfusedAttention("0").apply(model)
    torch.testing.assert_close(model[0](q, k, v)[0], expected, rtol=1e-5, atol=1e-6)


def test_an_encoder_layer_of_torch_goes_on_with_opened_attention() -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 3, 16, batch_first=True), 2)

    model, x = make().eval(), torch.randn(2, 5, 12)
    before = model(x)
    for i in range(2):
        UnfusedAttention(f"layers.{i}.self_attn").apply(model)
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-6)
    with pytest.raises(NiwakiError, match="no MultiheadAttention"):
        UnfusedAttention("layers.0.self_attn").apply(model)


def test_a_number_is_set_and_nothing_else() -> None:
    model = nn.Sequential(nn.Unflatten(1, (4, 3)), nn.Flatten())
    model[1].heads = 4
    edits = [SetAttribute("1", "heads", 2), SetAttribute("0", "unflattened_size", 2, 0)]
    apply_edits(model, [edit_from_json(e.to_json()) for e in edits])
    assert model[1].heads == 2
    assert model[0].unflattened_size == (2, 3)
    for wrong in (
        SetAttribute("1", "head", 2),
        SetAttribute("0", "unflattened_size", 2),
        SetAttribute("2", "heads", 2),
    ):
        with pytest.raises(NiwakiError):
            wrong.apply(model)
