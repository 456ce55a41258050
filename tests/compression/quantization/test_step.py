"""The step that quantizes says when it changed nothing, and of which graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from niwaki.compression import QuantizeConfig
from niwaki.compression.quantization.step import _in_torch, _layers_run
from niwaki.compression.steps import StepContext
from niwaki.core.contract import GenerativeModel
from niwaki.models import registry
from niwaki.surgery.quantized import quantized_layers
from niwaki_runtime.specs import DataSpec


@pytest.fixture(scope="module")
def vqvae() -> GenerativeModel:
    torch.manual_seed(0)
    small = {"codes": 8, "dim": 8, "width": 16, "prior_width": 16, "prior_layers": 1}
    model = registry.build("vqvae", small, DataSpec.of("image", (1, 8, 8), classes=10))
    model.shipped = ("sample", "encode", "decode")
    return model.eval()


@pytest.mark.slow
def test_a_graph_that_stays_float_as_asked_is_no_defect(vqvae: GenerativeModel, tmp_path: Path) -> None:
    """All three graphs are views of one model: what the others quantize says nothing of the encoder."""
    config = QuantizeConfig(ignored=("encoder",), calibration=20)
    context = StepContext(vqvae, None, 0, tmp_path, None, lambda *_: None)
    made = _in_torch(vqvae, config, context)
    assert set(made.graphs) == {"prior", "decoder", "encoder"}
    graphs = made.model.shipped_graphs()
    assert quantized_layers(graphs["encoder"].module), "layers of the whole model are within reach"
    assert not _layers_run(graphs["encoder"])
    assert _layers_run(graphs["decoder"])
    assert all(
        layer in quantized_layers(made.model.decoder).values() for layer in _layers_run(graphs["decoder"])
    )
