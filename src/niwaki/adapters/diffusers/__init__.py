"""diffusers pipelines: read, sampled by our own sampler, and written back."""

from niwaki.adapters.diffusers.adapt import adapt_pipeline
from niwaki.adapters.diffusers.pipeline import AdaptedPipeline, rebuild
from niwaki.adapters.diffusers.save import save_pipeline

__all__ = ["AdaptedPipeline", "adapt_pipeline", "rebuild", "save_pipeline"]
