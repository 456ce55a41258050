"""LiteRT (TensorFlow Lite) for phones: NAME.tflite for each graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.static_graph.converted import Converted, Execute
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.rounding import round_on_floats
from niwaki.deployment.static_graph.samples import SamplesDiffer
from niwaki.deployment.targets.per_graph import PerGraphTarget
from niwaki.deployment.targets.target import register_target
from niwaki.deployment.torch_graph import GraphModule
from niwaki.deployment.torch_graph.quiet import first_sentence, quiet
from niwaki.deployment.torch_graph.weights import RoundedWeights

__all__ = ["LitertTarget"]


@register_target("litert")
class LitertTarget(PerGraphTarget):
    """NAME.tflite for each graph, with integers where the bundle has them.

    integers: weights stay on bytes, and are multiplied so where input and output are rounded, too. Without
              it, and where samples would not be the bundle's with it, weights are the floats that they mean:
              LiteRT rounds what is added to a product of bytes, which moves activations beside a step
    """

    suffix = "-litert"
    needs, runtime = ("litert_torch", "ai_edge_litert"), "ai_edge_litert.interpreter"
    install = "pip install, without their dependencies, what docs/phone-formats.md names"
    options: ClassVar[Mapping[str, Any]] = {**PerGraphTarget.options, "integers": True}

    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        try:
            return super().write(bundle, out, **options)
        except SamplesDiffer:
            if not options["integers"]:
                raise
        return super().write(bundle, out, **{**options, "integers": False})

    def convert(self, network: Network, options: Mapping[str, Any]) -> Converted:
        total = len(network.quantized)
        rounded = any(step.op == "QuantizeLinear" for step in network.steps)
        integers = bool(options["integers"]) and bool(total or rounded)
        if integers:
            module: GraphModule = RoundedWeights(network)
        else:
            round_on_floats(network)
            module = GraphModule(network, set(network.quantized))
        data = _by_litert(module.eval(), network.name, integers)
        record = {"weights_on_integers": [total if integers else 0, total], **LitertGraph(data).interface()}
        return Converted({f"{network.name}.tflite": data}, record)

    def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
        return LitertGraph(*files.values())


def _by_litert(module: GraphModule, name: str, integers: bool) -> bytes:
    with quiet():
        import litert_torch
        from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
        from litert_torch.quantize.quant_config import QuantConfig

        static = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_dynamic=False))
        # The graph is rounded already: this says that what lies between roundings is to be on integers.
        config = QuantConfig(pt2e_quantizer=static) if integers else None
        try:
            found: bytes = litert_torch.convert(
                module, tuple(module.zeros()), quant_config=config
            ).model_content()
        except Exception as error:  # its passes share no base class of errors
            raise NiwakiError(
                f"LiteRT's converter cannot take the graph '{name}': {first_sentence(error)}"
            ) from error
    return found


class LitertGraph:
    """A file in LiteRT's interpreter, in this process on one thread: inputs of the graph → its outputs."""

    def __init__(self, data: bytes) -> None:
        with quiet():
            from ai_edge_litert.interpreter import Interpreter

            self._interpreter = Interpreter(model_content=data, num_threads=1)
        self._run = self._interpreter.get_signature_runner()
        self._inputs = _in_order(self._run.get_input_details())
        self._outputs = _in_order(self._run.get_output_details())

    def interface(self) -> dict[str, Any]:
        """Of inputs and outputs by the signature's names: type, and scale and zero point of bytes."""
        return {
            f"signature_{side}": {name: [np.dtype(port["dtype"]).name, *_grid(port)] for name, port in ports}
            for side, ports in (("inputs", self._inputs), ("outputs", self._outputs))
        }

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        fed = {}
        for values, (name, port) in zip(arrays, self._inputs, strict=True):
            grid = _grid(port)
            if grid:
                ends = np.iinfo(port["dtype"])
                values = np.clip(np.rint(values / np.float32(grid[0])) + grid[1], ends.min, ends.max)
            fed[name] = values.astype(port["dtype"])
        made, out = self._run(**fed), []
        for name, port in self._outputs:
            grid = _grid(port)
            out.append(
                (made[name].astype(np.float32) - grid[1]) * np.float32(grid[0]) if grid else made[name]
            )
        return out


def _in_order(ports: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """args_0, args_1, … and output_0, output_1, …"""
    return sorted(ports.items(), key=lambda item: int(item[0].rsplit("_", 1)[1]))


def _grid(port: Mapping[str, Any]) -> list[float]:
    """Scale and zero point of bytes; nothing of what is not."""
    scale, zero = port["quantization"]
    return [float(scale), int(zero)] if scale else []
