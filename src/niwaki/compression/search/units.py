"""What of a model can be chosen: which couplings can lose channels, which layers can be rounded."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property

from torch import Tensor, nn

from niwaki.compression.arithmetic import LayerCost, layer_costs, passes
from niwaki.compression.forward import check, shapes
from niwaki.compression.live_memory import LiveMemory, live_memory
from niwaki.compression.pruning.blocks import droppable
from niwaki.compression.pruning.choice import chosen_couplings
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, cuts_of
from niwaki.compression.pruning.frozen import frozen_parts
from niwaki.compression.pruning.importance.channels import importance_of
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.compression.pruning.plainly import make_plain
from niwaki.compression.pruning.shares import Removed, Shares, makers
from niwaki.compression.search.choices import FLOAT, Choices, Template
from niwaki.compression.search.evaluations import learnt, sampled
from niwaki.compression.search.profile import Profile, profile_of
from niwaki.compression.sensitivity.trials import layers_in_order
from niwaki.core.contract import GenerativeModel
from niwaki.surgery.drop import Drop
from niwaki.surgery.edits import apply_edits
from niwaki.surgery.quantized import quantized_layers
from niwaki.training.stages import under

__all__ = ["Units"]

_WORTH = 0.01
"""Share of the model's weights that a block holds at least for leaving it out to be tried."""
_SMALL = 4096
"""Values below which a table of embeddings stays as it is (`niwaki.compression.quantization.convert`)."""


class Units:
    """The couplings and layers of a model that a plan can change, and what a choice makes of it.

    couplings: by name of the first layer that makes its channels, how many there are
    layers:    those that can be rounded, in order of their first call
    blocks:    those that can be left out, and hold a part of the model that is worth it
    frozen:    parts that no phase trains, or that the template leaves out: they stay as they are
    memory:    whether profiles say what is live, which takes longer than the arithmetic
    """

    def __init__(
        self, model: GenerativeModel, template: Template, *, seed: int = 0, memory: bool = False
    ) -> None:
        self.model, self.template, self.seed, self._memory = model, template, seed, memory
        plain = copy.deepcopy(model).cpu().eval()
        make_plain(plain)
        self._plain = plain
        prune = template.prune
        self.frozen = (*prune.exclude, *frozen_parts(plain))
        self._prune = prune.model_copy(update={"exclude": self.frozen, "ratios": {}})
        self.layers = tuple(_roundable(model))
        order = {name: i for i, name in enumerate(layers_in_order(plain))}
        free: list[Coupling] = []
        if not quantized_layers(model):
            free, _ = chosen_couplings(plain, self._prune, seed)
        self._free: dict[str, Coupling] = {}
        for coupling in free:
            layers = sorted(makers(coupling), key=lambda m: order.get(m, len(order)))
            if layers and layers[0] in order:
                self._free[layers[0]] = coupling
        self.couplings = {name: coupling.units for name, coupling in self._free.items()}
        self._drops = (
            {} if quantized_layers(model) else self._worth(droppable(plain, self.frozen, layers=2)[0])
        )
        self.blocks = tuple(self._drops)
        self._expected = shapes(plain)
        self._known_passes: dict[tuple[int, str | None], int] = {}
        self._known_costs: dict[tuple[object, ...], tuple[dict[str, LayerCost], float]] = {}

    @cached_property
    def costs(self) -> dict[str, LayerCost]:
        """Of the model as it is."""
        return layer_costs(self._plain)

    @cached_property
    def live(self) -> LiveMemory:
        """Of the model as it is."""
        return live_memory(self._plain)

    @cached_property
    def passes(self) -> int:
        return passes(self._plain)

    @cached_property
    def scores(self) -> dict[str, Tensor]:
        """Of the channels of each coupling, by the template's importance: the highest stay."""
        found = list(self._free.values())
        evidence = Evidence(None, seed=self.seed)
        scores = importance_of(self._prune.importance)(self._plain, found, evidence)
        return dict(zip(self._free, scores, strict=True))

    def removed(self, ratios: Mapping[str, float]) -> list[Removed]:
        """Which channels go."""
        wanted = {name: ratio for name, ratio in ratios.items() if ratio > 0}
        if not wanted:
            return []
        config = self._prune.model_copy(update={"ratios": {n: ratios.get(n, 0.0) for n in self._free}})
        shares = Shares(config, {c.key: c.units for c in self._free.values()})
        found = list(self._free.values())
        return shares.removed(found, [self.scores[n] for n in self._free], config.ratio)

    def _worth(self, drops: Mapping[str, Drop]) -> dict[str, Drop]:
        """Blocks of several layers, with some share of the model's weights."""
        whole = sum(cost.weights for cost in self.costs.values())
        held = {n: [c.weights for layer, c in self.costs.items() if under(layer, (n,))] for n in drops}
        return {n: drop for n, drop in drops.items() if len(held[n]) > 1 and sum(held[n]) >= _WORTH * whole}

    def cut(self, ratios: Mapping[str, float], dropped: Sequence[str] = ()) -> GenerativeModel:
        """A copy without those channels and blocks, not recovered."""
        made = copy.deepcopy(self._plain)
        removed = self.removed(ratios)
        if removed:
            cuts = cuts_of(made, removed)
            apply_edits(made, cuts)
            made.surgery = (*made.surgery, *cuts)
        for name in dropped:
            self._drops[name].apply(made)
            made.surgery = (*made.surgery, self._drops[name])
        if removed or dropped:
            check(made, self._expected)
        return made

    def profile(self, choices: Choices) -> Profile:
        """What latency and bytes of a candidate depend on."""
        costs, live = self.costs, float(self.live.peak) if self._memory else 0.0
        if choices.cuts or choices.dropped:
            # Bits and the number of evaluations change nothing of the shapes, and cutting takes long.
            key = (choices.without(bits={}, evaluations=0, solver=None).key, choices.dropped)
            if key not in self._known_costs:
                cut = self.cut(choices.left(choices.ratios), choices.dropped)
                live = float(live_memory(cut).peak) if self._memory else 0.0
                self._known_costs[key] = layer_costs(cut), live
            costs, live = self._known_costs[key]
        return profile_of(costs, choices, passes=self._passes(choices), live=live)

    def _passes(self, choices: Choices) -> int:
        """Of the network for one sample, sampled so."""
        evaluations, solver = choices.evaluations, choices.solver
        if not (evaluations or solver):
            return self.passes
        key = (evaluations, "learnt" if choices.distilled else solver)
        if key not in self._known_passes:
            made = learnt(self._plain, evaluations) if choices.distilled else None
            self._known_passes[key] = passes(made or sampled(self._plain, evaluations, solver))
        return self._known_passes[key]

    def nested(self, damage: Mapping[str, float]) -> list[tuple[str, ...]]:
        """Sets of blocks to leave out: the one of least damage, the two, four … of least, up to half of them,
        none inside another."""
        order: list[str] = []
        for name in sorted(self.blocks, key=lambda n: damage[n]):
            if not any(under(name, (n,)) or under(n, (name,)) for n in order):
                order.append(name)
        sizes, most = [1], max(1, len(order) // 2)
        while 2 * sizes[-1] <= most:
            sizes.append(2 * sizes[-1])
        if sizes[-1] < most:
            sizes.append(most)
        return [tuple(order[:k]) for k in sizes if order]

    def uniform(self, ratio: float, bits: int, **others: object) -> Choices:
        """The same for all."""
        return Choices(
            dict.fromkeys(self.couplings, ratio),
            {name: bits for name in self.layers if bits < FLOAT},
            self.template.inputs,
            **others,  # type: ignore[arg-type]
        )


def _roundable(model: GenerativeModel) -> list[str]:
    if quantized_layers(model):
        return []
    found = []
    for name in layers_in_order(model):
        layer = model.get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if weight.numel() >= (_SMALL if isinstance(layer, nn.Embedding) else 1):
            found.append(name)
    return found
