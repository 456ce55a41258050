"""The codec of flows: its bits are their likelihood, layer by layer, and bundles code without loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import DIGITS, batch, make

from niwaki.core.contract import DataSpec, GenerativeModel, Real, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki_runtime import noise
from niwaki_runtime.codec import Codec, open_codec

PLAIN = {"conditioning": {"columns": []}}
COLOURED = DataSpec.of("image", (3, 4, 4), levels=256)
KINDS = [
    ("realnvp", DIGITS, {}),
    ("realnvp", DIGITS, PLAIN),
    ("realnvp", COLOURED, {}),
    ("nice", DIGITS, {}),
    ("neural-spline", DIGITS, {}),
]


def stirred(name: str, spec: DataSpec, settings: dict[str, Any]) -> Any:
    """A flow that moves values."""
    model: Any = make(name, spec, **settings).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    return model


class Exact:
    """A graph of torch in float64, as a codec calls it."""

    state = ()

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def __call__(self, *given: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            out = self.module(*map(torch.from_numpy, given))
        return tuple(o.detach().numpy() for o in (out if isinstance(out, tuple) else (out,)))


def exact_codec(model: GenerativeModel) -> Codec:
    model.double()
    graphs = {name: Exact(graph.module) for name, graph in model.graphs().items()}
    return Codec(model.programs()["codec"], graphs, "model")


@pytest.mark.parametrize(("name", "spec", "settings"), KINDS)
def test_bits_are_the_likelihood(name: str, spec: DataSpec, settings: dict[str, Any]) -> None:
    model = stirred(name, spec, settings)
    given = batch(spec, 6)
    y = given["class"] if model.classes else None
    inputs = {"x": given.x.numpy(), **({} if y is None else {"class": y.numpy()})}
    u = torch.from_numpy(noise.uniform(3, 0, 6, spec.size, stream="latent")).float().reshape(given.x.shape)
    with torch.no_grad():
        nats = -model.class_log_prob(given.x + model.step * (u - 0.5), y) - spec.size * math.log(model.step)
    got = np.asarray(model.run("codec", 6, seed=3, inputs=inputs))
    assert np.allclose(got, nats.numpy() / math.log(2.0), rtol=1e-4)


@pytest.mark.parametrize(("name", "spec", "settings"), KINDS)
def test_layers_move_what_they_say_and_back(name: str, spec: DataSpec, settings: dict[str, Any]) -> None:
    model = stirred(name, spec, settings).double()
    y = (torch.arange(4) % model.classes,) if model.classes else ()
    graphs, plan = model.graphs(), model.programs()["codec"].sampler
    h = torch.randn(4, spec.size, dtype=torch.float64)
    for i, (move, back) in enumerate(zip(plan.moves, plan.backs, strict=True)):
        z, slopes = graphs[move].module(h, *(y if back else ()))
        if back:
            stay = np.setdiff1d(np.arange(spec.size), plan.places(i))
            assert 0 < len(stay) < spec.size
            assert torch.equal(z[:, stay], h[:, stay])
            assert not slopes[:, stay].any()
            assert torch.allclose(graphs[back].module(z, *y), h, atol=1e-8)
        h = z
    z, _ = model.forward(model.inverse(h, *y), *y)
    assert torch.isfinite(z).all()


@pytest.mark.parametrize(("name", "spec", "settings"), KINDS)
def test_nothing_is_lost(name: str, spec: DataSpec, settings: dict[str, Any]) -> None:
    pytest.importorskip("constriction")
    codec = exact_codec(stirred(name, spec, settings))
    levels = np.random.default_rng(0).integers(0, spec.levels, (3, *spec.shape))
    x = spec.low + (spec.high - spec.low) * levels / (spec.levels - 1)
    assert np.allclose(codec.decode(codec.encode(x).data).x, x, atol=1e-6)


@pytest.mark.parametrize("name", ["glow", "flowpp", "tarflow"])
def test_flows_that_move_values_together_have_no_codec(name: str) -> None:
    assert "codec" not in make(name, DIGITS).programs()


AMOUNTS = ValueSpec("image", (1, 8, 8), "CHW", Real(-1.0, 1.0))


@pytest.mark.parametrize("spec", [DataSpec.of("vector", (4,)), DataSpec({"x": AMOUNTS})])
def test_amounts_have_no_codec(spec: DataSpec) -> None:
    model = make("realnvp", spec)
    assert "codec" not in model.programs()
    assert not any(name.startswith(("move", "back", "cells")) for name in model.graphs())


@pytest.mark.slow
def test_a_bundle_codes_digits_without_loss(tmp_path: Path) -> None:
    pytest.importorskip("constriction")
    model = stirred("realnvp", DIGITS, {})
    model.shipped = ("sample", "codec")
    package(model, export_graphs(model, tmp_path / "graphs"), tmp_path / "f.niwaki")
    x = -1.0 + np.random.default_rng(0).integers(0, 17, (6, 1, 8, 8)) / 8.0
    codec = open_codec(tmp_path / "f.niwaki")
    assert np.allclose(codec.decode(codec.encode(x, labels={"class": np.arange(6)}).data).x, x, atol=1e-6)
