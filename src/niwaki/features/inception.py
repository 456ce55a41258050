"""Inception-v3 as the Fréchet inception distance uses it: the TensorFlow graph of 5 December 2015, in torch.

Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016
(https://arxiv.org/abs/1512.00567); Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS
2017 (https://arxiv.org/abs/1706.08500). It differs from later ones in its 1008 outputs, in average pools that
do not count the padding, and in a maximum pool in the last block (an oversight that every published FID
carries). The parameters are named as in the weights `pt_inception-2015-12-05`, which load by name once they
are converted to safetensors; with equal weights the features are torch-fidelity's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.paths import expanded
from niwaki.core.store import read_tensors
from niwaki.features.preprocess import Preprocess
from niwaki.features.weights import Loaded, refuse_pickle

__all__ = ["INCEPTION_INPUT", "Inception", "load_inception"]

INCEPTION_INPUT = Preprocess(size=(299, 299), method="tf1", mean=(128 / 255,) * 3, std=(128 / 255,) * 3)
"""8-bit RGB, TensorFlow 1's bilinear resize to 299 pixels, (x − 128) / 128."""

_OUTPUTS = 1008
_DIVISORS = (1, 2, 4, 8, 16)
"""What all channel counts can be divided by."""

Kernel = int | tuple[int, int]
Step = tuple[int, *tuple[Kernel, ...]]
"""(outputs, kernel) of one convolution, or (outputs, kernel, kernel) of two side by side."""


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: Kernel = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches side by side, their channels concatenated in the order given, the pool last.

    branches: convolutions by name; the i-th of `5x5` is called `branch5x5_i`, an only one `branch1x1`, two
              side by side `…_ia` and `…_ib`
    pool:     `average` or `maximum`, 3×3 at stride 1, then a 1×1 convolution to `pooled` channels; `halve`: a
              maximum pool of stride 2 as it is, and then the last convolution of each branch has stride 2 too
    """

    def __init__(
        self, inputs: int, branches: dict[str, Sequence[Step]], pool: str, pooled: int = 0, divisor: int = 1
    ) -> None:
        super().__init__()
        self.pool = pool
        self.paths: list[list[list[str]]] = []
        self.outputs = 0
        for branch, steps in branches.items():
            width, path = inputs, []
            for i, (outputs, *kernels) in enumerate(steps, 1):
                halve = pool == "halve" and i == len(steps)
                stem = f"branch{branch}" + (f"_{i}" if len(steps) > 1 else "")
                names = [stem] if len(kernels) == 1 else [f"{stem}{letter}" for letter in "ab"]
                for name, kernel in zip(names, kernels, strict=True):
                    padding = 0 if halve else _same(kernel)
                    self.add_module(
                        name, Convolution(width, outputs // divisor, kernel, 2 if halve else 1, padding)
                    )
                path.append(names)
                width = outputs // divisor * len(kernels)
            self.paths.append(path)
            self.outputs += width
        if pool == "halve":
            self.outputs += inputs
        else:
            self.branch_pool = Convolution(inputs, pooled // divisor, 1)
            self.outputs += pooled // divisor

    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for path in self.paths:
            y = x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            outs.append(y)
        if self.pool == "halve":
            outs.append(F.max_pool2d(x, 3, stride=2))
        elif self.pool == "maximum":
            outs.append(self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1)))
        else:
            # TensorFlow's mean is over the pixels that exist; torch's default counts the padding as zeros.
            outs.append(self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)))
        return torch.cat(outs, 1)


class Inception(nn.Module):
    """Images (n, 3, 299, 299) as `INCEPTION_INPUT` makes them → pooled features (n, 2048).

    divisor: of all channel counts (1, 2, 4, 8 or 16): a small network of the same form
    """

    def __init__(self, divisor: int = 1) -> None:
        super().__init__()
        if divisor not in _DIVISORS:
            raise CallError(f"Inception's channels can be divided by 1, 2, 4, 8 or 16, not by {divisor}")
        d = divisor
        self.Conv2d_1a_3x3 = Convolution(3, 32 // d, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32 // d, 32 // d, 3)
        self.Conv2d_2b_3x3 = Convolution(32 // d, 64 // d, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64 // d, 80 // d, 1)
        self.Conv2d_4a_3x3 = Convolution(80 // d, 192 // d, 3)
        width = 192 // d
        for name, branches, pool, pooled in _blocks():
            block = Block(width, branches, pool, pooled, d)
            self.add_module(name, block)
            width = block.outputs
        self.dim = width
        self.fc = nn.Linear(width, _OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (n, 64, 147, 147)
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # (n, 192, 71, 71)
        x = F.max_pool2d(x, 3, stride=2)
        for name, *_ in _blocks():
            x = self.get_submodule(name)(x)  # 5: 35², 6: 17², 7: 8²
        return x.mean((2, 3))

    def probabilities(self, features: Tensor) -> Tensor:
        """(n, 2048) → (n, 1008), rows add up to 1. Without the bias of the last layer, as the inception score
        has always been computed (Salimans et al. 2016)."""
        return F.linear(features, self.fc.weight).softmax(1)


def load_inception(source: str) -> Loaded:
    """The network with the weights of a safetensors file.

    Raises CallError for pickled weights and anything but a file, NiwakiError for a damaged file and weights
    that are not the FID's.
    """
    path = expanded(source)
    refuse_pickle(path)
    if path.is_dir():
        raise CallError(f"'{path}' is a folder; name the safetensors file with Inception's weights")
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in read_tensors(path).items()}
    if "AuxLogits.fc.weight" in tensors or len(tensors.get("fc.bias", ())) == 1000:
        raise NiwakiError(
            f"{path} holds torchvision's Inception, and Fréchet distances are measured with another, "
            "of 1008 outputs: pt_inception-2015-12-05"
        )
    channels = len(tensors.get("Conv2d_1a_3x3.bn.weight", ()))
    with torch.device("meta"):  # nothing is drawn at random only to be overwritten
        network = Inception(next((d for d in _DIVISORS if channels == 32 // d), 1))
    wanted = {k: v.shape for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v.shape for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    wrong = sorted({name for name, _ in wanted.items() ^ given.items()})
    if wrong:
        raise NiwakiError(
            f"{path} does not hold the weights of the FID's Inception-v3: {len(wrong)} are missing, unknown "
            f"or of another shape, '{wrong[0]}' among them"
        )
    network.load_state_dict(tensors, assign=True)
    return Loaded(network, network.dim, INCEPTION_INPUT, {"version": 1})


def _same(kernel: Kernel) -> Kernel:
    """The padding that keeps the size."""
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


def _blocks() -> list[tuple[str, dict[str, Sequence[Step]], str, int]]:
    """(name, branches, pool, channels of the pool's convolution); the paper's figures 5, 10, 6, 10, 7."""
    wide, tall = (1, 7), (7, 1)

    def five(pooled: int) -> tuple[dict[str, Sequence[Step]], str, int]:
        return (
            {"1x1": [(64, 1)], "5x5": [(48, 1), (64, 5)], "3x3dbl": [(64, 1), (96, 3), (96, 3)]},
            "average",
            pooled,
        )

    def six(c: int) -> tuple[dict[str, Sequence[Step]], str, int]:
        once: list[Step] = [(c, 1), (c, wide), (192, tall)]
        twice: list[Step] = [(c, 1), (c, tall), (c, wide), (c, tall), (192, wide)]
        return {"1x1": [(192, 1)], "7x7": once, "7x7dbl": twice}, "average", 192

    def seven(pool: str) -> tuple[dict[str, Sequence[Step]], str, int]:
        once: list[Step] = [(384, 1), (384, (1, 3), (3, 1))]
        twice: list[Step] = [(448, 1), (384, 3), (384, (1, 3), (3, 1))]
        return {"1x1": [(320, 1)], "3x3": once, "3x3dbl": twice}, pool, 192

    first: dict[str, Sequence[Step]] = {"3x3": [(384, 3)], "3x3dbl": [(64, 1), (96, 3), (96, 3)]}
    second: dict[str, Sequence[Step]] = {
        "3x3": [(192, 1), (320, 3)],
        "7x7x3": [(192, 1), (192, wide), (192, tall), (192, 3)],
    }
    return [
        ("Mixed_5b", *five(32)),
        ("Mixed_5c", *five(64)),
        ("Mixed_5d", *five(64)),
        ("Mixed_6a", first, "halve", 0),
        ("Mixed_6b", *six(128)),
        ("Mixed_6c", *six(160)),
        ("Mixed_6d", *six(160)),
        ("Mixed_6e", *six(192)),
        ("Mixed_7a", second, "halve", 0),
        ("Mixed_7b", *seven("average")),
        ("Mixed_7c", *seven("maximum")),
    ]
