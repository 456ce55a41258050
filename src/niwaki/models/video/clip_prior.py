"""A causal prior of the codes of clips: frame by frame, row by row."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from niwaki.models.vae.code_prior import CodePrior

__all__ = ["ClipPrior"]


class _Places(nn.Module):
    """A place in a clip as the sum of a vector for its frame and one for where it lies in the frame: what is
    learned of motion at one time holds at all.

    Numbers of places `(t,)` → `(t, width)`.
    """

    def __init__(self, frames: int, each: int, width: int) -> None:
        super().__init__()
        self.each = each
        self.frame, self.within = nn.Embedding(frames, width), nn.Embedding(each, width)

    def forward(self, at: Tensor) -> Tensor:
        frame = at // self.each
        found: Tensor = self.frame(frame) + self.within(at - frame * self.each)
        return found


class ClipPrior(CodePrior):
    """`CodePrior` over `frames` times `each` codes.

    each: codes of a frame
    """

    def __init__(self, codes: int, frames: int, each: int, classes: int, **settings: Any) -> None:
        self._frames, self._each = frames, each  # asked for while it is made
        super().__init__(codes, frames * each, classes, **settings)

    def make_places(self, width: int) -> nn.Module:
        return _Places(self._frames, self._each, width)
