"""Exact simplifications of exported graphs that neither the exporter nor the engines make themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from niwaki.deployment.onnx_file import drop_unused, producers, to_array

__all__ = ["fold_norms", "fold_upsampling"]


@dataclass
class _View:
    """A graph with its constants, its producers and how often each value is used."""

    graph: onnx.GraphProto
    constants: dict[str, onnx.TensorProto]
    made_by: dict[str, onnx.NodeProto]
    uses: Counter[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _View:
        uses = Counter(v for node in model.graph.node for v in node.input)
        uses.update(out.name for out in model.graph.output)
        return cls(model.graph, {t.name: t for t in model.graph.initializer}, producers(model), uses)

    def before(self, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        """The node of type `kind` that makes the first input of `node`, and nothing but that."""
        found = self.made_by.get(node.input[0])
        alone = found is not None and found.op_type == kind and self.uses[found.output[0]] == 1
        return found if alone else None

    def value(self, name: str) -> np.ndarray:
        return to_array(self.constants[name]).astype(np.float64)

    def write(self, name: str, value: np.ndarray) -> None:
        tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        if name in self.constants:
            self.constants[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def fold_norms(model: onnx.ModelProto) -> int:
    """BatchNormalization after a linear layer and a reshape goes into the layer's weights; returns how many
    did.

    (After a convolution the exporter folds it.) In place, in float64:
    y = γ (W x + b − μ)/√(σ² + ε) + β, with γ, β, μ, σ² repeated over the positions that a channel is given.
    """
    view, done = _View.of(model), 0
    for norm in [n for n in view.graph.node if n.op_type == "BatchNormalization"]:
        reshape = view.before(norm, "Reshape")
        linear = reshape and view.before(reshape, "Gemm")
        if not reshape or not linear:
            continue
        names = [*linear.input[1:], *norm.input[1:5], reshape.input[1]]
        own = all(view.uses[n] == 1 for n in linear.input[1:])
        if not own or any(n not in view.constants for n in names):
            continue
        given, shape = _attributes(linear), view.value(reshape.input[1])
        weight = view.value(linear.input[1])
        weight = weight if given.get("transB", 0) else weight.T  # (outputs, inputs)
        scale, shift, mean, var = (view.value(n) for n in norm.input[1:5])
        plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0
        positions = len(weight) // len(scale)
        if not plain or shape[1] != len(scale) or np.prod(shape[1:]) != len(weight) or (shape[1:] <= 0).any():
            continue
        gain = scale / np.sqrt(var + float(_attributes(norm).get("epsilon", 1e-5)))  # type: ignore[arg-type]
        gains, offsets = np.repeat(gain, positions), np.repeat(shift - mean * gain, positions)
        bias = view.value(linear.input[2]) if len(linear.input) > 2 else np.zeros(len(weight))
        weight = weight * gains[:, None]
        view.write(linear.input[1], weight if given.get("transB", 0) else weight.T)
        if len(linear.input) < 3:
            linear.input.append(f"{linear.input[1]}_bias")
        view.write(linear.input[2], np.broadcast_to(bias, len(weight)) * gains + offsets)
        reshape.output[0] = norm.output[0]
        view.graph.node.remove(norm)
        done += 1
    drop_unused(view.graph)
    return done


def fold_upsampling(model: onnx.ModelProto) -> int:
    """Nearest upsampling by two and a 3×3 convolution become one ConvTranspose, exactly; returns how many
    did.

    The convolution reads every input pixel four times. Summing the weights that meet the same pixel
    beforehand leaves 16 weights per pair of channels instead of 9, but 4 products per output instead of 9.
    With out(y) = Σ_k w(k) · x(⌊(y + k − 1)/2⌋) and ConvTranspose's t = y − 2i + 1, per axis:
    W(0) = w(2), W(1) = w(1) + w(2), W(2) = w(0) + w(1), W(3) = w(0). The borders agree: both see zeros.
    A convolution of few different weights is left alone: sums of 2 or 4 of them are many.
    """
    view, done = _View.of(model), 0
    for conv in [n for n in view.graph.node if n.op_type == "Conv"]:
        resize = view.before(conv, "Resize")
        weight = view.constants.get(conv.input[1])
        if not resize or weight is None or view.uses[weight.name] != 1 or not _doubles(view, resize):
            continue
        if _shared(view.value(conv.input[1])):
            continue
        given = _attributes(conv)
        plain = (
            list(weight.dims[2:]) == [3, 3]
            and given.get("pads") == [1, 1, 1, 1]
            and given.get("strides", [1, 1]) == [1, 1] == given.get("dilations", [1, 1])
            and given.get("group", 1) == 1
            and given.get("auto_pad", b"NOTSET") == b"NOTSET"
        )
        if not plain:
            continue
        spread = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float64)  # (t, k)
        view.write(weight.name, np.einsum("tk,ul,oikl->iotu", spread, spread, view.value(weight.name)))
        transposed = helper.make_node(
            "ConvTranspose",
            [resize.input[0], *conv.input[1:]],
            list(conv.output),
            name=conv.name,
            kernel_shape=[4, 4],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        )
        view.graph.node.remove(resize)
        conv.CopyFrom(transposed)
        done += 1
    drop_unused(view.graph)
    return done


def _shared(weight: np.ndarray) -> bool:
    """Whether weights were made equal on purpose (`niwaki.compression.storage.share`)."""
    return weight.size >= 1024 and len(np.unique(weight)) <= 256


def _doubles(view: _View, resize: onnx.NodeProto) -> bool:
    """Whether a Resize repeats every pixel of an image twice along both axes, as torch's nearest does."""
    given = _attributes(resize)
    scales = resize.input[2] if len(resize.input) > 2 else ""
    return (
        given.get("mode", b"nearest") == b"nearest"
        and given.get("coordinate_transformation_mode") == b"asymmetric"
        and given.get("nearest_mode") == b"floor"
        and scales in view.constants
        and view.value(scales).tolist() == [1.0, 1.0, 2.0, 2.0]
    )
