"""CycleGAN (Zhu, Park, Isola & Efros 2017): translators between two domains without pairs."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import (
    Batch,
    CallError,
    ConditionSpec,
    Context,
    DataSpec,
    GenerativeModel,
    Graph,
    Phase,
    Port,
    Program,
    nearest,
)
from niwaki.models.gan.losses import least_squares
from niwaki.models.gan.pool import ImagePool
from niwaki.models.gan.translators import PatchCritic, Translator
from niwaki.models.registry import ModelConfig, register
from niwaki.nn.layers.images import image_shape
from niwaki_runtime.samplers import OneShot, Sampler

__all__ = ["CycleGan", "CycleGanConfig"]


class CycleGanConfig(ModelConfig):
    """
    width:        channels of the translators at full size; doubled at the halving
    blocks:       residual blocks of a translator, at half size
    critic_width: channels of the critics after their first halving
    cycle:        weight of the cycle error |G_ba(G_ab(x)) − x|
    identity:     weight of |G_ab(x_b) − x_b|: what is of the target domain already stays as it is. Without it
                  nothing keeps a translator from inverting all colours
    pool:         images of either translator that are kept for its critic, who sees some of them instead of
                  the newest ones (`ImagePool`; the paper's 50); 0 for none
    second:       the column of the second domain
    """

    width: int = Field(16, ge=1)
    blocks: int = Field(4, ge=0)
    critic_width: int = Field(32, ge=1)
    cycle: float = Field(10.0, ge=0)
    identity: float = Field(5.0, ge=0)
    pool: int = Field(0, ge=0)
    second: str = "x_b"


_IMAGE = DataSpec.of("image", (1, 16, 16)).x


@register("cyclegan")
class CycleGan(GenerativeModel):
    """A translator from the domain `x` to another one and one back, each trained against a critic.

    config: CycleGanConfig
    spec:   images `(C, H, W)` in both domains, height and width even; classes are never looked at
    """

    Config = CycleGanConfig
    example_spec: ClassVar[DataSpec] = DataSpec({"x": _IMAGE, "x_b": _IMAGE}, ("x_b",))
    config: CycleGanConfig

    def __init__(self, config: CycleGanConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        shape, second = image_shape(spec, self.name), config.second
        if second not in spec:
            hint = nearest(second, [name for name in spec if name != "x"])
            raise CallError(
                f"'{self.name}' needs a second domain, and the data have no column '{second}'; {hint}"
            )
        other = spec[second]
        if (other.shape, other.low, other.high) != (spec.shape, spec.low, spec.high):
            raise CallError(f"the columns 'x' and '{second}' must hold images of one shape and range")
        self.conditions = {"x": ConditionSpec(spec.x)}
        settings: dict[str, Any] = {
            "width": config.width,
            "blocks": config.blocks,
            "low": spec.low,
            "high": spec.high,
        }
        self.ab, self.ba = Translator(shape, **settings), Translator(shape, **settings)
        self.critic_a, self.critic_b = (PatchCritic(shape[0], config.critic_width) for _ in range(2))
        pools = [ImagePool(config.pool, shape) for _ in range(2)] if config.pool else []
        self.pools = nn.ModuleDict(dict(zip("ab", pools, strict=False)))

    def phases(self) -> tuple[Phase, ...]:
        return (
            Phase("translate", ("ab", "ba"), validate=False),
            Phase("criticise", ("critic_a", "critic_b"), fresh_batch=False, validate=False),
        )

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"translate": self._translate, "criticise": self._criticise}[phase](batch, ctx)

    def _translate(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Equation 3 of the paper, with least squares (Section 4), and the identity loss (Section 5.2)."""
        a, b = batch.x, batch[self.config.second]
        fake_b, fake_a = self.ab(a), self.ba(b)
        ctx.shared.update(fake_a=fake_a.detach(), fake_b=fake_b.detach())
        cycle = (self.ba(fake_b) - a).abs().mean() + (self.ab(fake_a) - b).abs().mean()
        terms = {
            "adversarial_ab": least_squares(self.critic_b(fake_b).float(), 1.0),
            "adversarial_ba": least_squares(self.critic_a(fake_a).float(), 1.0),
            "cycle": self.config.cycle * cycle.float(),
        }
        if self.config.identity:
            same = (self.ab(b) - b).abs().mean() + (self.ba(a) - a).abs().mean()
            terms["identity"] = self.config.identity * same.float()
        return terms

    def _criticise(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        a, b = batch.x, batch[self.config.second]
        fake_a, fake_b = ctx.shared.pop("fake_a", None), ctx.shared.pop("fake_b", None)
        if fake_a is None or fake_b is None:
            fake_a, fake_b = self.ba(b).detach(), self.ab(a).detach()
        terms = {}
        for side, critic, real, fake in (("a", self.critic_a, a, fake_a), ("b", self.critic_b, b, fake_b)):
            if side in self.pools:
                fake = self.pools[side].exchange(fake, ctx.rng)  # type: ignore[operator]
            terms[f"real_{side}"] = 0.5 * least_squares(critic(real).float(), 1.0)
            terms[f"fake_{side}"] = 0.5 * least_squares(critic(fake.to(real.dtype)).float(), 0.0)
        return terms

    def graphs(self) -> dict[str, Graph]:
        ports = {name: (Port(name, (1, *self.spec.shape)),) for name in ("x", self.config.second)}
        return {
            "ab": Graph("translator", self.ab, ports["x"]),
            "ba": Graph("translator", self.ba, ports[self.config.second]),
        }

    def sampler(self) -> Sampler:
        return OneShot(graph="ab", conditions=("x",)).override(**self.config.sampling)

    def programs(self) -> dict[str, Program]:
        """`sample` is `translate_ab`, from `x` to the second domain; `translate_ba` leads back."""
        second = self.config.second
        there = Program(self.sampler(), self.conditions, self.spec[second])
        back = Program(
            OneShot(graph="ba", conditions=(second,)), {second: ConditionSpec(self.spec[second])}, self.spec.x
        )
        return {"sample": there, "translate_ab": there, "translate_ba": back}
