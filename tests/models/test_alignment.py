"""A hidden layer that is led to features of a trained network, early in training (REPA, Yu et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from model_cases import CLIPS, DIGITS, batch, context, make
from torch import Tensor
from torch.nn import functional as F

from niwaki.core.contract import CallError, DataSpec, GenerativeModel
from niwaki.data import Split
from niwaki.data.columns import Column
from niwaki.features.encoders import build_encoder
from niwaki.models.io import save_model
from niwaki.nn.alignment import alignment_loss, features_map
from niwaki.training import TrainConfig, fit

REPA = {"hidden": 16, "encoder_width": 16, "encoder_features": 8}
TRANSFORMER = {"patch": 2, "width": 16, "depth": 4, "heads": 2, "expansion": 2, "text_width": 8}
NETWORKS: list[dict[str, Any]] = [
    {"name": "unet"},
    {"name": "magnitude-preserving"},
    {"name": "dit", **TRANSFORMER},
    {"name": "mmdit", **TRANSFORMER},
]


def small(name: str = "edm", spec: DataSpec = DIGITS, **changes: Any) -> GenerativeModel:
    torch.manual_seed(0)
    model = make(name, spec, **{"repa": REPA, **changes})
    return model.requires_grad_(True).train()


def stirred(model: GenerativeModel) -> GenerativeModel:
    """Gates and outputs begin at zero: away from it every layer has a slope."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model


def test_the_loss_is_the_mean_cosine_over_places() -> None:
    wanted, said = torch.randn(3, 5, 4, 4), torch.randn(3, 5, 4, 4)
    total = 0.0
    for i in range(3):
        for r in range(4):
            for c in range(4):
                y, h = wanted[i, :, r, c], said[i, :, r, c]
                total += float(y @ h / (y.norm() * h.norm()))
    assert float(alignment_loss(wanted, said)) == pytest.approx(-total / 48, rel=1e-5)
    assert float(alignment_loss(wanted, 3.0 * wanted)) == pytest.approx(-1.0)
    constant = torch.randn(3, 5, 1, 1).expand(3, 5, 4, 4)
    assert float(alignment_loss(constant, constant[..., :1, :1].expand(3, 5, 7, 3))) == pytest.approx(-1.0)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n["name"])
def test_gradients_reach_the_aligned_layer_and_nothing_behind_it(network: dict[str, Any]) -> None:
    model = stirred(small(network=network))
    model.loss("denoiser", batch(model.spec), context())["repa"].backward()
    path, _ = model.denoiser.aligned
    reached = {
        n for n, p in model.denoiser.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert any(n.startswith(f"{path}.") for n in reached)
    if network["name"] in ("unet", "magnitude-preserving"):
        behind = ("up.", "output.")
        before = {"first.", "down.", "middle."}
    else:
        at = int(path.split(".")[1])
        assert at == 1  # of four blocks
        behind = ("norm.", "output.", *(f"blocks.{i}." for i in range(at + 1, 4)))
        before = {"first.", "blocks.0.", "blocks.1."}
    assert not [n for n in reached if n.startswith(behind)]
    for start in before:
        assert any(n.startswith(start) for n in reached), start
    assert all(p.grad is not None for p in model.alignment.head.parameters())
    assert all(p.grad is None for p in model.features.parameters())


def test_after_it_is_stopped_there_is_none_and_the_rest_of_the_loss_is_unchanged() -> None:
    model = small(repa={**REPA, "until": 0.4})
    data = batch(model.spec)
    early, late = (model.loss("denoiser", data, replace(context(), progress=p)) for p in (0.39, 0.4))
    assert set(early) == {"denoiser", "repa"}
    assert set(late) == {"denoiser"}
    torch.testing.assert_close(early["denoiser"], late["denoiser"], rtol=0, atol=0)
    late["denoiser"].backward()
    assert all(p.grad is None for p in model.alignment.parameters())
    assert set(model.eval().loss("denoiser", data, context())) == {"denoiser"}  # held-out data
    plain = make("edm", DIGITS)
    assert set(plain.loss("denoiser", data, context())) == {"denoiser"}


def test_the_weight_counts() -> None:
    data = batch(DIGITS)
    terms = [
        small(repa={**REPA, "weight": w}).loss("denoiser", data, context())["repa"].detach()
        for w in (0.5, 2.0)
    ]
    torch.testing.assert_close(terms[1], 4.0 * terms[0])


def test_it_learns_to_say_what_an_encoder_of_ours_sees_and_the_encoder_stays(tmp_path: Any) -> None:
    """Weights of a trained encoder by `init_from`; over the training the cosine rises."""
    encoder = build_encoder("simclr", {"width": 16, "features": 8, "projection": 8}, DIGITS)
    save_model(encoder, tmp_path / "model")
    model = make("edm", DIGITS, repa={**REPA, "until": 1.0})
    rows = batch(model.spec, n=64)
    split = Split({k: Column(model.spec[k], v) for k, v in rows.items()})
    config = TrainConfig(steps=60, batch=32, lr=3e-3, init_from={"features": f"{tmp_path}:backbone"})

    def said() -> float:
        with torch.no_grad():
            return float(model.train().loss("denoiser", rows, context())["repa"])

    was = said()
    fit(model, split, config, seed=0)
    assert said() < was - 0.1
    for name, value in model.features.state_dict().items():
        torch.testing.assert_close(value, encoder.backbone.state_dict()[name], rtol=0, atol=0)
    seen: list[Tensor] = []
    hook = encoder.backbone[-3].register_forward_hook(lambda m, i, out: seen.append(i[0]))
    encoder.backbone(rows.x)
    hook.remove()
    torch.testing.assert_close(features_map(model.features, rows.x), seen[0])
    assert F.relu(seen[0]).equal(seen[0])


def test_training_goes_on_past_its_end_and_nothing_of_it_ships() -> None:
    model = small(repa={**REPA, "until": 0.5})
    split = Split({k: Column(model.spec[k], v) for k, v in batch(model.spec, n=32).items()})
    fit(model, split, TrainConfig(steps=6, batch=8), seed=0)
    shipped = [p for g in model.shipped_graphs().values() for p in g.module.parameters()]
    beside = {id(p) for part in (model.alignment, model.features) for p in part.parameters()}
    assert set(model.shipped_graphs()) == {"denoiser"}
    assert not [p for p in shipped if id(p) in beside]
    assert not model.denoiser.get_submodule(model.alignment.path)._forward_hooks


@pytest.mark.parametrize(
    ("name", "spec", "settings", "message"),
    [
        ("edm", DIGITS, {"repa": {**REPA, "layer": "middel"}}, "no layer 'middel'; take 'middle"),
        ("mean-flow", DIGITS, {}, "repa"),
        ("video-diffusion", CLIPS, {}, "repa"),
    ],
)
def test_who_cannot(name: str, spec: DataSpec, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        small(name, spec, **settings)


def test_a_layer_of_another_width_is_named() -> None:
    model = small(repa={**REPA, "layer": "first"})
    with pytest.raises(CallError, match=r"repa\.layer"):
        model.loss("denoiser", batch(model.spec), context())
