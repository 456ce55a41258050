"""The model with one part alone cut, rounded or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from niwaki.compression.pruning.channels import pruned
from niwaki.compression.quantization.ranges import Items
from niwaki.compression.sensitivity.config import SensitivityConfig
from niwaki.compression.sensitivity.trials import trials
from niwaki.core.contract import GenerativeModel
from niwaki.data.inputs import split_inputs
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.weights import BITS, RATIOS

__all__ = ["PartTrial", "cut_and_solved", "part_trials"]


@dataclass(frozen=True)
class PartTrial:
    """make: the model with this one change"""

    technique: str
    layer: str
    strength: float
    make: Callable[[], GenerativeModel]

    @property
    def key(self) -> tuple[str, str, float]:
        return (self.technique, self.layer, self.strength)


def part_trials(search: Search, base: GenerativeModel, inputs: Callable[[], Items]) -> list[PartTrial]:
    """Half of every coupling, every block left out, 4 bits of every layer and 8 of what it is given, then the
    other shares.

    base:   the model as it is sampled in them
    inputs: on which layers are solved again; asked for once a cut is made
    """
    units = search.units
    config = SensitivityConfig(ratios=(), bits=(BITS,), activations=search.template.inputs)
    asked = split_inputs(base, search.run.dataset.train)
    rounded = trials(base, config, seed=search.run.seed, condition=asked) if units.layers else []
    cuts = [
        PartTrial("prune", name, r, partial(cut_and_solved, search, base, {name: r}, inputs))
        for r in RATIOS
        for name in units.couplings
    ]
    bits = [
        PartTrial(t.technique, t.layer, float(t.strength), t.make) for t in rounded if t.layer in units.layers
    ]
    drops = [PartTrial("drop", name, 1.0, partial(_left_out, search, base, name)) for name in units.blocks]
    many = len(units.couplings)
    return [*cuts[:many], *drops, *bits, *cuts[many:]]


def cut_and_solved(
    search: Search, model: GenerativeModel, ratios: Mapping[str, float], inputs: Callable[[], Items]
) -> GenerativeModel:
    """Couplings cut, as a plan cuts them: what used their channels is solved again where that can be done."""
    units = search.units
    config = search.template.prune.model_copy(
        update={"ratios": {**dict.fromkeys(units.couplings, 0.0), **ratios}, "exclude": units.frozen}
    )
    given = inputs() if config.refit else None
    return pruned(model, config, seed=search.run.seed, inputs=given).model


def _left_out(search: Search, model: GenerativeModel, name: str) -> GenerativeModel:
    """One block left out, sampled as the model is."""
    made = search.units.cut({}, (name,))
    made.config = model.config
    return made
