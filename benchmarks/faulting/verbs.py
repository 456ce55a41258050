"""The calls that are hit: every verb that writes, on a run that is trained and judged in seconds."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["STARTERS", "TRAINING", "VERBS", "Verb", "call", "prepare", "write_inputs"]

NAME = "tiny"
BUNDLE = f"run/{NAME}.niwaki"
RECIPE = """
name: tiny
data: {source: arrays, path: data.npz}
model: {name: dcgan, width: 4, max_width: 8, features: 8, latent: 4}
train: {steps: 12, batch: 16, log_every: 3, checkpoint_every: 3, ema: 0.5}
evaluate: {features: [random], metrics: [frechet, coverage], n: 60}
compress: {steps: [{kind: prune, ratio: 0.5}, {kind: finetune, steps: 6, batch: 16}]}
export: {memory: false, repeats: 2, batches: [1], threads: 1, engine: onnxruntime}
"""

JUDGE = "evaluate.features=[classifier]"
JUDGE_STEPS = 40
"""Of the classifier's training: it takes hundreds otherwise."""
STUDY = "train.steps=8 --range train.lr=1e-3..1e-2:log --trials 2 --objective frechet"

STAGES = ("train", "evaluate", "compress", "export", "verdict", "report")
LEFT = {
    "train": ("model", "training.json", "metrics.jsonl", "checkpoints"),
    "evaluate": ("evaluation.json", "evidence", "cache"),
    "compress": ("compressed", "compression.json"),
    "export": (f"{NAME}.niwaki", f"{NAME}-float32.niwaki", "export.json"),
    "verdict": ("verdict.json", "verdict"),
    "report": ("report.html", "originals.npz"),
}
"""What each stage leaves in the run directory."""


@dataclass(frozen=True)
class Verb:
    """words:   of the call; the first is the program
    after:   the stages that the run has behind it, or None where there is no run
    again:   what is added to the second call where the first one left a stopped training
    share:   of all kills
    always:  whether it does its work again where that is done already
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] | None
    again: tuple[str, ...] = ()
    share: float = 1.0
    always: bool = False


def _verb(
    name: str, words: str, after: int | None, again: str = "", share: float = 1.0, always: bool = False
) -> Verb:
    behind = None if after is None else STAGES[:after]
    return Verb(name, tuple(words.split()), behind, tuple(again.split()), share, always)


VERBS = {
    verb.name: verb
    for verb in (
        _verb("train", "niwaki train recipe.yaml --out run", None, "--resume", 24),
        _verb("train --resume", "niwaki train run train.steps=18 --resume", 6, share=20),
        _verb("train --fresh", "niwaki train run train.steps=9 --fresh", 6, share=16, always=True),
        _verb("run", "niwaki run recipe.yaml --out run", None, share=8),
        _verb("evaluate", "niwaki evaluate run", 1, share=6),
        _verb("evaluate, a judge trained", f"niwaki evaluate run {JUDGE}", 1, share=12),
        _verb("compress", "niwaki compress run", 2, share=12),
        _verb("tune", f"niwaki tune recipe.yaml --out study {STUDY}", None, share=12),
        _verb("export", "niwaki export run", 3, share=4),
        _verb("report", "niwaki report run", 5, share=8, always=True),
        _verb("sample", "niwaki sample run -n 8 --out made/s.npz --out made/s.png", 1, share=30),
        _verb("sample BUNDLE", f"niwaki sample {BUNDLE} -n 8 --out made/s.npz", 6, share=20),
        _verb("evaluate FILES", "niwaki evaluate made.npz --data recipe.yaml", None, share=4),
        _verb("compare", f"niwaki compare run {BUNDLE}", 6, share=10),
        _verb("export MODEL", "niwaki export run/model --out made/m.niwaki", 1, share=6),
        _verb("niwaki-runtime sample", f"niwaki-runtime sample {BUNDLE} -n 8 --out made/s.npz", 6, share=20),
        _verb("niwaki-runtime extract", f"niwaki-runtime extract {BUNDLE} plain", 6, share=24),
    )
}  # fmt: skip

STARTERS = {
    verb.name: verb
    for verb in (
        _verb("train, 2 processes", "niwaki train recipe.yaml train.devices=2 train.device=cpu --out run",
              None, "--resume"),
        _verb("tune, 2 processes", f"niwaki tune recipe.yaml --out study {STUDY} --workers 2", None),
    )
}  # fmt: skip
"""Calls that start further processes, which are killed."""
TRAINING = ("train", "train --resume", "run", "evaluate, a judge trained", "compress", "tune")
"""Calls that train, as the faults that trainings have hit them."""


def call(words: tuple[str, ...]) -> Callable[[], int]:
    """The work of a child: the call as its program would take it, in the same process."""

    def work() -> int:
        if words[0] == "niwaki-runtime":
            from niwaki_runtime.__main__ import main

            return main(words[1:])
        from niwaki.cli.main import status
        from niwaki.features import classifier

        classifier._steps = lambda samples: JUDGE_STEPS

        return status(list(words[1:]))

    return work


def write_inputs(place: Path) -> None:
    """The recipe, its data, samples of no run, and folders for a cache and for temporary files."""
    import numpy as np

    rng = np.random.default_rng(0)
    at = np.arange(8) - 3.5
    for name, n in (("data.npz", 600), ("made.npz", 80)):
        middle, width = rng.uniform(-2, 2, (n, 2, 1, 1)), rng.uniform(1, 3, (n, 1, 1))
        far = (at[:, None] - middle[:, 0]) ** 2 + (at - middle[:, 1]) ** 2
        file = io.BytesIO()
        np.savez(file, x=(255 * np.exp(-far / width)).astype(np.uint8), y=np.arange(n) % 3)
        (place / name).write_bytes(file.getvalue())
    (place / "recipe.yaml").write_text(RECIPE)
    for folder in ("cache", "tmp"):
        (place / folder).mkdir()


def prepare(place: Path, whole: Path, verb: Verb) -> None:
    """Fill the empty folder `place` with what a verb finds: `whole` without what comes after its stages."""
    shutil.copytree(whole, place, dirs_exist_ok=True, symlinks=True)
    if verb.after is None:
        shutil.rmtree(place / "run")
        return
    for stage in STAGES:
        if stage not in verb.after:
            (place / "run" / "stages" / f"{stage}.json").unlink(missing_ok=True)
            for name in LEFT[stage]:
                path = place / "run" / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
