"""A filter by an image classifier of transformers, in a folder that the user names (an NSFW classifier, say).

Nothing is downloaded: the folder is read as it lies there, weights as safetensors alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.filters.base import Filter, FilterPlace, register_filter
from niwaki_runtime.errors import CallError, NiwakiError, nearest
from niwaki_runtime.specs import ValueSpec

__all__ = ["TransformersFilter"]

_BATCH = 16


@register_filter("transformers")
class TransformersFilter(Filter):
    """The score is the sum of the probabilities of the labels that are to be withheld; the threshold is 0.5
    where the place names none, which is calibrated on nobody's data."""

    def __init__(self, place: FilterPlace) -> None:
        try:
            import transformers
        except ImportError:
            raise NiwakiError(
                f"the filter {place.path} needs transformers; pip install transformers"
            ) from None
        self.name = place.path.name
        self.threshold = 0.5 if place.threshold is None else place.threshold
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            auto: Any = transformers.AutoModelForImageClassification
            self._model = auto.from_pretrained(place.path, use_safetensors=True, **options).eval()
            self._processor: Any = transformers.AutoImageProcessor.from_pretrained(place.path, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            why = str(error).splitlines()[0]
            raise NiwakiError(f"the classifier in {place.path} cannot be read: {why}") from None
        known = {str(label).lower(): int(i) for i, label in self._model.config.id2label.items()}
        if not place.labels:
            raise CallError(
                f"say which labels of {place.path} are to be withheld, as PATH,label={next(iter(known))}; "
                f"it knows {', '.join(known)}"
            )
        for label in place.labels:
            if label.lower() not in known:
                raise CallError(
                    f"the classifier {place.path} has no label '{label}'; {nearest(label, known)}"
                )
        self.labels = place.labels
        self._columns = sorted({known[label.lower()] for label in place.labels})

    @classmethod
    def holds(cls, path: Path) -> bool:
        try:
            architectures = json.loads((path / "config.json").read_text())["architectures"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return any("ImageClassification" in str(one) for one in architectures or ())

    @classmethod
    def open(cls, place: FilterPlace) -> TransformersFilter:
        return cls(place)

    def check(self, spec: ValueSpec) -> None:
        if spec.axes != "CHW" or spec.shape[0] not in (1, 3):
            raise CallError(
                f"the filter '{self.name}' looks at pictures of 1 or 3 channels, not at {spec.modality}"
            )

    def score(self, x: np.ndarray, spec: ValueSpec) -> np.ndarray:
        import torch
        from PIL import Image

        self.check(spec)
        unit = (np.asarray(x, np.float64) - spec.low) / (spec.high - spec.low)
        grey = np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        pictures = [Image.fromarray(np.repeat(g, 3, 2) if g.shape[2] == 1 else g) for g in grey]
        rows = [np.zeros(0)]
        with torch.inference_mode():
            for at in range(0, len(pictures), _BATCH):
                inputs = self._processor(images=pictures[at : at + _BATCH], return_tensors="pt")
                chances = self._model(**inputs).logits.double().softmax(1)
                rows.append(chances[:, self._columns].sum(1).numpy())
        return np.concatenate(rows)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "labels": list(self.labels)}
