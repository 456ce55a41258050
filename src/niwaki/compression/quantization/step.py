"""The step that quantizes."""

from __future__ import annotations

from niwaki.compression.quantization.config import QuantizeConfig
from niwaki.compression.quantization.static import quantize
from niwaki.compression.steps import Outcome, Workshop, step
from niwaki.contract import GenerativeModel
from niwaki.deployment import export_graphs


@step("quantize", lambda config: 100)
def _quantize(model: GenerativeModel, config: QuantizeConfig, bench: Workshop) -> Outcome:
    floats = export_graphs(model, bench.directory / "graphs")
    graphs = quantize(model, floats, bench.directory / "graphs" / "int8", config, condition=bench.condition)
    return Outcome(model, graphs=graphs)
