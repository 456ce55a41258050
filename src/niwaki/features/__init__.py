"""Networks that look at samples: what the metrics measure distances between."""

from __future__ import annotations

from niwaki.features.build import available, build, names
from niwaki.features.classifier import Classifier
from niwaki.features.extractor import Extractor, NetworkExtractor

__all__ = ["Classifier", "Extractor", "NetworkExtractor", "available", "build", "names"]
