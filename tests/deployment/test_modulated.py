"""Kernels of their own for every sample, written as other people write them, are exported exactly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Graph, NiwakiError, Port
from niwaki.deployment.bake import bake
from niwaki.deployment.check import graph_errors, open_runner
from niwaki.deployment.export import to_onnx
from niwaki.deployment.onnx_file import write_graphs
from niwaki_runtime.engines import available

BATCHES = (1, 2, 5, 17)


class Modulated(nn.Module):
    """A constant, a style of every sample, and one modulated convolution `(4 → 5 channels)`.

    scaled: whether one convolution serves all samples
    """

    scaled = True
    shape: tuple[int, ...] = (5, 4, 3, 3)
    places: tuple[int, ...] = (6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, 4, *self.places))
        self.weight = nn.Parameter(0.3 * torch.randn(self.shape))
        self.style = nn.Linear(8, 4)

    def start(self, n: int) -> Tensor:
        return self.const.expand(n, *self.const.shape[1:])


class ByHand(Modulated):
    """As in the fault report: a reduction that keeps its axes."""

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = self.weight[None] * self.style(z)[:, None, :, None, None]
        w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = self.start(n).reshape(1, n * 4, 6, 6)
        return F.conv2d(x, w.reshape(n * 5, 4, 3, 3), padding=1, groups=n).view(n, 5, 6, 6)


class Rosinality(Modulated):
    """A scale, `pow(2)`, the demodulation viewed; in place."""

    mode = "same"

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = 0.1 * self.weight[None] * self.style(z).view(n, 1, 4, 1, 1)
        w *= torch.rsqrt(w.pow(2).sum([2, 3, 4]) + 1e-8).view(n, 5, 1, 1, 1)
        w = w.view(n * 5, 4, 3, 3)
        x = self.const.repeat(n, 1, 1, 1).view(1, n * 4, 6, 6)
        if self.mode == "up":
            w = w.view(n, 5, 4, 3, 3).transpose(1, 2).reshape(n * 4, 5, 3, 3)
            return F.conv_transpose2d(x, w, padding=0, stride=2, groups=n).view(n, 5, 13, 13)
        if self.mode == "down":
            return F.conv2d(x, w, padding=0, stride=2, groups=n).view(n, 5, 2, 2)
        return F.conv2d(x, w, padding=1, groups=n).view(n, 5, 6, 6)


class RosinalityUp(Rosinality):
    mode = "up"


class RosinalityDown(Rosinality):
    mode = "down"


class FlippedUp(Modulated):
    """StyleGAN2-ADA's fused way upwards: the kernel turned round, and transposed."""

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = self.weight.unsqueeze(0) * self.style(z).reshape(n, 1, -1, 1, 1)
        d = (w.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt()
        w = (w * d.reshape(n, -1, 1, 1, 1)).reshape(-1, 4, 3, 3).flip([2, 3])
        w = w.reshape(n, 5, 4, 3, 3).transpose(1, 2).reshape(n * 4, 5, 3, 3)
        x = self.start(n).reshape(1, -1, 6, 6)
        y = F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1, groups=n)
        return y.reshape(n, -1, 12, 12)


class PlusOne(Modulated):
    """1 + style, and a bias of every sample."""

    def forward(self, z: Tensor) -> Tensor:
        n, style = z.shape[0], self.style(z)
        w = self.weight[None] * (style[:, None, :, None, None] + 1)
        d = torch.rsqrt((w**2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = self.start(n).reshape(1, -1, 6, 6)
        bias = style.sum(1, keepdim=True).expand(n, 5).reshape(-1)
        y = F.conv2d(x, (w * d).reshape(n * 5, 4, 3, 3), bias, padding=(1, 0), dilation=(1, 2), groups=n)
        return y.reshape(-1, 5, 6, 2)


class NotDemodulated(Modulated):
    """A 1×1 convolution to colours, divided by a gain of every sample."""

    shape = (3, 4, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        n, style = z.shape[0], self.style(z)
        w = self.weight * style[:, None, :, None, None] / (1 + style.abs().mean(1)).view(n, 1, 1, 1, 1)
        x = self.start(n).reshape(1, n * 4, 6, 6)
        return F.conv2d(x, w.flatten(0, 1), groups=n).unflatten(1, (n, 3))[0]


class Along(Modulated):
    """In one dimension, as 'same'."""

    shape, places = (5, 4, 4), (9,)

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = self.weight[None] * self.style(z)[:, None, :, None]
        w = w / (w.square().sum((2, 3), keepdim=True) + 1e-8).sqrt()
        x = self.start(n).reshape(1, n * 4, 9)
        return F.conv1d(x, w.reshape(n * 5, 4, 4), padding="same", groups=n).view(n, 5, 9)


class Volume(Modulated):
    shape, places = (5, 4, 2, 3, 3), (3, 4, 4)

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = (self.weight[None] * self.style(z)[:, None, :, None, None, None]).reshape(n * 5, 4, 2, 3, 3)
        x = self.start(n).reshape(1, n * 4, 3, 4, 4)
        return F.conv3d(x, w, padding=(0, 1, 1), groups=n).view(n, 5, 2, 4, 4)


class Blur(Modulated):
    """One filter for all channels of all samples."""

    def forward(self, z: Tensor) -> Tensor:
        x = (self.start(z.shape[0]) * self.style(z)[:, :, None, None]).reshape(1, -1, 6, 6)
        k = self.weight[:1, :1].repeat(x.shape[1], 1, 1, 1)
        return F.conv2d(x, k, padding=1, groups=x.shape[1]).view(-1, 4, 6, 6)


class Mixture(Modulated):
    """GigaGAN's and CondConv's kernels: a mixture of several by attention."""

    scaled = False

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Parameter(0.3 * torch.randn(3, 5, 4, 3, 3))
        self.attention = nn.Linear(8, 3)

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = torch.einsum("be,eoikl->boikl", self.attention(z).softmax(1), self.bank)
        w = w * self.style(z)[:, None, :, None, None]
        w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = self.start(n).reshape(1, n * 4, 6, 6)
        return F.conv2d(x, w.reshape(n * 5, 4, 3, 3), padding=1, stride=2, groups=n).view(n, 5, 3, 3)


class MixtureUp(Mixture):
    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = torch.einsum("be,eoikl->biokl", self.attention(z).softmax(1), self.bank)
        x = self.start(n).reshape(1, n * 4, 6, 6)
        bias = self.attention(z).repeat(1, 2)[:, :5].reshape(-1)
        y = F.conv_transpose2d(
            x, w.reshape(n * 4, 5, 3, 3), bias, stride=(2, 3), padding=(1, 3), output_padding=(0, 1),
            dilation=(2, 1), groups=n,
        )  # fmt: skip
        return y.view(n, 5, *y.shape[2:])


class Dynamic(Modulated):
    """A filter of every channel and sample, made by a linear layer."""

    scaled = False

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Linear(8, 4 * 9)

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        k = self.filters(z).view(n * 4, 1, 3, 3)
        return F.conv2d(self.start(n).reshape(1, n * 4, 6, 6), k, padding=1, groups=n * 4).view(n, 4, 6, 6)


class TwoRows(Modulated):
    """Two pictures under the kernel of each sample."""

    scaled = False

    def forward(self, z: Tensor) -> Tensor:
        n = z.shape[0]
        w = (self.weight[None] * self.style(z)[:, None, :, None, None]).reshape(n * 5, 4, 3, 3)
        x = torch.stack([self.start(n), self.start(n).flip(2)]).reshape(2, n * 4, 6, 6)
        return F.conv2d(x, w, padding=1, groups=n).view(2, n, 5, 6, 6).transpose(0, 1)


KINDS = [
    *(ByHand, Rosinality, RosinalityUp, RosinalityDown, FlippedUp, PlusOne, NotDemodulated),
    *(Along, Volume, Blur, Mixture, MixtureUp, Dynamic, TwoRows),
]
# Near others of the list.
HEAVY = (MixtureUp, TwoRows, Volume, Along, RosinalityDown, FlippedUp, PlusOne, Dynamic)


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k in HEAVY else k for k in KINDS]
)
def test_both_engines_compute_what_torch_does_at_every_batch(kind: type[Modulated], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    graph = Graph("generator", module, (Port("z", (1, 8)),))
    proto = to_onnx("g", graph, bake(module))
    operators = Counter(node.op_type for node in proto.graph.node)
    assert (operators["Conv"] + operators["ConvTranspose"] == 1) == kind.scaled, operators
    path = write_graphs({"g": proto}, tmp_path)["g"]
    for engine in available():
        errors = graph_errors(graph, module, open_runner(engine, graph, path), BATCHES)
        assert max(errors.values()) < 3e-5, (engine, errors)


def test_the_shared_kernel_is_stored_once_and_its_energy_beforehand() -> None:
    """What is left of a modulated convolution: the convolution, and two small products."""
    module = ByHand().eval()
    proto = to_onnx("g", Graph("generator", module, (Port("z", (1, 8)),)), bake(module))
    conv = next(n for n in proto.graph.node if n.op_type == "Conv")
    stored = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    assert stored[conv.input[1]] == (5, 4, 3, 3)
    assert (4, 5) in stored.values()  # Σ_k W²
    assert not any(len(shape) > 4 for shape in stored.values())


class Length(ByHand):
    def forward(self, z: Tensor) -> Tensor:
        n = len(z)
        w = (self.weight[None] * self.style(z)[:, None, :, None, None]).reshape(n * 5, 4, 3, 3)
        return F.conv2d(self.start(n).reshape(1, n * 4, 6, 6), w, padding=1, groups=n).view(n, 5, 6, 6)


def test_a_length_that_is_a_number_is_named() -> None:
    module = Length().eval()
    with pytest.raises(NiwakiError, match=r"use x.shape\[0\] rather than .*len\(x\)"):
        to_onnx("g", Graph("generator", module, (Port("z", (1, 8)),)), bake(module))
