"""Given samples through the latents and back: what the model keeps of them."""

from __future__ import annotations

import math

import numpy as np

from niwaki.evaluation.metrics import restored_sound  # noqa: F401  (its measures enter themselves)
from niwaki.evaluation.metrics.restored import MEASURES
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use
from niwaki.uses.latents import check_latents, conditions_of, decode, encode, labels_of
from niwaki.uses.reading import samples_of

__all__ = ["Reconstruct", "psnr"]


def psnr(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """10 log₁₀(width² / mean squared error) in dB `(n,)`; infinite where nothing differs."""
    error = np.square(x.astype(np.float64) - y).reshape(len(x), -1).mean(1)
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(width**2 / error))


@register_use("reconstruct")
class Reconstruct(Use):
    """encode, then decode; the peak signal-to-noise ratio of each, and what else is measured of such samples
    (of sound: SI-SDR, distances of spectra)."""

    Options = UseOptions
    summary = "given samples through the latents and back, with the error of each"
    example = "runs/digits-vqvae pictures/ --class 3 -o back/"

    def apply(self, call: Call, options: UseOptions) -> Outcome:
        check_latents(call.model, self.name)
        spec = call.model.program("encode").inputs["x"].value
        x, names = samples_of(call, spec)
        if not call.files and call.asked is None:
            dataset = call.dataset()
            call.asked = labels_of(dataset.test) if dataset is not None else None
        asked = conditions_of(call, "encode", len(x))
        back = decode(call, encode(call, x, asked), asked)
        each = psnr(x, back, spec.high - spec.low)
        finite = each[np.isfinite(each)]
        mean = float(finite.mean()) if len(finite) else math.inf
        found = {m.name: m.of(back, x, spec) for m in MEASURES.values()}
        further = {name: values for name, values in found.items() if values is not None}
        rows = [
            {"name": name, "psnr": float(v) if math.isfinite(v) else "inf"}
            | {k: float(values[i]) for k, values in further.items()}
            for i, (name, v) in enumerate(zip(names, each, strict=True))
        ]
        return Outcome(
            record={
                "n": len(x),
                "psnr": mean if math.isfinite(mean) else "inf",
                "exact": len(x) - len(finite),
                "measures": {k: float(values.mean()) for k, values in further.items()},
            },
            lines=[
                f"{len(x)} samples, {mean:.2f} dB on average"
                if len(finite)
                else f"{len(x)} samples, all exact",
                *(f"{k}: {values.mean():.2f} on average" for k, values in further.items()),
            ],
            rows=rows,
            x=back,
            spec=spec,
            names=names,
        )
