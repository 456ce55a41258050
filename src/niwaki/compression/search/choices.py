"""What a search chooses, and the plan that carries it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from niwaki.compression.config import (
    DistillConfig,
    FinetuneConfig,
    PackConfig,
    PruneConfig,
    QuantizeConfig,
    SamplingConfig,
    StepConfig,
)
from niwaki.training.stages import under

__all__ = ["FLOAT", "HALF", "Choices", "Template", "learning", "steps_of"]

T = TypeVar("T")

FLOAT = 32
"""Bits of weights that stay as they are."""
HALF = 16
"""Bits of weights that are stored as half-precision floats; products are of floats."""


@dataclass(frozen=True)
class Choices:
    """One candidate.

    ratios:      by coupling (named by the first layer that makes its channels), the share of channels cut; 0
                 where none
    bits:        by layer, of its weights; `FLOAT` leaves them
    inputs:      whether products are of integers; else weights alone are rounded
    evaluations: of the network for one sample; 0 keeps them
    solver:      with which; None keeps it
    distilled:   steps of each training that the few evaluations are learnt in, one after another: of halvings
                 (`progressive`) the last of which ends at `evaluations`, else of one training; empty where
                 they are only sampled
    packed:      whether weights are entropy-coded
    retrained:   steps of training with rounded weights
    dropped:     blocks that are left out, by name
    origin:      how it was found, in words
    """

    ratios: Mapping[str, float] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)
    inputs: bool = True
    evaluations: int = 0
    solver: str | None = None
    packed: bool = True
    retrained: int = 0
    dropped: tuple[str, ...] = ()
    origin: str = ""
    distilled: tuple[int, ...] = ()

    @property
    def cuts(self) -> bool:
        return any(ratio > 0 for ratio in self.left(self.ratios).values())

    @property
    def rounds(self) -> bool:
        return any(bits < FLOAT for bits in self.left(self.bits).values())

    def left(self, by_layer: Mapping[str, T]) -> dict[str, T]:
        """Without layers of the blocks that are left out."""
        return {name: value for name, value in by_layer.items() if not under(name, self.dropped)}

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal plans."""
        return (
            tuple(sorted((k, round(v, 4)) for k, v in self.left(self.ratios).items() if v > 0)),
            tuple(sorted((k, v) for k, v in self.left(self.bits).items() if v < FLOAT)),
            self.inputs, self.evaluations, self.solver, self.packed, self.retrained,
            *((("distilled", self.distilled),) if self.distilled else ()),
            *sorted(self.dropped),
        )  # fmt: skip

    def without(self, **changes: Any) -> Choices:
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ratios": dict(self.ratios), "bits": dict(self.bits)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Choices:
        bits = {str(k): int(v) for k, v in record["bits"].items()}
        values = {**record, "ratios": dict(record["ratios"]), "bits": bits}
        values["dropped"] = tuple(map(str, record.get("dropped", ())))
        values["distilled"] = tuple(map(int, record.get("distilled", ())))
        return cls(**values)


@dataclass(frozen=True)
class Template:
    """What all candidates have in common.

    prune, finetune, quantize: settings of those steps, but for what is chosen; `finetune` None where nothing
                               can be trained on
    matched:  whether a generator's temperature is matched at the end
    evaluations: how many network evaluations are tried instead of the model's own, from most to fewest
    inputs:   whether products are of integers, or weights alone are rounded
    solvers:  with which fewer evaluations may be sampled; empty where only the model's own can
    distill:  how fewer evaluations are learnt; None where they cannot be
    distilled: how many evaluations are learnt, from most to fewest
    """

    prune: PruneConfig
    finetune: FinetuneConfig | None
    quantize: QuantizeConfig
    matched: bool = False
    evaluations: tuple[int, ...] = ()
    inputs: bool = True
    solvers: tuple[str, ...] = ()
    distill: DistillConfig | None = None
    distilled: tuple[int, ...] = ()


def steps_of(choices: Choices, template: Template, trained: Sequence[int] = ()) -> tuple[StepConfig, ...]:
    """The plan of a candidate.

    trained: steps of each fine-tuning after the cut, one after another: a candidate that is worth more
             training goes on from where it was
    """
    steps: list[StepConfig] = []
    if choices.distilled and template.distill is not None:
        steps += learning(choices, template.distill)
    elif choices.evaluations or choices.solver:
        steps.append(SamplingConfig(evaluations=choices.evaluations, solver=choices.solver))
    if choices.dropped:
        blocks = tuple(sorted(choices.dropped))
        steps.append(PruneConfig(what="blocks", blocks=blocks, exclude=template.prune.exclude))
    if choices.cuts:
        ratios = {n: round(float(ratio), 4) for n, ratio in choices.left(choices.ratios).items()}
        steps.append(template.prune.model_copy(update={"ratios": ratios}))
    if template.finetune is not None:
        steps += [template.finetune.model_copy(update={"steps": n}) for n in trained if n > 0]
    if template.matched and len(steps) > 0:
        steps.append(SamplingConfig(temperature="match"))
    if choices.rounds:
        steps.append(_quantize(choices, template.quantize))
    if choices.packed:
        steps.append(PackConfig())
    return tuple(steps)


def learning(choices: Choices, distill: DistillConfig) -> list[DistillConfig]:
    """The steps that a candidate learns its few evaluations in. They come first, and those of a halving are
    the first ones of the next: what is learnt for 8 evaluations is where 4 go on from."""
    many = len(choices.distilled)
    return [
        distill.model_copy(update={"evaluations": choices.evaluations * 2 ** (many - 1 - k), "steps": n})
        for k, n in enumerate(choices.distilled)
    ]


def _quantize(choices: Choices, base: QuantizeConfig) -> QuantizeConfig:
    """The commonest number of bits for all, and what is different for some layers."""
    every = choices.left(choices.bits)
    common = Counter(b for b in every.values() if b < FLOAT).most_common(1)[0][0]
    layers: dict[str, Any] = {}
    for name, bits in every.items():
        if bits != common:
            layers[name] = "float" if bits >= FLOAT else {"bits": bits}
    values = base.model_dump(exclude_defaults=True)
    values |= {"kind": "quantize", "backend": "niwaki", "bits": common, "layers": layers}
    values["train"] = choices.retrained
    values["mode"] = "static" if choices.inputs else "weights"
    if common < 8 and base.method == "nearest":
        values["method"] = "adaptive"
    return QuantizeConfig.model_validate(values)
