"""What everything later relies on, tried once when a module is adapted, with a few example inputs."""

from __future__ import annotations

import copy
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from niwaki.core.contract import CallError, first_line
from niwaki.core.random_operators import draws_noise

__all__ = [
    "Draw",
    "Findings",
    "check_samples",
    "copied",
    "prepared",
    "random_state_kept",
    "same_rows",
    "try_twice",
]

_LARGE, _VALUES = 65, 1 << 20  # samples, values that a large batch may make
_TOLERANCE = 1e-3  # of the largest value: rounding of other batch sizes is some 1e-6


def prepared(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module as the rest of niwaki can work with it, and what had to be changed, in words.

    Wrappers of torch.compile and DataParallel are taken off; float16, bfloat16 and float64 become float32 in
    a copy. Raises CallError for TorchScript, layers without weights yet, and weights that are no floats.
    """
    notes = []
    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            break
        notes.append(f"{type(module).__name__} was taken off")
        module = inner
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            of = f"its part '{name}'" if name else "the module"
            raise CallError(
                f"{of} is TorchScript, which can neither be changed nor exported; build it from its Python "
                "class and load the script's state_dict() into it"
            )
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        if nn.parameter.is_lazy(tensor):
            raise CallError(f"'{name}' has no shape yet; call the module once before it is adapted")
        if tensor.is_meta:
            raise CallError(f"'{name}' has no values (it is on the meta device); load its weights first")
    for name, tensor in module.named_parameters():
        if not tensor.is_floating_point() and not tensor.is_complex():
            raise CallError(
                f"the weight '{name}' is {_name(tensor.dtype)}, not a float; give the module before it was "
                "quantized"
            )
    found = {t.dtype for _, t in tensors if t.is_floating_point()} - {torch.float32}
    if any(dtype.itemsize < 2 for dtype in found):
        raise CallError(
            f"weights are {_name(min(found, key=lambda d: d.itemsize))}, whose scales are not known; "
            "give the module before it was quantized"
        )
    if found:
        names = ", ".join(sorted(map(_name, found)))
        notes.append(f"weights in {names} were cast to float32 in a copy")
        module = copied(module).float()
    return module, tuple(notes)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def copied(module: nn.Module) -> nn.Module:
    """A copy. Raises CallError where there can be none: compressing and exporting start with one."""
    try:
        return copy.deepcopy(module)
    except Exception as error:  # whatever the module's own objects raise
        raise CallError(
            f"the module cannot be copied ({first_line(error)}); keep no random generators, open files and "
            "tensors with history in it, and use torch.nn.utils.parametrizations for weight norms"
        ) from error


@dataclass(frozen=True)
class Draw:
    """A call of an operator that draws noise: its name, the shape, and the module's line that made it."""

    operator: str
    shape: tuple[int, ...]
    line: str

    def __str__(self) -> str:
        return f"{self.operator} of shape {self.shape}{self.line}"


class _Draws(TorchDispatchMode):
    """Remembers what draws noise."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Draw] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if draws_noise(func, args, kwargs or {}):
            first = out[0] if isinstance(out, tuple | list) else out
            shape = tuple(first.shape) if isinstance(first, Tensor) else ()
            self.found.append(Draw(str(func.overloadpacket).split(".")[-1].strip("_"), shape, _line()))
        return out


def _line() -> str:
    """` at FILE:LINE` of the innermost call that is neither torch's nor ours."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(ours):
            return f" at {Path(frame.filename).name}:{frame.lineno}"
    return ""


@dataclass(frozen=True)
class Findings:
    """What two equal calls showed.

    out:     of the first
    draws:   what drew noise, in order
    differs: largest difference of the second, relative to the largest value
    changed: names of inputs that the module wrote into
    kept:    the first buffer or weight that it wrote into, with other values than before
    """

    out: Any
    draws: tuple[Draw, ...]
    differs: float
    changed: tuple[int, ...]
    kept: str


def try_twice(call: Callable[..., Any], module: nn.Module, inputs: Sequence[Tensor]) -> Findings:
    """Call it twice with equal inputs, and look at all that it could leave behind. Nothing of the process's
    random state is changed."""
    before = {k: v.clone() for k, v in module.state_dict().items()}
    given = [x.clone() for x in inputs]
    with random_state_kept(), torch.no_grad(), _Draws() as draws:
        out = call(*given)
        changed = tuple(
            k for k, (a, b) in enumerate(zip(inputs, given, strict=True)) if not torch.equal(a, b)
        )
        first = out.clone() if isinstance(out, Tensor) else out
        again = call(*(x.clone() for x in inputs))
    after = module.state_dict()
    kept = next((k for k, v in before.items() if k in after and not _equal(v, after[k])), "")
    return Findings(first, tuple(draws.found), _apart(first, again), changed, kept)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def _apart(a: Any, b: Any) -> float:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return 0.0
    if a.shape != b.shape:
        return float("inf")
    scale = max(1.0, float(a.abs().max())) if a.numel() else 1.0
    return float((a.double() - b.double()).abs().max()) / scale if a.numel() else 0.0


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What is drawn inside was never drawn."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - a module's, not ours
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002


def check_samples(out: Any, low: float, high: float) -> None:
    """Two samples. Raises CallError where they are not finite float32 in about the range."""
    if not isinstance(out, Tensor):
        raise CallError(f"the module must return one tensor of samples, not {type(out).__name__}")
    if out.dtype != torch.float32:
        kind = "end its forward with .float()" if out.is_floating_point() else "return values, not classes"
        raise CallError(f"the module must return float samples in float32, not {out.dtype}; {kind}")
    if out.ndim < 2 or out.shape[0] != 2:
        raise CallError(f"the module must return one sample per latent: 2 latents gave {tuple(out.shape)}")
    if not bool(torch.isfinite(out).all()):
        raise CallError("the module returns values that are not finite for standard normal latents")
    # Twice the range leaves room for what is not clipped; beyond it the given range is wrong.
    span = high - low
    least, most = float(out.min()), float(out.max())
    if least < low - span or most > high + span:
        raise CallError(
            f"the module's samples reach from {least:.3g} to {most:.3g}; give their range as low and high"
        )


def same_rows(call: Callable[..., Any], inputs: Callable[[int], Sequence[Tensor]], values: int) -> None:
    """A row alone equals the row among two, three and many. Raises CallError with the batch where not.

    inputs: n → inputs of n rows
    values: of one row's output
    """
    large = max(5, min(_LARGE, _VALUES // max(values, 1)))
    asked = inputs(large)
    alone = {}
    with torch.no_grad():
        try:
            for k in {0, 1, 2, large - 1}:
                alone[k] = call(*(x[k : k + 1].clone() for x in asked))
        except Exception as error:  # batch norms in training mode, and whatever a module asserts
            raise CallError(
                f"the module does not take a single sample ({first_line(error)}): it looks at the batch; use "
                "running statistics, or a norm over each sample"
            ) from error
        for n in (2, 3, large):
            among = call(*(x[:n].clone() for x in asked))
            apart = max(_apart(alone[k], among[k : k + 1]) for k in (0, n - 1))
            if apart > _TOLERANCE:
                share = f"by {apart:.2g}" if np.isfinite(apart) else "in its shape"
                if n == large:
                    raise CallError(
                        f"the module does something else with {n} samples than with 1, 2 and 3: a sample "
                        f"differs {share}; let it do the same at every batch size"
                    )
                raise CallError(
                    f"a sample of the module depends on what is drawn beside it: alone and among {n} it "
                    f"differs {share}; use running statistics or a norm over each sample instead of "
                    "statistics of the batch"
                )
