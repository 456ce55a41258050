"""Which channels can only be cut together: the dependency graph over all graphs of a model at once.

torch-pruning's DepGraph (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) finds the
coupled layers by tracing autograd. It guesses where tensors are reshaped, concatenated or split, so nothing
that it says is believed before `niwaki.compression.pruning.trial` has tried it.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from niwaki.compression.pruning.tracing import Traced, bare_parameters, dependency_graph, own_layers
from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.nn.surgery import Cut, find, width

__all__ = ["Coupling", "Member", "couplings", "cuts_of"]

_FAILURES = (RuntimeError, ValueError, AssertionError, AttributeError, IndexError, TypeError, KeyError)


@dataclass(frozen=True)
class Member:
    """One side of one layer in a coupling: unit u owns the positions `positions[u]` of it."""

    module: str
    side: str
    positions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Coupling:
    """Layers whose channels stand and fall together.

    units:   how many channels can be chosen between
    blocks:  equal stretches of units that must each keep the same number (grouped convolutions, group norms)
    protected: why it must keep its width; empty where it may be cut
    """

    units: int
    members: tuple[Member, ...]
    blocks: int = 1
    protected: str = ""

    @property
    def key(self) -> str:
        """Names the coupling across rounds of pruning: widths change, the layers in it do not."""
        first = min(self.members, key=lambda m: (m.side != "out", m.module))
        return f"{first.module}:{first.side}"

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m.module for m in self.members))


def couplings(model: GenerativeModel) -> list[Coupling]:
    """All couplings of the layers that sampling uses; those that must keep their width with the reason.

    Raises NiwakiError where the model cannot be traced.
    """
    import torch_pruning as tp

    traced = Traced(copy.deepcopy(model).eval())
    for parameter in traced.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    graph = dependency_graph(tp)
    bare = list(bare_parameters(traced.model))
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph.build_dependency(
                traced,
                example_inputs=torch.zeros(1),
                forward_fn=lambda m, x: m(x),
                unwrapped_parameters=[(p, axis) for _, p, axis in bare],
                customized_pruners=own_layers(traced.model),
                verbose=False,
            )
            return list(_Reader(tp, graph, traced, {id(p): (n, a) for n, p, a in bare}).read())
    except _FAILURES as error:
        raise NiwakiError(
            f"the model cannot be traced for pruning: {type(error).__name__}: {error}"
        ) from error


class _Reader:
    """Turns torch-pruning's groups into couplings of names and positions."""

    def __init__(self, tp: Any, graph: Any, traced: Traced, bare: dict[int, tuple[str, int]]) -> None:
        self.tp, self.graph, self.bare = tp, graph, bare
        self.modules = dict(traced.model.named_modules())
        self.names = {m: n for n, m in self.modules.items()}
        self.gates = set(traced.gates.values())
        self.shared = _shared(traced.model)

    def read(self) -> Iterator[Coupling]:
        done: set[tuple[str, str]] = set()
        for module in list(self.graph.module2node):
            if not isinstance(module, nn.Module) or module not in self.names:
                continue
            pruner = self.graph.get_pruner_of_module(module)
            if pruner is None or not self._has_weights(module) or (self.names[module], "out") in done:
                continue
            count = self.graph.get_out_channels(module)
            if not count:
                continue
            try:
                group = self.graph.get_pruning_group(module, pruner.prune_out_channels, list(range(count)))
                coupling = self._coupling(self._rooted_at_narrowest(group, count))
            except _FAILURES:
                alone = Member(self.names[module], "out", tuple((u,) for u in range(count)))
                reason = "what its channels are coupled to cannot be followed"
                coupling = Coupling(count, (alone,), protected=reason)
            done |= {(m.module, m.side) for m in coupling.members}
            yield coupling

    def _has_weights(self, module: nn.Module) -> bool:
        """Layers that make channels; norms only pass them on."""
        own = callable(getattr(module, "resize", None))
        return own or isinstance(module, nn.modules.conv._ConvNd | nn.Linear | nn.Embedding)

    def _rooted_at_narrowest(self, group: Any, count: int) -> Any:
        """The same group seen from its narrowest layer, whose channels are the units to choose between."""
        best, least = None, count
        for i in range(len(group)):
            distinct = len(set(group[i].idxs))
            if group[i].dep.target.module in self.names and 0 < distinct < least:
                best, least = group[i], distinct
        if best is None:
            return group
        return self.graph.get_pruning_group(best.dep.target.module, best.dep.handler, sorted(set(best.idxs)))

    def _coupling(self, group: Any) -> Coupling:
        roots = sorted(set(group[0].idxs))
        unit = {position: u for u, position in enumerate(roots)}
        members: list[Member] = []
        protected = "" if len(roots) > 1 else "it has one channel"
        for i in range(len(group)):
            item = group[i]
            module, kind = item.dep.target.module, item.dep.target.type
            if module in self.gates:
                protected = protected or "it meets an input of a graph"
                continue
            if kind == self.tp.ops.OPTYPE.OUTPUT:
                protected = protected or "it makes an output of a graph"
                continue
            name, side = self._name(module, item.dep.handler)
            if not name:
                continue  # an operation without weights
            positions: list[list[int]] = [[] for _ in roots]
            for position, root in zip(item.idxs, item.root_idxs, strict=True):
                positions[unit[root]].append(int(position))
            members.append(Member(name, side, tuple(tuple(sorted(p)) for p in positions)))
            protected = protected or self._reason(module, name, side)
        return Coupling(len(roots), tuple(members), self._blocks(members, len(roots)), protected)

    def _name(self, module: Any, handler: Any) -> tuple[str, str]:
        if isinstance(module, nn.Parameter):
            name, axis = self.bare.get(id(module), ("", 0))
            return name, str(axis)
        name = self.names.get(module, "")
        return name, "out" if self.graph.is_out_channel_pruning_fn(handler) else "in"

    def _reason(self, module: Any, name: str, side: str) -> str:
        parameters = [module] if isinstance(module, nn.Parameter) else list(module.parameters(recurse=False))
        if any(id(p) in self.shared for p in parameters):
            return f"'{name}' shares its weights with another module"
        try:
            width(module, side)
        except NiwakiError as error:
            return str(error)
        return ""

    def _blocks(self, members: list[Member], units: int) -> int:
        """Stretches that must keep as many channels each: groups of convolutions, heads of attention (the
        `heads` of the module around), and groups of norms where they are wide."""
        blocks = 1
        for member in members:
            module = self.modules.get(member.module)
            if any(p != (u,) for u, p in enumerate(member.positions)):
                continue
            around = self.modules.get(member.module.rpartition(".")[0])
            heads = getattr(around, "heads", getattr(around, "num_heads", None))
            if isinstance(heads, int) and self._inside(members, member.module):
                blocks = math.lcm(blocks, heads)
            if isinstance(module, nn.modules.conv._ConvNd):
                if not module.groups == module.in_channels == module.out_channels:
                    blocks = math.lcm(blocks, module.groups)
            elif isinstance(module, nn.GroupNorm) and units // module.num_groups >= 4:
                blocks = math.lcm(blocks, module.num_groups)
        return blocks if units % blocks == 0 else 1

    def _inside(self, members: list[Member], name: str) -> bool:
        """Whether the coupling lies within one module: widths of heads, not the stream attention adds to."""
        around = name.rpartition(".")[0]
        return all(m.module.rpartition(".")[0] == around for m in members)


def _shared(model: nn.Module) -> set[int]:
    seen: dict[int, int] = {}
    for module in model.modules():
        for p in module._parameters.values():
            if p is not None:
                seen[id(p)] = seen.get(id(p), 0) + 1
    return {k for k, count in seen.items() if count > 1}


def cuts_of(model: nn.Module, removed: list[tuple[Coupling, tuple[int, ...]]]) -> tuple[Cut, ...]:
    """One cut per layer and side that takes the `removed` units of all couplings away at once."""
    gone: dict[tuple[str, str], set[int]] = {}
    for coupling, units in removed:
        for member in coupling.members:
            lost = gone.setdefault((member.module, member.side), set())
            for u in units:
                lost.update(member.positions[u])
    cuts = []
    for (module, side), lost in gone.items():
        if lost:
            total = width(find(model, module), side)
            cuts.append(Cut(module, side, tuple(i for i in range(total) if i not in lost)))
    return tuple(cuts)
