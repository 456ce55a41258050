"""The device: reads a bundle and samples from it with numpy and an inference engine. Never imports torch."""

from niwaki_runtime.errors import BundleError, CallError, NiwakiError

__version__ = "0.1.0"
__all__ = ["BundleError", "CallError", "NiwakiError", "__version__"]
