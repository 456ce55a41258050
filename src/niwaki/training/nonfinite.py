"""Where a NaN came from: the steps since the last good checkpoint are run again, looking at every value.

Training itself pays nothing for this. That something went wrong is seen in the running sums, which a value
that is not finite never leaves; and because every step follows from its counters alone, the replay meets
the same value again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch
from niwaki_runtime.errors import NiwakiError

__all__ = ["NotFinite", "Searcher", "all_finite"]


class NotFinite(NiwakiError):
    """A value was NaN or infinite, and the training stopped.

    where:       the module, loss term, gradient or weight, in words
    phase, step: when; the first step is 1
    """

    def __init__(self, where: str, phase: str, finished: int, advice: str = "") -> None:
        self.where, self.phase, self.finished, self.step = where, phase, finished, finished + 1
        super().__init__(f"NaN or infinity in {where}, phase '{phase}', step {self.step}{advice}")

    def advise(self, advice: str) -> NotFinite:
        """The same with a word on what is kept and what may help."""
        return NotFinite(self.where, self.phase, self.finished, advice)


def all_finite(tensors: list[Tensor]) -> bool:
    """One reduction per tensor and one transfer for all. (The largest magnitude is NaN where any value
    is.)"""
    floats = [t.detach() for t in tensors if t.is_floating_point() and t.numel()]
    if not floats:
        return True
    return bool(torch.stack([n.float() for n in torch._foreach_norm(floats, float("inf"))]).isfinite().all())


class Searcher:
    """A `Watch` that raises NotFinite at the first value that spoils the training.

    A module whose output is not finite is blamed only if the loss is not finite either: an attention mask
    of −∞ is no fault.
    """

    def __init__(self, model: nn.Module, *, compiled: bool = False) -> None:
        self.model, self.compiled = model, compiled
        self._first = ""

    @contextmanager
    def forward(self, phase: str, step: int) -> Iterator[None]:
        """Hooks on every module; inner ones fire first, so the first name is that of the innermost."""
        self._first = ""

        def hook(name: str) -> Any:
            def look(module: nn.Module, inputs: Any, output: Any) -> None:
                if not self._first and not all_finite(_tensors(output)):
                    self._first = f"the output of the module '{name}' ({type(module).__name__})"

            return look

        handles = [m.register_forward_hook(hook(n)) for n, m in self.model.named_modules() if n]
        try:
            # compiled modules would not call the hooks inside them
            with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def batch(self, batch: Batch, phase: str, step: int, what: str = "the data") -> None:
        tensors: list[Tensor] = []
        batch.map(lambda t: tensors.append(t) or t)  # type: ignore[func-returns-value]
        if not all_finite(tensors):
            raise NotFinite(what, phase, step)

    def terms(self, terms: dict[str, Tensor], phase: str, step: int, origins: Mapping[str, str]) -> None:
        for name, term in terms.items():
            if not all_finite([term]):
                of = f" of {origins[name]}" if name in origins else ""
                raise NotFinite(
                    self._first or f"the loss term '{name}'{of} (and no module before it)", phase, step
                )

    def gradients(self, parameters: dict[str, nn.Parameter], phase: str, step: int) -> None:
        # A gradient flows from the last module to the first: the last one that is not finite is nearest the
        # origin.
        for name, parameter in reversed(parameters.items()):
            if parameter.grad is not None and not all_finite([parameter.grad]):
                raise NotFinite(f"the gradient of '{name}' (but not the loss)", phase, step)

    def weights(self, parameters: dict[str, nn.Parameter], phase: str, step: int) -> None:
        for name, parameter in parameters.items():
            if not all_finite([parameter]):
                raise NotFinite(f"the weight '{name}' after its update (but not its gradient)", phase, step)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _tensors(v)]
    if isinstance(value, list | tuple):
        return [t for v in value for t in _tensors(v)]
    return []
