"""Convolutions and pooling against torch, over what ONNX lets them be."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from niwaki_runtime.codec.windows import convolve, convolve_transposed, pool_average

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(1, 1, 0, 1), (3, 1, 1, 1), (4, 2, 1, 1), (3, 2, 2, 2), (5, 3, 0, 1)],
)
def test_convolutions(
    spatial: int, group: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    x = RNG.normal(size=(3, 4, *[9] * spatial))
    w, b = RNG.normal(size=(6, 4 // group, *[kernel] * spatial)), RNG.normal(size=6)
    of_torch = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    want = of_torch(
        *map(torch.from_numpy, (x, w, b)), stride=stride, padding=padding, dilation=dilation, groups=group
    )
    got = convolve(
        x,
        w,
        b,
        pads=[padding] * 2 * spatial,
        strides=[stride] * spatial,
        dilations=[dilation] * spatial,
        group=group,
    )
    assert np.abs(got - want.numpy()).max() < 1e-12


@pytest.mark.parametrize("spatial", [1, 2])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "extra"),
    [(1, 1, 0, 1, 0), (2, 2, 0, 1, 0), (4, 2, 1, 1, 0), (3, 2, 1, 2, 1)],
)
def test_transposed_convolutions(
    spatial: int, group: int, kernel: int, stride: int, padding: int, dilation: int, extra: int
) -> None:
    x = RNG.normal(size=(3, 4, *[5] * spatial))
    w, b = RNG.normal(size=(4, 6 // group, *[kernel] * spatial)), RNG.normal(size=6)
    of_torch = (F.conv_transpose1d, F.conv_transpose2d)[spatial - 1]
    want = of_torch(
        *map(torch.from_numpy, (x, w, b)),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=group,
        output_padding=extra,
    )
    got = convolve_transposed(
        x, w, b, pads=[padding] * 2 * spatial, strides=[stride] * spatial, dilations=[dilation] * spatial,
        output_padding=[extra] * spatial, group=group,
    )  # fmt: skip
    assert np.abs(got - want.numpy()).max() < 1e-12


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (2, 3)])
def test_means_of_windows(kernel: int, stride: int) -> None:
    x = RNG.normal(size=(2, 3, 8, 8))
    want = F.avg_pool2d(torch.from_numpy(x), kernel, stride)
    assert np.abs(pool_average(x, [kernel] * 2, [stride] * 2) - want.numpy()).max() < 1e-13
