"""What a codec asks of a VAE: latents as standard normals, probabilities of every level of every value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from niwaki.core.contract import (
    ConditionSpec,
    GenerativeModel,
    Graph,
    Levels,
    Port,
    Program,
    View,
)
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import BitsBack

__all__ = ["Coding"]


class Coding(GenerativeModel):
    """A model with latents by which samples of stored levels can be coded. Others have no codec."""

    classes: int
    conditions: Mapping[str, ConditionSpec]

    @abstractmethod
    def coded_groups(self) -> tuple[int, ...]:
        """Lengths of the groups of latents, in the order in which they are drawn."""

    @abstractmethod
    def standard_posterior(self, u: Tensor, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log σ `(n, Σ)` of q(u | x) where the prior is standard normal: those of a group given the
        u of the groups before it."""

    @abstractmethod
    def level_weights(self, u: Tensor, y: Tensor | None = None) -> Tensor:
        """log P of every level of every value up to a constant `(n, C·H·W, levels)`."""

    def coding_graphs(self) -> dict[str, Graph]:
        """The networks of the codec; none where samples have no levels."""
        if not isinstance(self.spec.values, Levels):
            return {}
        asked = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        u, x = Port("u", (1, sum(self.coded_groups()))), Port("x", (1, *self.spec.shape))
        posterior = View(self, "standard_posterior")
        return {
            "posterior": Graph("encoder", posterior, (u, x, *asked), ("mean", "log_deviation")),
            "likelihood": Graph("decoder", View(self, "level_weights"), (u, *asked), ("weights",)),
        }

    def coding_programs(self) -> dict[str, Program]:
        """`codec` gives the bits that a sample takes at one draw of the latents."""
        if not isinstance(self.spec.values, Levels):
            return {}
        plan = BitsBack(
            groups=self.coded_groups(),
            low=self.spec.low,
            high=self.spec.high,
            conditions=("x", *self.conditions),
        )
        return {CODEC: Program(plan, {"x": ConditionSpec(self.spec.x), **self.conditions}, BITS)}
