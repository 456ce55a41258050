"""Several generators as one model: who trains what, who makes a sample, and where members may come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import DIGITS, PATCHES, VECTORS, batch, context, step

from niwaki import models
from niwaki.core.contract import CallError, DataSpec
from niwaki.core.store import write_tensors
from niwaki.data import Split
from niwaki.deployment import export_graphs, package, parity
from niwaki.training import TrainConfig, fit
from niwaki_runtime import load
from niwaki_runtime.noise import uniform

SMALL = {"latent": 6, "width": 8}
KINDS = ["dcgan", "r3gan", "mlp-gan", "lsgan", "transformer-gan"]


def ensemble(member: str = "mlp-gan", members: int = 3, spec: DataSpec = DIGITS, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = {"member": member, "members": members, "settings": {**SMALL, **settings}}
    return models.build("gan-ensemble", config, spec).eval()


@pytest.mark.parametrize("member", KINDS)
def test_sample_i_is_that_of_the_member_that_the_noise_names(member: str) -> None:
    model = ensemble(member)
    chosen = (uniform(7, 0, 24, stream="member")[:, 0] * 3).astype(int)
    assert set(chosen.tolist()) == {0, 1, 2}
    x = model.sample(24, seed=7)
    for k, one in enumerate(model.members):
        alone = one.sample(24, seed=7)
        rows = np.flatnonzero(chosen == k)
        torch.testing.assert_close(x[rows], alone[rows], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.sample(5, seed=7), x[:5]) or torch.allclose(
        model.sample(5, seed=7), x[:5], atol=1e-5
    )


@pytest.mark.parametrize("member", KINDS)
def test_every_phase_trains_one_network_of_one_member(member: str) -> None:
    model = ensemble(member, 2)
    gradients = step(model, batch(DIGITS, 8))
    assert len({p.name for p in model.phases()}) == len(model.phases())
    for phase in model.phases():
        k = phase.name.rpartition("_")[2]
        moved = {name for name, g in gradients[phase.name].items() if g.abs().sum() > 0}
        assert moved
        assert all(name.startswith(f"members.{k}.") for name in moved)
    first = [p for p in model.phases() if p.name.startswith("generator")]
    assert all(p.fresh_batch for p in first), "every member sees batches of its own"


def test_a_member_is_trained_as_it_would_be_alone() -> None:
    """Losses of one phase, with the same draws, are those of the member."""
    model = ensemble(r1_every=1)
    data = batch(DIGITS, 8)
    for phase in ("generator", "discriminator", "r1"):
        for k in range(3):
            found = model.loss(f"{phase}_{k}", data, context(3))
            alone = model.members[k].loss(phase, data, context(3))
            assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_members_differ_and_their_discriminators_speak_together() -> None:
    model = ensemble()
    one, two = (next(m.generator.parameters()) for m in model.members[:2])
    assert not torch.equal(one, two)
    data = batch(DIGITS, 8)
    each = torch.stack([m.realness(data) for m in model.members])
    torch.testing.assert_close(model.realness(data), each.mean(0))


def test_trained_generators_are_taken_in_by_their_names(tmp_path: Any) -> None:
    parts = []
    for k in range(2):
        torch.manual_seed(10 + k)
        part: Any = models.build("mlp-gan", SMALL, DIGITS)
        (tmp_path / f"run{k}").mkdir()
        write_tensors(tmp_path / f"run{k}" / "model.safetensors", part.state_dict())
        parts.append(part.eval())
    x = torch.randint(0, 17, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    y = torch.arange(32) % 10
    given = {f"members.{k}": str(tmp_path / f"run{k}") for k in range(2)}
    config = TrainConfig.model_validate({"steps": 1, "lr": 0.0, "ema": 0.0, "batch": 8, "init_from": given})
    model = ensemble(members=2)
    fit(model, Split.of(DIGITS, x, y), config, seed=0)
    for k, part in enumerate(parts):
        for name, value in part.named_parameters():
            assert torch.equal(dict(model.members[k].named_parameters())[name], value), name


@pytest.mark.slow
def test_the_bundle_holds_all_members_and_makes_the_same_samples(tmp_path: Any) -> None:
    model = ensemble("dcgan")
    bundle = package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "e.niwaki")
    assert parity(model, bundle, n=4)["passed"]
    runner = load(bundle, precision="exact")
    inputs = {"class": np.arange(12) % 10}
    np.testing.assert_allclose(
        runner.run("sample", 12, seed=3, inputs=inputs),
        model.run("sample", 12, seed=3, inputs=inputs),
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("config", "spec", "text"),
    [
        ({"member": "vae"}, DIGITS, "must be an adversarial model, and 'vae' is none"),
        ({"member": "gan-ensemble"}, DIGITS, "must be an adversarial model"),
        ({"member": "dcgann"}, DIGITS, "did you mean 'dcgan'"),
        ({"settings": {"widht": 3}}, DIGITS, "did you mean 'width'"),
        ({"member": "dcgan"}, VECTORS, "makes images"),
        ({"members": 0}, DIGITS, "members"),
    ],
)
def test_what_is_no_ensemble_is_refused(config: dict[str, Any], spec: DataSpec, text: str) -> None:
    with pytest.raises(CallError, match=text):
        models.build("gan-ensemble", config, spec)


def test_without_labels_and_of_other_shapes() -> None:
    for spec, member in ((PATCHES, "dcgan"), (VECTORS, "mlp-gan")):
        model = ensemble(member, 2, spec)
        assert model.conditions == {}
        assert tuple(model.sample(3, seed=0).shape) == (3, *spec.shape)
    torch.manual_seed(0)
    config = {"member": "dcgan", "members": 2, "settings": SMALL, "conditional": False}
    assert models.build("gan-ensemble", config, DIGITS).conditions == {}
