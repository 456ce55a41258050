"""Networks that look at samples: what the metrics measure distances between."""

from __future__ import annotations

from niwaki.features.build import available, build, files_of, names
from niwaki.features.classifier import Classifier
from niwaki.features.encoders import Encoder, EncoderConfig, build_encoder, encoder_names, register_encoder
from niwaki.features.extractor import Extractor, NetworkExtractor
from niwaki.features.module import module_extractor
from niwaki.features.preprocess import Preprocess
from niwaki.features.pretrained import Pretrained, pretrained_extractor
from niwaki.features.selfsupervised import EncoderExtractor, load_encoder, save_encoder

__all__ = [
    "Classifier",
    "Encoder",
    "EncoderConfig",
    "EncoderExtractor",
    "Extractor",
    "NetworkExtractor",
    "Preprocess",
    "Pretrained",
    "available",
    "build",
    "build_encoder",
    "encoder_names",
    "files_of",
    "load_encoder",
    "module_extractor",
    "names",
    "pretrained_extractor",
    "register_encoder",
    "save_encoder",
]
