"""Models of clips: denoisers over space and time."""

from niwaki.models.video.video_diffusion import VideoDiffusion, VideoDiffusionConfig

__all__ = ["VideoDiffusion", "VideoDiffusionConfig"]
