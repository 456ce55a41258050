"""A run directory as a finished run leaves it: real samples, a blurred copy as the compressed side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from niwaki.core.store import jsonable, write_json
from niwaki.data import DataConfig, load

N = 180


def result(value: float, spread: float, floor: float | None, metric: str, features: str) -> dict[str, Any]:
    return {
        "value": value,
        "interval": [value - spread, value + spread],
        "floor": floor,
        "n": [366, N],
        "seed": 0,
        "signature": f"metric:{metric}|features:{features}|n:366+{N}|seed:0|niwaki:0.1.0",
    }


def judged(shift: float, classes: int = 10) -> dict[str, Any]:
    """An evaluation; `shift` makes everything a little worse."""
    rng = np.random.default_rng(int(1000 * shift))
    tree: dict[str, Any] = {
        features: {
            "frechet": result(1.84 * scale + shift, 0.21, 1.42 * scale, "frechet", features),
            "kernel": result(0.0021 + shift / 100, 0.0008, 0.0, "kernel", features),
            "precision": result(0.941 - shift / 5, 0.018, 0.95, "precision", features),
            "recall": result(0.902 - shift / 4, 0.022, 0.94, "recall", features),
            "density": result(1.02 - shift / 5, 0.031, 1.0, "density", features),
            "coverage": result(0.93 - shift / 4, 0.02, 0.969, "coverage", features),
        }
        for features, scale in (("classifier", 1.0), ("random", 4.2))
    }
    tree["classifier"]["recognised"] = result(0.985 - shift / 9, 0.011, 0.992, "recognised", "classifier")
    tree["reference"] = {f: {m: r["floor"] for m, r in tree[f].items()} for f in ("classifier", "random")}
    tree["copies"] = {
        "close": result(0.012, 0.008, 0.01, "close_to_train", "classifier"),
        "identical": 0,
        "limit": 0.4,
    }
    tree["signature"] = "metric:evaluation|k:5|split:test"
    tree["classes"] = [{"name": str(c), "coverage": {"classifier": 0.9}} for c in range(classes)]
    tree["coverage_per_class"] = {str(c): float(rng.uniform(0.82, 1.0) - shift / 6) for c in range(classes)}
    return tree


def timing(median: float) -> dict[str, float]:
    return {"median_ms": median, "low_ms": 0.96 * median, "high_ms": 1.07 * median, "runs": 30}


def measured(
    what: str, engine: str, one: float, many: float, size: int, memory: int | None
) -> dict[str, Any]:
    return {
        "what": what,
        "engine": engine,
        "precision": "fast",
        "threads": 2,
        "latency": {"1": timing(one), "16": timing(many)},
        "bytes": size,
        "memory_bytes": memory,
        "evaluations": 1,
        "machine": {
            "cpu": "Some CPU at 2.1 GHz",
            "cores": 2,
            "instructions": ["avx512_vnni"],
            "system": "Linux",
        },
    }


def training_log() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    lines = []
    for step in range(20, 2001, 20):
        wave = rng.normal(0, 0.04, 5)
        lines.append(
            {
                "step": step,
                "stage": "main",
                "discriminator/adversarial": 0.9 + 0.5 * np.exp(-step / 300) + wave[0],
                "discriminator/r1": 0.06 + 0.2 * np.exp(-step / 200) + abs(wave[1]) / 4,
                "discriminator/gradient_norm": 1.4 + wave[2] * 4,
                "generator/adversarial": 1.1 - 0.4 * np.exp(-step / 400) + wave[3],
                "generator/gradient_norm": 0.8 + wave[4] * 3,
                "lr/generator": 2e-4 * (1 + np.cos(np.pi * step / 2000)) / 2,
                "lr/discriminator": 2e-4 * (1 + np.cos(np.pi * step / 2000)) / 2,
                "seconds": step * 0.021,
            }
        )
    return lines


def blurred(x: np.ndarray, share: float) -> np.ndarray:
    around = (np.roll(x, 1, 2) + np.roll(x, -1, 2) + np.roll(x, 1, 3) + np.roll(x, -1, 3)) / 4
    return ((1 - share) * x + share * around).astype(np.float32)


def verdict(
    outcome: str, delta: float, interval: tuple[float, float], margin: float, text: str
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "delta": delta,
        "interval": list(interval),
        "margin": margin,
        "p_value": 0.003 if outcome == "no loss" else 0.21,
        "p_adjusted": 0.006 if outcome == "no loss" else 0.21,
        "before": 0.81,
        "after": 0.81 - delta,
        "statistic": "rarefied coverage: share of real samples among the nearest of a generated one",
        "n": N,
        "n_needed": None if outcome == "no loss" else 740,
        "text": text,
    }


def write_run(root: Path, source: str = "digits", **settings: Any) -> Path:
    """A whole run directory under `root`."""
    config = DataConfig(source=source, **settings)
    data = load(config)
    rng = np.random.default_rng(0)
    assert data.test.y is not None
    before = data.test.values().numpy()[:N]
    labels = data.test.y.numpy()[:N]
    shares = rng.beta(1.2, 9, len(before)).astype(np.float32)[:, None, None, None]
    after = np.clip(blurred(before, shares) + rng.normal(0, 0.02, before.shape), -1, 1).astype(np.float32)
    root.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / "samples.npz", before=before, after=after, labels=labels)
    legs = {
        name: {
            "status": "done",
            "seconds": seconds,
            "inputs": "0" * 64,
            "finished": "2025-01-02T03:04:05+00:00",
        }
        for name, seconds in {
            "train": 44.2,
            "evaluate": 6.1,
            "compress": 51.7,
            "export": 12.3,
            "verdict": 4.0,
        }.items()
    }
    legs["train"] |= {
        "steps": 2000,
        "parameters": 2_316_033,
        "training_seconds": 41.9,
        "samples_per_second": 6110.0,
    }
    write_json(
        root / "run.json",
        {
            "format": 1,
            "created": "2025-01-02T03:00:00+00:00",
            "name": f"{source}-gan",
            "seed": 0,
            "legs": legs,
            "versions": {"python": "3.12.4", "niwaki": "0.1.0", "torch": "2.13.0", "openvino": "2025.3"},
            "machine": {"system": "Linux", "processor": "x86_64", "cores": 2, "memory": 16_000_000_000},
            "data": {
                "fingerprint": data.fingerprint,
                "name": data.name,
                "samples": {name: len(split) for name, split in data.splits.items()},
                "spec": data.spec.to_json(),
                "audit": data.audit.to_json(),
            },
        },
    )
    recipe = {
        "name": f"{source}-gan",
        "data": config.model_dump(mode="json"),
        "model": {"name": "dcgan", "width": 64},
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (root / "metrics.jsonl").write_text("".join(json.dumps(jsonable(r)) + "\n" for r in training_log()))
    write_json(
        root / "evaluation.json",
        {
            "n": N,
            "seed": 0,
            "engine": "openvino",
            "extractors": [
                {
                    "name": "classifier",
                    "fingerprint": "c" * 64,
                    "dim": 128,
                    "accuracy": {"train": 1.0, "validation": 0.993, "test": 0.989},
                },
                {"name": "random", "fingerprint": "a" * 64, "dim": 512},
            ],
            "trained": judged(0.0, data.spec.classes),
            "bundle": judged(0.09, data.spec.classes),
            "comparison": {
                "fidelity": verdict(
                    "no loss", 0.09, (0.03, 0.16), 0.4,
                    "The Fréchet distance rose by 0.09 (0.03 … 0.16), less than the margin of 0.4.",
                ),
                "diversity": verdict(
                    "inconclusive", 0.024, (0.001, 0.058), 0.05,
                    "Coverage fell by 0.024 (95 % interval 0.001 … 0.058); the margin is 0.05.",
                ),
                "damage": {"ranking": [3, 1], "quantiles": {"0.5": 0.2}},
                "accuracy": {"before": 0.98, "after": 0.97},
                "n": N,
                "signature": "metric:paired|k:5",
            },
        },
    )  # fmt: skip
    write_json(
        root / "compression.json",
        {
            "seed": 0,
            "plan": {"steps": [{"kind": "prune"}, {"kind": "finetune"}, {"kind": "quantize"}]},
            "steps": [
                step("prune", 2_300_000, 410_000, 1_650_000, 0.41, 18.0),
                step("finetune", 410_000, 410_000, 1_650_000, 0.12, 27.5),
                step("quantize", 410_000, 410_000, 462_000, 0.14, 6.2, {"quantized": 6, "total": 6}),
            ],
            "measured": {
                "before": measured("torch eager float32", "torch", 1.42, 6.31, 9_270_000, 212_000_000),
                "compiled": measured("torch.compile bf16", "torch", 0.61, 2.05, 9_270_000, None),
                "float32": measured("bundle", "openvino", 0.48, 2.6, 9_310_000, 61_000_000),
                "after": measured("bundle", "openvino", 0.094, 0.41, 462_000, 34_000_000),
            },
        },
    )
    return root


def step(
    kind: str,
    before: int,
    after: int,
    size: int,
    error: float,
    seconds: float,
    counts: dict[str, int] | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "settings": {"kind": kind},
        "parameters": [before, after],
        "macs": [12 * before, 12 * after],
        "bytes": size,
        "latency": {"1": 0.1, "16": 0.5},
        "error": error,
        "quantized": {"generator": counts} if counts else {},
        "seconds": seconds,
        "widths": {},
        "skipped": {},
        "notes": [],
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on digits. Read only: tests that write take a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIWAKI_CACHE", str(tmp_path_factory.mktemp("cache")))
        return write_run(tmp_path_factory.mktemp("runs") / "digits-gan")
