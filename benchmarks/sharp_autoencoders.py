"""What a perceptual and an adversarial term change in the autoencoders of latent diffusion, on digits.

python benchmarks/sharp_autoencoders.py [--steps 400] [--json FILE]

Each autoencoder is trained with and without them, from the same weights on the same batches; reconstructions
of the test split are compared with the originals by pixels, and by features of a classifier, which no
autoencoder has seen: those of the perceptual term are of a SimCLR encoder trained on the training split.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from niwaki import data, models
from niwaki.core.contract import GenerativeModel
from niwaki.data import DataConfig, Dataset
from niwaki.features.classifier import Classifier, train_classifier
from niwaki.features.encoders import build_encoder
from niwaki.training import TrainConfig, fit
from niwaki.uses.reconstruct import psnr

SIZES = {"halvings": 2, "latent": 4, "width": 16}
TERMS: dict[str, dict[str, float]] = {
    "pixels": {},
    "and perceptual": {"perceptual": 1.0},
    "and adversarial": {"perceptual": 1.0, "adversarial": 0.5},
}


def trained(name: str, terms: dict[str, float], dataset: Dataset, looks: Any, steps: int) -> GenerativeModel:
    torch.manual_seed(0)
    model = models.build(name, {**SIZES, **terms}, dataset.spec)
    if "perceptual" in terms:
        model.perceptual.load_state_dict(looks.backbone.state_dict())
    config = TrainConfig(
        steps=steps, batch=64, lr=2e-3, betas=(0.5, 0.99), warmup=20, ema=0.99, checkpoint_every=0
    )
    fit(model, dataset.train, config, seed=0)
    return model.eval()


def measured(model: GenerativeModel, dataset: Dataset, looks: Classifier) -> dict[str, float]:
    """Of reconstructions of the test split: mean PSNR in dB, squared distance in features relative to that of
    two test samples, share read as their own class, and contrast: squared differences of neighbouring pixels
    relative to the originals'."""
    rows = dataset.test.batch(torch.arange(len(dataset.test)))
    x, y = rows.x.numpy(), rows["class"].numpy()
    back = model.run("decode", len(x), inputs={"z": model.run("encode", len(x), inputs={"x": x})}).numpy()
    f, g = looks(x), looks(back)
    apart = np.square(f - np.roll(f, 1, axis=0)).sum(1).mean()
    contrast = [np.square(np.diff(v, axis=3)).mean() for v in (back, x)]
    return {
        "psnr": float(psnr(x, back, 2.0).mean()),
        "feature_distance": float(np.square(f - g).sum(1).mean() / apart),
        "recognised": float((looks.probabilities(back).argmax(1) == y).mean()),
        "contrast": float(contrast[0] / contrast[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    dataset = data.load(DataConfig(source="digits"))
    judge = train_classifier(dataset, device="cpu")
    torch.manual_seed(1)
    looks = build_encoder("simclr", {}, dataset.spec)
    how = {"batch": 128, "lr": 2e-3, "optimizer": "adamw", "ema": 0.99, "checkpoint_every": 0}
    fit(looks, dataset.train, TrainConfig.model_validate({"steps": asked.steps, **how}), seed=1)
    found = []
    for name in ("kl-autoencoder", "vq-autoencoder"):
        for terms, settings in TERMS.items():
            start = time.process_time()
            model = trained(name, settings, dataset, looks, asked.steps)
            row = {"model": name, "terms": terms, "cpu_seconds": time.process_time() - start}
            found.append({**row, **measured(model, dataset, judge)})
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in found[-1].items()}, flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
