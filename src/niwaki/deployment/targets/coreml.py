"""CoreML for Apple's devices: NAME.mlpackage for each graph."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from niwaki.core.contract import NiwakiError
from niwaki.core.store import write_bytes
from niwaki.deployment.static_graph.converted import HALF, Converted, Execute
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.static_graph.rounding import round_on_floats
from niwaki.deployment.targets.per_graph import PerGraphTarget
from niwaki.deployment.targets.target import register_target
from niwaki.deployment.torch_graph import GraphModule
from niwaki.deployment.torch_graph.quiet import first_sentence, quiet
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["CoremlTarget"]


@register_target("coreml")
class CoremlTarget(PerGraphTarget):
    """NAME.mlpackage for each graph, an ML program for iOS 16, macOS 13 and later.

    float16: of weights and of what is computed, as the Neural Engine needs it
    Compared with the bundle on macOS, where CoreML is; elsewhere the record says that nothing was.
    """

    suffix = "-coreml"
    needs, runtime = ("coremltools",), "coremltools"
    options: ClassVar[Mapping[str, Any]] = {**PerGraphTarget.options, "float16": False}

    def convert(self, network: Network, options: Mapping[str, Any]) -> Converted:
        total, half = len(network.quantized), bool(options["float16"])
        round_on_floats(network)
        with scratch_directory() as folder:
            package = folder / f"{network.name}.mlpackage"
            operators = _by_coremltools(network, package, half)
            files = {
                str(path.relative_to(folder)): path.read_bytes()
                for path in (package / "Manifest.json", *sorted((package / "Data").rglob("*")))
                if path.is_file()
            }
        record = {"weights_on_integers": [0, total], "float16": half, "operators": operators}
        return Converted(files, record, HALF if half else 0.0)

    def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
        if sys.platform != "darwin":
            return None
        with scratch_directory() as folder:
            for file, data in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                write_bytes(folder / file, data)
            return LoadedModel(folder / graph["file"])


def _by_coremltools(network: Network, package: Path, half: bool) -> dict[str, int]:
    """Writes the package; its operators by name, how many.

    Raises NiwakiError where coremltools cannot convert it, and where what it wrote has other outputs.
    """
    with quiet():
        import coremltools as ct

        module = GraphModule(network, set(network.quantized)).eval()
        zeros = module.zeros()
        inputs = [
            ct.TensorType(name=f"in{k}", shape=tuple(x.shape), dtype=_numpy(x)) for k, x in enumerate(zeros)
        ]
        outputs = [ct.TensorType(name=f"out{k}") for k in range(len(network.outputs))]
        try:
            with torch.no_grad():
                traced = torch.jit.trace(module, tuple(zeros), check_trace=False)
            model = ct.convert(
                traced, inputs=inputs, outputs=outputs, convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            )  # fmt: skip
            model.save(str(package))
        except Exception as error:  # its passes share no base class of errors
            raise NiwakiError(
                f"coremltools cannot take the graph '{network.name}': {first_sentence(error)}"
            ) from error
    main = model._mil_program.functions["main"]
    written = [tuple(out.shape) for out in main.outputs]
    wanted = [network.arrays[name].shape for name in network.outputs]
    if written != wanted:
        raise NiwakiError(
            f"coremltools gives outputs of {written} for the graph '{network.name}', not {wanted}"
        )
    counts: dict[str, int] = {}
    for operation in main.operations:
        if operation.op_type != "const":
            counts[operation.op_type] = counts.get(operation.op_type, 0) + 1
    return counts


class LoadedModel:
    """A package that CoreML has loaded: inputs of the graph → its outputs."""

    def __init__(self, package: Path) -> None:
        with quiet():
            import coremltools as ct

            self._model = ct.models.MLModel(str(package), compute_units=ct.ComputeUnit.CPU_ONLY)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        made = self._model.predict({f"in{k}": values for k, values in enumerate(arrays)})
        return [np.asarray(made[f"out{k}"]) for k in range(len(made))]


def _numpy(x: torch.Tensor) -> type:
    return np.float32 if x.is_floating_point() else np.int32
