"""Clips of handwritten digits that move with constant velocity and bounce off the borders.

After moving MNIST (Srivastava, Mansimov & Salakhutdinov, "Unsupervised learning of video representations
using LSTMs", ICML 2015, Section 4), of scikit-learn's digits. A digit belongs to one split, and so do all
clips that it is part of. Where each digit is at every frame is known, so that a model's motion can be held
to it.
"""

from __future__ import annotations

from pydantic import Field

from niwaki.data.config import DataConfig, Pool, Progress, register
from niwaki.data.reading.moving import MovingOptions, moving_pool
from niwaki.data.sources.digits import digits_by_split

__all__ = ["MovingDigitsOptions", "moving_digits"]


class MovingDigitsOptions(MovingOptions):
    """Settings of `moving-digits`: those of `MovingOptions`, and

    digits: in a clip; where two overlap, the brighter one is seen
    """

    digits: int = Field(default=1, ge=1, le=2)


@register("moving-digits", MovingDigitsOptions)
def moving_digits(config: DataConfig, options: MovingDigitsOptions, progress: Progress | None) -> Pool:
    """Clips `(samples, frames − past, 1, size, size)` with levels 0 … 16; `class` is the digit, or the two in
    rising order. Columns: `past` `(past, 1, size, size)`, where asked for; `position` `(2·digits, frames −
    past)`, upper left corners in pixels (to the right and down, digit by digit); `velocity` `(2·digits,)` at
    the sample's first frame, in pixels per frame.

    Raises CallError where `past` leaves no frame, and for shares too small for every digit.
    """
    single, members = digits_by_split(config, progress)
    return moving_pool(
        single, members, config, options,
        name="moving-digits", things=options.digits, stream=0x307E, progress=progress,
    )  # fmt: skip
