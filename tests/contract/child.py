"""What the tests run in other processes.

python -m contract.child train NAME DIRECTORY STEP     train, and be killed by SIGKILL at STEP
python -m contract.child sample NAME MODEL OUT         load and sample
python -m contract.child run BUNDLE ENGINE ASK OUT     sample from a bundle; torch cannot be imported
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

N, SEED = 6, 11


def train(name: str, directory: str, last: str) -> None:
    from contract.shapes import make, settings

    from niwaki.training import fit

    def progress(step: int, total: int, values: dict) -> None:
        if step >= int(last):
            os.kill(os.getpid(), signal.SIGKILL)

    model, split = make(name)
    fit(model, split, settings(name), seed=3, directory=Path(directory), progress=progress)


def sample(name: str, path: str, out: str) -> None:
    from contract.shapes import SHAPES, make

    from niwaki.models import load_model

    make(name)
    x = load_model(Path(path)).sample(N, seed=SEED, condition=SHAPES[name].ask(N))
    np.save(out, x.numpy())


def run(path: str, engine: str, ask: str, out: str) -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # any import of torch now fails
    import niwaki_runtime

    condition = dict(np.load(ask)) or None
    bundle = niwaki_runtime.load(path, engine=engine, precision="exact")
    np.save(out, bundle.sample(N, seed=SEED, condition=condition))


if __name__ == "__main__":
    {"train": train, "sample": sample, "run": run}[sys.argv[1]](*sys.argv[2:])
