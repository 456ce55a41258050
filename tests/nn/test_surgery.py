"""A cut layer computes what the whole layer computes, on the channels that are left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from niwaki.core.contract import NiwakiError
from niwaki.surgery.cuts import Cut, cut, per_position, reorder, scale, width
from niwaki.surgery.edits import apply_edits

EVEN = (0, 3, 4, 5, 9, 10)  # two of each four: equal in three groups of four
SOME = (0, 2, 3, 7, 11)

MAKERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 12), (5, 12)),
    "linear without bias": (lambda: nn.Linear(12, 12, bias=False), (5, 12)),
    "conv1d": (lambda: nn.Conv1d(12, 12, 3, padding=1), (2, 12, 7)),
    "conv2d": (lambda: nn.Conv2d(12, 12, 3, stride=2), (2, 12, 7, 7)),
    "conv2d grouped": (lambda: nn.Conv2d(12, 12, 3, groups=3), (2, 12, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(12, 12, 4, 2, 1), (2, 12, 5, 5)),
    "transposed grouped": (lambda: nn.ConvTranspose2d(12, 12, 4, 2, 1, groups=3), (2, 12, 5, 5)),
    "transposed without bias": (lambda: nn.ConvTranspose1d(12, 12, 4, bias=False), (2, 12, 5)),
}


def rows(x: Tensor, keep: tuple[int, ...], axis: int = 1) -> Tensor:
    return x.index_select(axis, torch.tensor(keep))


def masked(x: Tensor, keep: tuple[int, ...]) -> Tensor:
    mask = torch.zeros(x.shape[1])
    mask[list(keep)] = 1.0
    return x * mask.reshape(1, -1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize("name", MAKERS)
def test_cut_outputs_are_the_kept_outputs(name: str) -> None:
    make, shape = MAKERS[name]
    torch.manual_seed(0)
    model, x = nn.Sequential(make()), torch.randn(shape)
    keep, before = EVEN if "grouped" in name else SOME, model(x)
    cut(model, Cut("0", "out", keep))
    torch.testing.assert_close(model(x), rows(before, keep), rtol=1e-5, atol=1e-6)
    assert width(model[0], "out") == len(keep)
    assert width(model[0], "in") == 12


@pytest.mark.parametrize("name", MAKERS)
def test_cut_inputs_act_as_if_the_others_were_zero(name: str) -> None:
    make, shape = MAKERS[name]
    torch.manual_seed(0)
    model, x = nn.Sequential(make()), torch.randn(shape)
    keep = EVEN if "grouped" in name else SOME
    expected = model(masked(x, keep))
    cut(model, Cut("0", "in", keep))
    torch.testing.assert_close(model(rows(x, keep)), expected, rtol=1e-5, atol=1e-6)
    assert width(model[0], "in") == len(keep)
    assert width(model[0], "out") == 12


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(12, 12, 3, groups=12), (2, 12, 5, 5)),
        (nn.ConvTranspose2d(12, 12, 4, 2, 1, groups=12), (2, 12, 5, 5)),
        (nn.BatchNorm2d(12), (4, 12, 3, 3)),
        (nn.BatchNorm1d(12, affine=False), (4, 12)),
        (nn.InstanceNorm2d(12, affine=True, track_running_stats=True), (4, 12, 3, 3)),
        (nn.PReLU(12), (4, 12, 3)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_layers_that_pass_channels_on_have_one_width(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for value in [*layer.parameters(), *layer.buffers()]:
        if value.is_floating_point():
            value.data.uniform_(0.5, 1.5)
    model, x = nn.Sequential(layer).eval(), torch.randn(shape)
    before = model(x)
    cut(model, Cut("0", "out", SOME))
    torch.testing.assert_close(model(rows(x, SOME)), rows(before, SOME), rtol=1e-5, atol=1e-6)


def normed(groups: int, keep: tuple[int, ...]) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.GroupNorm(groups, 12)), torch.randn(3, 12, 4)
    nn.init.uniform_(model[0].weight, 0.5, 1.5)
    nn.init.normal_(model[0].bias)
    before, weight, bias = model(x), model[0].weight.detach(), model[0].bias.detach()
    cut(model, Cut("0", "out", keep))
    return model, x, before, torch.stack([rows(weight, keep, 0), rows(bias, keep, 0)])


def test_a_group_norm_drops_whole_groups_exactly() -> None:
    keep = (0, 1, 2, 3, 8, 9, 10, 11)
    model, x, before, _ = normed(3, keep)
    assert model[0].num_groups == 2
    torch.testing.assert_close(model(rows(x, keep)), rows(before, keep), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("keep", "groups"), [(EVEN, 3), ((0, 1, 2, 4, 8, 9), 3), ((0, 1, 2, 3, 4), None)])
def test_a_group_norm_thinned_keeps_or_regroups(keep: tuple[int, ...], groups: int | None) -> None:
    if groups is None:
        with pytest.raises(NiwakiError, match="5 channels do not divide into at most 3 groups"):
            normed(3, keep)
        return
    model, x, _, (weight, bias) = normed(3, keep)
    assert model[0].num_groups == groups
    expected = F.group_norm(rows(x, keep), groups, weight, bias)
    torch.testing.assert_close(model(rows(x, keep)), expected)


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_a_layer_norm_keeps_its_affine_slices(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(kind(12)), torch.randn(3, 12)
    for p in model.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    weights = [rows(p.detach(), SOME, 0) for p in model.parameters()]
    cut(model, Cut("0", "out", SOME))
    function = F.layer_norm if kind is nn.LayerNorm else F.rms_norm
    torch.testing.assert_close(model(rows(x, SOME)), function(rows(x, SOME), (5,), *weights))


def test_an_embedding_loses_width_and_keeps_its_rows() -> None:
    model = nn.Sequential(nn.Embedding(7, 12))
    before = model(torch.arange(7))
    cut(model, Cut("0", "out", SOME))
    assert torch.equal(model(torch.arange(7)), rows(before, SOME))
    with pytest.raises(NiwakiError, match="classes or tokens"):
        cut(model, Cut("0", "in", (0, 1)))


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.start = nn.Parameter(torch.randn(1, 12, 4, 4), requires_grad=False)


def test_a_bare_parameter_is_cut_along_an_axis_and_stays_as_trainable_as_it_was() -> None:
    model = Constant()
    before = model.inner.start.clone()
    cut(model, Cut("inner.start", "1", SOME))
    assert torch.equal(model.inner.start, rows(before, SOME))
    assert isinstance(model.inner.start, nn.Parameter)
    assert not model.inner.start.requires_grad
    with pytest.raises(NiwakiError, match="along an axis 0 … 3, not 'out'"):
        cut(model, Cut("inner.start", "out", (0,)))


class Masked(nn.Linear):
    """A layer whose mask must follow its weights: it knows how to resize itself."""

    def __init__(self) -> None:
        super().__init__(12, 12)
        self.register_buffer("mask", (torch.rand(12, 12) > 0.5).float())

    def width(self, side: str) -> int:
        return self.weight.shape[0 if side == "out" else 1]

    def resize(self, side: str, keep: tuple[int, ...]) -> None:
        axis = 0 if side == "out" else 1
        self.weight = nn.Parameter(rows(self.weight.detach(), keep, axis))
        self.mask = rows(self.mask, keep, axis)
        if side == "out":
            self.bias = nn.Parameter(rows(self.bias.detach(), keep, 0))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


def test_a_module_may_resize_itself() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Masked()), torch.randn(3, 12)
    before = model(x)
    cut(model, Cut("0", "out", SOME))
    torch.testing.assert_close(model(x), rows(before, SOME))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.norm(self.a(x))))


def test_replayed_on_a_fresh_model_and_loaded_the_outputs_are_bit_equal() -> None:
    keep = (1, 2, 5, 7)
    cuts = [Cut("a", "out", keep), Cut("norm", "out", keep), Cut("b", "in", keep), Cut("a", "out", (0, 2, 3))]
    cuts += [Cut("norm", "out", (0, 2, 3)), Cut("b", "in", (0, 2, 3))]
    model, x = Net().eval(), torch.randn(2, 3, 6, 6)
    whole = {k: v.clone() for k, v in model.state_dict().items()}
    apply_edits(model, cuts)
    assert torch.equal(model.a.weight, whole["a.weight"][[1, 5, 7]])
    assert torch.equal(model.b.weight, whole["b.weight"][[1, 5, 7]])
    fresh = Net().eval()
    apply_edits(fresh, [Cut.from_json(c.to_json()) for c in cuts])
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))


@pytest.mark.parametrize("side", ["out", "in"])
@pytest.mark.parametrize("name", MAKERS)
def test_what_belongs_to_a_position_is_what_a_cut_takes(name: str, side: str) -> None:
    layer = MAKERS[name][0]()
    keep = EVEN if "grouped" in name else SOME
    energy = per_position(layer, side, lambda p: p.detach().square())
    model = nn.Sequential(layer)
    dead = torch.ones(12)
    dead[[i for i in range(12) if i not in keep]] = 0.0
    total = sum(float(p.detach().square().sum()) for p in layer.parameters())
    bias = 0.0 if side == "out" or layer.bias is None else float(layer.bias.detach().square().sum())
    assert float(energy.sum()) + bias == pytest.approx(total, rel=1e-5)
    scale(layer, side, dead)
    torch.testing.assert_close(per_position(layer, side, lambda p: p.detach().square()), energy * dead)
    cut(model, Cut("0", side, keep))
    torch.testing.assert_close(
        per_position(model[0], side, lambda p: p.detach().square()), rows(energy, keep, 0)
    )


@pytest.mark.parametrize("name", MAKERS)
def test_reordering_outputs_and_inputs_is_what_it_says(name: str) -> None:
    make, shape = MAKERS[name]
    torch.manual_seed(0)
    layer, x = make(), torch.randn(shape)
    order = (2, 0, 1, 3, 7, 6, 5, 4, 8, 10, 9, 11)  # within each four, so that groups stay among themselves
    before = layer(x)
    reorder(layer, "out", order)
    torch.testing.assert_close(layer(x), rows(before, order), rtol=1e-5, atol=1e-6)
    reorder(layer, "in", order)
    torch.testing.assert_close(layer(rows(x, order)), rows(before, order), rtol=1e-5, atol=1e-6)


def sharing() -> nn.Module:
    model = nn.Sequential(Masked(), Masked())
    model[1].weight = model[0].weight
    return model


def test_a_shared_parameter_is_cut_in_all_its_holders_and_stays_shared() -> None:
    model = nn.Sequential(nn.Embedding(7, 12), nn.Linear(12, 7))
    model[1].weight = model[0].weight
    expected = F.linear(model[0](torch.arange(7))[:, SOME], model[0].weight[:, SOME], model[1].bias)
    cut(model, Cut("0", "out", SOME))
    assert model[1].weight is model[0].weight
    assert (model[0].embedding_dim, model[1].in_features) == (5, 5)
    torch.testing.assert_close(model(torch.arange(7)), expected)
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12))
    model[1].weight = model[0].weight
    bias = model[1].bias.detach()
    cut(model, Cut("0", "out", SOME))
    assert model[1].weight is model[0].weight
    assert torch.equal(model[1].bias, rows(bias, SOME, 0))  # what goes with it goes too


def test_a_buffer_is_cut_as_a_bare_parameter_is() -> None:
    model = nn.Sequential(Masked())
    mask = model[0].mask.clone()
    cut(model, Cut("0.mask", "1", SOME))
    assert torch.equal(model[0].mask, rows(mask, SOME))
    assert not isinstance(model[0].mask, nn.Parameter)
    assert set(model.state_dict()) == {"0.weight", "0.bias", "0.mask"}


@pytest.mark.parametrize(
    ("model", "one", "text"),
    [
        (nn.Sequential(nn.Linear(4, 4)), Cut("1", "out", (0,)), "no module '1' to cut"),
        (nn.Sequential(nn.Linear(4, 4)), Cut("0", "out", ()), "at least one"),
        (nn.Sequential(nn.Linear(4, 4)), Cut("0", "out", (2, 1)), "rising positions within 0 … 3"),
        (nn.Sequential(nn.Linear(4, 4)), Cut("0", "out", (0, 4)), "rising positions within 0 … 3"),
        (nn.Sequential(nn.Linear(4, 4)), Cut("0", "width", (0,)), "the sides 'in' and 'out', not 'width'"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), Cut("0", "out", (0, 1, 2)), "as many channels"),
        (nn.Sequential(nn.ReLU()), Cut("0", "out", (0,)), "a ReLU cannot be cut"),
        (nn.Sequential(nn.PReLU()), Cut("0", "out", (0,)), "one slope"),
        (nn.Sequential(weight_norm(nn.Linear(4, 4))), Cut("0", "out", (0,)), "parametrized"),
        (sharing(), Cut("0", "out", (0,)), "resizes itself and shares its weights"),
    ],
)  # fmt: skip
def test_an_impossible_cut_is_refused_in_one_sentence(model: nn.Module, one: Cut, text: str) -> None:
    before = [tuple(p.shape) for p in model.parameters()]
    with pytest.raises(NiwakiError, match=text):
        cut(model, one)
    assert [tuple(p.shape) for p in model.parameters()] == before
