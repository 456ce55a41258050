"""Networks that look at samples: what the metrics measure distances between."""

from __future__ import annotations

from niwaki.features.build import available, build, names
from niwaki.features.classifier import Classifier
from niwaki.features.encoders import Encoder, EncoderConfig, build_encoder, encoder_names, register_encoder
from niwaki.features.extractor import Extractor, NetworkExtractor
from niwaki.features.selfsupervised import EncoderExtractor, load_encoder, save_encoder

__all__ = [
    "Classifier",
    "Encoder",
    "EncoderConfig",
    "EncoderExtractor",
    "Extractor",
    "NetworkExtractor",
    "available",
    "build",
    "build_encoder",
    "encoder_names",
    "load_encoder",
    "names",
    "register_encoder",
    "save_encoder",
]
