"""Models of clips: denoisers over space and time, and codes of frames with a prior."""

from niwaki.models.video.video_diffusion import VideoDiffusion, VideoDiffusionConfig
from niwaki.models.video.video_gpt import VideoGpt, VideoGptConfig

__all__ = ["VideoDiffusion", "VideoDiffusionConfig", "VideoGpt", "VideoGptConfig"]
