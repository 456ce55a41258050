"""Layer by layer: how many weights there are, how many are zero, in which pattern, and the widths that are
left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from niwaki.compression.pruning.slots import ran, slots_of
from niwaki.core.contract import GenerativeModel
from niwaki.surgery.drop import Drop
from niwaki.surgery.sparse import patterns

__all__ = ["LayerSparsity", "sparsity", "table"]


@dataclass(frozen=True)
class LayerSparsity:
    """One tensor of weights.

    layer:   its name; of a dropped block the block's
    shape:   now; () for a dropped block
    total:   weights now
    zero:    of them
    before:  weights before compression; 0 where that is not known
    pattern: `n:m`, `any` for single weights anywhere, `dropped`, or "" where nothing was pruned weight by
             weight
    """

    layer: str
    shape: tuple[int, ...]
    total: int
    zero: int
    before: int = 0
    pattern: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> LayerSparsity:
        return cls(**{**record, "shape": tuple(record["shape"])})


def sparsity(model: GenerativeModel, original: GenerativeModel | None = None) -> tuple[LayerSparsity, ...]:
    """The table of what sampling runs, in the order in which it runs.

    original: the uncompressed model; its layers that are not there any more are listed as dropped
    """
    here, was = _weights(model), _weights(original) if original is not None else {}
    known = patterns(model)
    rows = [
        LayerSparsity(
            layer=name,
            shape=tuple(w.shape),
            total=w.numel(),
            zero=int((w == 0).sum()),
            before=was[name].numel() if name in was else 0,
            pattern=(known[name] or "any") if name in known else "",
        )
        for name, w in here.items()
    ]
    for edit in model.surgery:
        if isinstance(edit, Drop):
            lost = sum(w.numel() for n, w in was.items() if n.startswith(edit.module + ".") and n not in here)
            rows.append(LayerSparsity(edit.module, (), 0, 0, lost, "dropped"))
    return tuple(rows)


def table(rows: Sequence[LayerSparsity | Mapping[str, Any]]) -> str:
    """The rows as text with aligned columns, and their sum."""
    given = [r if isinstance(r, LayerSparsity) else LayerSparsity.from_json(dict(r)) for r in rows]
    head = ("layer", "shape", "weights", "before", "zero", "pattern")
    total, zero, before = (sum(getattr(r, n) for r in given) for n in ("total", "zero", "before"))
    lines = [
        (
            r.layer,
            "×".join(map(str, r.shape)),
            f"{r.total:,}",
            f"{r.before:,}",
            _share(r.zero, r.total),
            r.pattern,
        )
        for r in given
    ]
    cells = [head, *lines, ("sum", "", f"{total:,}", f"{before:,}", _share(zero, total), "")]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i in (0, 1, 5) else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _share(zero: int, total: int) -> str:
    return f"{100 * zero / total:.1f} %" if total else "–"


def _weights(model: GenerativeModel) -> dict[str, Any]:
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(s.weight)]: s.weight for m in ran(model) for s in slots_of(m) if id(s.weight) in names}
