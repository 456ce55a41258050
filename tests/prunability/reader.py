"""python -m prunability.reader: for every directory on standard input, does the model in it compute what is
kept beside it? One line of JSON each: what differs, or an empty string."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import prunability.zoo  # noqa: F401  registers the architectures; no model is built
import torch

from niwaki.compression.forward import outputs
from niwaki.models import load_model


def main() -> None:
    for line in sys.stdin:
        directory = Path(line.strip())
        try:
            made = outputs(load_model(directory))
            kept = np.load(directory / "outputs.npz")
            same = all(
                torch.equal(o, torch.from_numpy(kept[k])) for o, k in zip(made, kept.files, strict=True)
            )
            answer = "" if same else "the outputs differ"
        except Exception as error:  # whatever it is, the test that asked must hear it
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
