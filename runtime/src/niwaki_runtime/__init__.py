"""The device: reads a bundle and samples from it with numpy and an inference engine. Never imports torch.

>>> import niwaki_runtime
>>> bundle = niwaki_runtime.load("digits.niwaki")  # doctest: +SKIP
>>> images = bundle.sample(16, seed=0, condition=3)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from niwaki_runtime.errors import BundleError, CallError, NiwakiError

if TYPE_CHECKING:
    from niwaki_runtime.bundle import Bundle, inspect, load

__version__ = "0.1.0"
__all__ = ["Bundle", "BundleError", "CallError", "NiwakiError", "__version__", "inspect", "load"]


def __getattr__(name: str) -> Any:
    """The bundle's names on first use, so that importing the errors alone does not import numpy."""
    if name in ("Bundle", "inspect", "load"):
        from niwaki_runtime import bundle

        return getattr(bundle, name)
    raise AttributeError(f"module 'niwaki_runtime' has no attribute '{name}'")
