"""Weight norm and spectral norm taken off for good: the weight that they compute stays, and can be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from niwaki.core.contract import NiwakiError

__all__ = ["RemoveParametrization", "parametrized"]


def parametrized(module: nn.Module) -> bool:
    """Whether a weight of the module is computed from others at every call, in the new way or the old."""
    return parametrize.is_parametrized(module) or bool(_hooks(module))


def _hooks(module: nn.Module) -> dict[int, Any]:
    hooks = module._forward_pre_hooks
    return {k: hook for k, hook in hooks.items() if isinstance(hook, WeightNorm | SpectralNorm)}


@dataclass(frozen=True)
class RemoveParametrization:
    """Make the computed weights of one module plain parameters, with the values they have in evaluation.

    The outputs stay what they were, bit for bit. A norm that is taken off does not come back: cutting one
    channel would change the norm of the others, and with it what they compute.
    """

    module: str

    kind: ClassVar[str] = "plain"

    def apply(self, model: nn.Module) -> None:
        """Raises NiwakiError where the module does not exist or computes no weight."""
        try:
            target = model.get_submodule(self.module)
        except AttributeError:
            raise NiwakiError(f"the model has no module '{self.module}' to make plain") from None
        if not parametrized(target):
            raise NiwakiError(f"'{self.module}' has no weight or spectral norm to take off")
        training = target.training
        target.eval()  # a spectral norm moves its vectors in training
        with torch.no_grad():
            _unparametrize(target)
            for key, hook in _hooks(target).items():
                hook.remove(target)
                del target._forward_pre_hooks[key]
                if isinstance(hook, SpectralNorm):
                    _forget(target)
        target.train(training)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "module": self.module}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RemoveParametrization:
        return cls(record["module"])


def _unparametrize(target: nn.Module) -> None:
    if not parametrize.is_parametrized(target):
        return
    # A copy and its original share a class made for them, from which the weight would vanish for both.
    made = type(target)
    own = {k: v for k, v in vars(made).items() if k not in ("__dict__", "__weakref__")}
    target.__class__ = type(made.__name__, made.__bases__, own)
    for name in list(target.parametrizations):  # type: ignore[arg-type]
        # With gradients: only then is what is left a parameter.
        with torch.enable_grad():
            parametrize.remove_parametrizations(target, name, leave_parametrized=True)
        setattr(target, name, nn.Parameter(getattr(target, name).detach().clone()))


def _forget(target: nn.Module) -> None:
    """The hooks by which the old spectral norm enters what is saved."""
    from torch.nn.utils.spectral_norm import SpectralNormLoadStateDictPreHook, SpectralNormStateDictHook

    for hooks, kind in (
        (target._state_dict_hooks, SpectralNormStateDictHook),
        (target._load_state_dict_pre_hooks, SpectralNormLoadStateDictPreHook),
    ):
        for key, hook in list(hooks.items()):
            if isinstance(getattr(hook, "hook", hook), kind):
                del hooks[key]
