"""ncnn for phones and small boards: NAME.param and NAME.bin for each graph, by pnnx."""

from __future__ import annotations

import re
import subprocess
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

__all__ = ["NcnnTarget"]


@register_target("ncnn")
class NcnnTarget(PerGraphTarget):
    """NAME.param and NAME.bin for each graph; inputs are in0, in1 …, outputs out0 …, without a batch axis.

    float16: of weights in the file, and of what is computed where the processor has it
    """

    suffix = "-ncnn"
    needs, runtime = ("ncnn", "pnnx"), "ncnn"
    options: ClassVar[Mapping[str, Any]] = {**PerGraphTarget.options, "float16": False}

    def convert(self, network: Network, options: Mapping[str, Any]) -> Converted:
        total, half = len(network.quantized), bool(options["float16"])
        round_on_floats(network)
        with scratch_directory() as folder:
            shapes = _by_pnnx(network, folder, half)
            files = {end: (folder / f"graph.ncnn.{end}").read_bytes() for end in ("param", "bin")}
        record = {
            "weights_on_integers": [0, total],
            "float16": half,
            "layers": [line.split()[0] for line in files["param"].decode().splitlines()[2:]],
            "input_shapes": {f"in{k}": shape for k, shape in enumerate(shapes)},
        }
        contents = {f"{network.name}.{end}": data for end, data in files.items()}
        return Converted(contents, record, HALF if half else 0.0)

    def load(self, files: Mapping[str, bytes], graph: Mapping[str, Any]) -> Execute | None:
        with scratch_directory() as folder:
            for file, data in files.items():
                write_bytes(folder / f"graph{Path(file).suffix}", data)
            shapes = list(graph["input_shapes"].values())
            return NcnnGraph(folder, shapes, len(graph["outputs"]), graph["float16"])


def _by_pnnx(network: Network, folder: Path, half: bool) -> list[list[int]]:
    """Writes graph.ncnn.param and graph.ncnn.bin; shapes of the inputs as ncnn takes them.

    Raises NiwakiError where pnnx fails, and for layers that ncnn does not have.
    """
    import pnnx

    module = GraphModule(network, set(network.quantized)).eval()
    zeros = module.zeros()
    try:
        with quiet(), torch.no_grad():
            torch.jit.trace(module, tuple(zeros), check_trace=False).save(str(folder / "graph.pt"))
    except (RuntimeError, TypeError, ValueError) as error:
        raise NiwakiError(
            f"torch cannot trace the graph '{network.name}': {first_sentence(error)}"
        ) from error
    kinds = {torch.float32: "f32", torch.int32: "i32"}
    sizes = (f"[{','.join(map(str, x.shape))}]{kinds.get(x.dtype, 'f32')}" for x in zeros)
    done = subprocess.run(
        [pnnx.EXEC_PATH, "graph.pt", f"inputshape={','.join(sizes)}", f"fp16={int(half)}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    script = folder / "graph_ncnn.py"
    if done.returncode or not script.is_file():
        said = (done.stderr or done.stdout).strip().splitlines()
        last = said[-1] if said else f"status {done.returncode}"
        raise NiwakiError(f"pnnx cannot convert the graph '{network.name}': {last}")
    text = (folder / "graph.ncnn.param").read_text()
    kinds_there = {line.split()[0] for line in text.splitlines()[2:]}
    unknown = sorted(kind for kind in kinds_there if "." in kind or ":" in kind)
    if unknown:
        raise NiwakiError(f"the graph '{network.name}' has {', '.join(unknown)}, for which ncnn has no layer")
    # Which axis is the batch, if any, pnnx finds out by itself; its script says it.
    axes = [int(axis) for axis in re.findall(r"ex\.input\(.*batch_index=(\d+)", script.read_text())]
    return [
        [n for axis, n in enumerate(x.shape) if axis != batch] for x, batch in zip(zeros, axes, strict=True)
    ]


class NcnnGraph:
    """The files in `folder`, run by ncnn in this process on one thread: inputs of the graph → its outputs."""

    def __init__(self, folder: Path, shapes: Sequence[Sequence[int]], outputs: int, half: bool) -> None:
        import ncnn

        self._mat, self._shapes, self._outputs = ncnn.Mat, shapes, outputs
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = 1
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = half
        options.use_bf16_storage = False
        for status in (
            self._net.load_param(str(folder / "graph.param")),
            self._net.load_model(str(folder / "graph.bin")),
        ):
            if status:
                raise NiwakiError(f"ncnn cannot load what pnnx wrote, status {status}")

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        extractor = self._net.create_extractor()
        for k, (values, shape) in enumerate(zip(arrays, self._shapes, strict=True)):
            extractor.input(f"in{k}", self._mat(np.ascontiguousarray(values.reshape(shape))).clone())
        out = []
        for k in range(self._outputs):
            status, values = extractor.extract(f"out{k}")
            if status:
                raise NiwakiError(f"ncnn cannot compute out{k}, status {status}")
            out.append(np.array(values.numpy()))
        return out
