"""What an evaluation finds beside its numbers, made up, and put into a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.store import read_json, write_json

TEST, TRAIN = (4, 9, 2, 30, 17, 5), (11, 3, 8)
"""Positions of the originals that are kept with a run."""


def mode(kind: str, name: str, *, lost: bool, ratio: float = 0.2) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "lost": lost,
        "ratio": ratio,
        "interval": [ratio / 2, ratio * 2],
        "share": 0.1,
        "made": 0.1 * ratio,
        "real": list(TEST),
        "nearest": [0, 1, 2, 3, 4, 5],
        "apart": [1.5, 1.25, 1.75, 2.0, 0.5, 3.0],
    }


def found_modes(*modes: dict[str, Any]) -> dict[str, Any]:
    return {"features": "classifier", "looked_at": {"cluster": 14, "class": 10}, "found": list(modes)}


def gate(*, passed: bool = True, **values: Any) -> dict[str, Any]:
    return {
        "passed": passed,
        "text": "Passed: nothing is copied." if passed else "Held back: 1 sample is equal: number 7.",
        "allowed": 0.027,
        "samples": [] if passed else [{"sample": 7, "train_index": 8, "distance": 0.0, "identical": True}],
        "usual": 2.0,
        "features": "classifier",
        **values,
    }


def nearest() -> list[dict[str, Any]]:
    """The nearest first; the limit of the made-up evaluation is 0.4."""
    return [
        {"sample": 5, "train_index": 11, "distance": 0.3, "pixel_distance": 0.1},
        {"sample": 6, "train_index": 3, "distance": 0.9, "pixel_distance": 0.2},
    ]


def fitness(*, fit: bool | None = True, **distrusted: list[str]) -> dict[str, Any]:
    return {"fit": fit, "text": "a sentence about fitness", "ladders": [], "distrusted": distrusted}


def change(run: Path, **values: Any) -> None:
    """Replace parts of the evaluation; None takes one away."""
    tree = {**read_json(run / "evaluation.json"), **values}
    write_json(run / "evaluation.json", {k: v for k, v in tree.items() if v is not None})


def keep_copies(run: Path, side: str = "bundle", **found: Any) -> None:
    """The nearest samples of a side, and what the gate says of them."""
    tree = read_json(run / "evaluation.json")
    tree[side]["copies"]["nearest"] = nearest()
    write_json(run / "evaluation.json", {**tree, "gate": {side: gate(**found)}})


def keep_originals(run: Path) -> dict[str, np.ndarray]:
    """`originals.npz` of pictures whose grey level is their position: test ones dark, training ones light."""
    fingerprint = read_json(run / "run.json")["data"]["fingerprint"]
    shape = (1, 8, 8)
    arrays = {
        "test_index": np.array(TEST),
        "test": np.stack([np.full(shape, -1 + i / 50, np.float32) for i in TEST]),
        "train_index": np.array(TRAIN),
        "train": np.stack([np.full(shape, 1 - i / 50, np.float32) for i in TRAIN]),
    }
    np.savez(run / "originals.npz", fingerprint=np.array(fingerprint), **arrays)
    return arrays
