"""A module written outside of niwaki samples, is kept and comes back as ours do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import outside
import pytest
import torch
from torch import Tensor, nn

from niwaki.adapters import Adapted, adapt, load_into
from niwaki.core.contract import Batch, CallError, Context, DataSpec, NiwakiError
from niwaki.models import load_model, save_model
from niwaki.surgery.cuts import Cut
from niwaki.surgery.edits import apply_edits
from niwaki_runtime import noise

CUTS = (
    Cut("generator.main.0", "out", (0, 1, 4, 5, 9, 15)),
    Cut("generator.main.1", "out", (0, 1, 4, 5, 9, 15)),
    Cut("generator.main.3", "in", (0, 1, 4, 5, 9, 15)),
)


def dcgan(**arguments: object) -> Adapted:
    torch.manual_seed(1)
    return adapt(outside.OutsideDcgan(), latent=(20, 1, 1), **arguments)  # type: ignore[arg-type]


def test_samples_are_the_modules_own_at_the_counted_noise() -> None:
    model = dcgan()
    z = torch.from_numpy(noise.normal(5, 2, 4, (20, 1, 1)))
    with torch.no_grad():
        expected = model.generator(z)
    torch.testing.assert_close(model.sample(4, seed=5, start=2), expected)


def test_the_spec_is_found_by_one_forward_pass_that_leaves_no_trace() -> None:
    module = outside.OutsideDcgan().train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    model = adapt(module, latent=(20, 1, 1))
    assert model.spec == DataSpec.of("image", (3, 16, 16))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert adapt(nn.Linear(7, 5), latent=7).spec == DataSpec.of("vector", (5,))


def test_classes_reach_the_module() -> None:
    model = adapt(outside.ClassGenerator(), latent=8, classes=5)
    z = torch.from_numpy(noise.normal(0, 0, 3, (8,)))
    with torch.no_grad():
        expected = model.generator(z, torch.tensor([4, 0, 2]))
    torch.testing.assert_close(model.sample(3, seed=0, condition=np.array([4, 0, 2])), expected)
    with pytest.raises(CallError, match="outside 0 … 4"):
        model.sample(1, seed=0, condition=5)


def test_a_module_that_wants_one_hot_rows_gets_them(tmp_path: Path) -> None:
    net = nn.Linear(11, 4)

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, z: Tensor, rows: Tensor) -> Tensor:
            return self.net(torch.cat([z, rows], dim=1))

    model = adapt(Rows(), latent=8, classes=3, condition="one_hot")
    z = torch.from_numpy(noise.normal(0, 0, 2, (8,)))
    expected = net(torch.cat([z, torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])], dim=1))
    torch.testing.assert_close(model.sample(2, seed=0, condition=np.array([2, 0])), expected.detach())
    save_model(model, tmp_path)
    again = load_into(adapt(Rows(), latent=8, classes=3, condition="one_hot"), tmp_path)
    assert torch.equal(again.sample(2, seed=0), model.sample(2, seed=0))


def test_a_data_sets_spec_can_be_taken_over() -> None:
    spec = DataSpec.of("image", (3, 16, 16), levels=17, classes=0)
    assert adapt(outside.OutsideDcgan(), latent=(20, 1, 1), spec=spec).spec == spec
    with pytest.raises(CallError, match="not both"):
        adapt(outside.OutsideDcgan(), latent=(20, 1, 1), spec=spec, shape=(3, 16, 16))


def test_with_a_factory_it_is_loaded_like_any_model(tmp_path: Path) -> None:
    model = dcgan(factory="outside:make", arguments={"channels": 3})
    apply_edits(model, CUTS)
    model.surgery = CUTS
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, Adapted)
    assert again.surgery == CUTS
    assert again.spec == model.spec
    assert torch.equal(again.sample(3, seed=1), model.sample(3, seed=1))


def test_the_factory_alone_makes_the_module() -> None:
    assert adapt(latent=(20, 1, 1), factory="outside:make", arguments={"channels": 1}).spec.shape == (
        1,
        16,
        16,
    )


def test_without_a_factory_it_is_loaded_into_a_fresh_module(tmp_path: Path) -> None:
    model = dcgan()
    apply_edits(model, CUTS)
    model.surgery = CUTS
    save_model(model, tmp_path)
    with pytest.raises(CallError, match="load_into"):
        load_model(tmp_path)
    fresh = adapt(outside.OutsideDcgan(), latent=(20, 1, 1))
    again = load_into(fresh, tmp_path)
    assert again.surgery == CUTS
    assert torch.equal(again.sample(3, seed=1), model.sample(3, seed=1))
    with pytest.raises(CallError, match="before it was pruned"):
        load_into(again, tmp_path)
    with pytest.raises(NiwakiError, match=r"do not fit|no module|does not fit"):
        load_into(adapt(outside.ClassGenerator(), latent=8, classes=5), tmp_path)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("outsid:make", "cannot be imported"),
        ("outside:mak", "did you mean 'make'"),
        ("outside:not_a_module", "returned int"),
        ("outside", "names no factory"),
        ("outside:make", "cannot be called with"),
    ],
)
def test_a_wrong_factory_is_named(factory: str, message: str) -> None:
    arguments = {"colour": 3} if "called" in message else {}
    with pytest.raises(NiwakiError, match=message):
        adapt(latent=(20, 1, 1), factory=factory, arguments=arguments)


class Returns(nn.Module):
    """Whatever it was given, by a function of z."""

    def __init__(self, make: object) -> None:
        super().__init__()
        self.make = make

    def forward(self, z: Tensor) -> object:
        return self.make(z)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda z: z.long(), "float samples in float32, not torch.int64"),
        (lambda z: z / 0.0, "not finite"),
        (lambda z: z.log(), "not finite"),
        (lambda z: (z, z), "one tensor of samples, not tuple"),
        (lambda z: z[:1], "one sample per latent"),
        (lambda z: z.sum(1), "one sample per latent"),
        (lambda z: 1000.0 * z, "give their range"),
        (lambda z: z @ torch.ones(3, 3), "does not take float32 inputs of shape"),
    ],
)
def test_what_a_module_returns_is_checked(make: object, message: str) -> None:
    with pytest.raises(CallError, match=message):
        adapt(Returns(make), latent=8)


def test_a_wrong_latent_or_shape_is_named_with_a_hint() -> None:
    with pytest.raises(CallError, match=r"latent=\(20, 1, 1\)"):
        adapt(outside.OutsideDcgan(), latent=20)
    with pytest.raises(CallError, match=r"shape \(3, 16, 16\), not \(1, 28, 28\)"):
        adapt(outside.OutsideDcgan(), latent=(20, 1, 1), shape=(1, 28, 28))
    with pytest.raises(CallError, match="does not take float32 inputs"):
        adapt(outside.ClassGenerator(), latent=8)


def test_it_says_that_it_is_not_trained_from_scratch() -> None:
    model = dcgan()
    data = Batch({"x": torch.zeros(2, 3, 16, 16)})
    with pytest.raises(CallError, match="not trained from scratch"):
        model.loss("generator", data, Context(0, 0.0, "main", {}, torch.Generator()))
