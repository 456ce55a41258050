"""A convolution whose input channels every sample weighs by its own style."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.nn.layers.equalized import equalized

__all__ = ["ModulatedConv"]


class ModulatedConv(nn.Module):
    """x `(n, inputs, h, w)`, style w `(n, style)` → `(n, outputs, h, w)`, no bias.

    The kernel of a sample is w_oik = s_i W_oik, divided by √Σ_ik w² (Karras et al. 2020, "Analyzing and
    Improving the Image Quality of StyleGAN", Equations 1 to 3). It is linear in s and in the divisor, so that
    one ordinary convolution serves all samples, in every engine: the input is scaled, the output divided.

    demodulate: whether outputs are divided, which gives them variance gain² for independent inputs of
                variance 1, whatever the style
    gain:       what makes up for the activation that follows
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style: int,
        *,
        demodulate: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        # Where outputs are divided, the scale of W cancels; the gain stands behind the division.
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.conv = equalized(conv, 1.0 if demodulate else gain)
        self.style = equalized(nn.Linear(style, inputs), bias=1.0)
        self.demodulate, self.gain = demodulate, gain

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        s = self.style(w)
        y = self.conv(x * s[:, :, None, None].to(x.dtype))
        if not self.demodulate:
            return y
        # Σ_ik (s_i W_oik)² = Σ_i s_i² Σ_k W_oik²
        energy = s.square() @ self.conv.weight.square().sum((2, 3)).t()
        return y * (self.gain * torch.rsqrt(energy + 1e-8))[:, :, None, None].to(y.dtype)
