"""A small language model on CPython's documentation: bits per byte, before and after training, and its text.

    python benchmarks/language.py                 # about eight minutes on one core
    python benchmarks/language.py --steps 4000

A Llama of `transformers` (four layers, bytes as tokens, 256 of them at once), trained by
`niwaki.training.fit`; `language_model(steps, seed)` gives it, trained and kept under `runs/`, to the other
benchmarks.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import niwaki_runtime
from niwaki.adapters.language import (
    LanguageModel,
    adapt_language_model,
    bits_per_token,
    bundle_bits_per_token,
)
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.sources.text import tokenizer_json
from niwaki.deployment import export_graphs, package
from niwaki.models import load_model, save_model
from niwaki.store import write_json
from niwaki.training import TrainConfig, fit
from niwaki_runtime.tokenizer import Tokenizer

DATA = DataConfig(source="python-docs", length=256)
STEPS, BATCH = 1200, 24
ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": 256,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": None,
}


def fresh(seed: int = 0) -> LanguageModel:
    """The model with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return adapt_language_model(
        LlamaForCausalLM(LlamaConfig(**ARCHITECTURE)), tokenizer=tokenizer_json(DATA), length=256
    )


def language_model(
    steps: int = STEPS, seed: int = 0, *, progress: Any = None, runs: Path = Path("runs")
) -> tuple[LanguageModel, Dataset]:
    """The trained model and its data; training is done once and kept in `runs`."""
    dataset = load(DATA)
    directory = runs / f"language-{steps}-{seed}-{dataset.fingerprint[:12]}"
    if (directory / "model.json").exists():
        kept = load_model(directory)
        assert isinstance(kept, LanguageModel)
        return kept, dataset
    model = fresh(seed)
    config = TrainConfig(
        steps=steps,
        batch=BATCH,
        optimizer="adamw",
        lr=3e-3,
        betas=(0.9, 0.98),
        weight_decay=0.05,
        warmup=100,
        clip=1.0,
        ema=0.99,
        checkpoint_every=0,
    )
    fit(model, dataset.train, config, seed=seed, progress=progress)
    save_model(model, directory)
    return model, dataset


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", type=int, default=256, help="of the test split, for bits per byte")
    options = parser.parse_args()
    say = Console(stderr=True)
    began = time.perf_counter()

    def told(done: int, total: int, info: dict[str, float]) -> None:
        if done % 100 == 0:
            say.print(f"{done}/{total}, {time.perf_counter() - began:.0f} s {info}", highlight=False)

    model, dataset = language_model(options.steps, options.seed, progress=told)
    x = dataset.test.x[: options.windows]
    rows = {"random weights": bits_per_token(fresh(options.seed), x), "trained": bits_per_token(model, x)}
    out = Path("runs") / "language-bundle"
    bundle = package(model, export_graphs(model, out / "graphs"), out / "model.niwaki")
    for engine in ("openvino", "onnxruntime"):
        for precision in ("exact", "fast"):
            found = niwaki_runtime.load(bundle, engine=engine, precision=precision)
            rows[f"bundle, {engine}, {precision}"] = bundle_bits_per_token(found, x)
    shown = Table(
        "", "bits per byte", "± standard error", title=f"python-docs, n={len(x)} windows of 256 bytes"
    )
    for name, bits in rows.items():
        shown.add_row(name, f"{bits.mean():.4f}", f"{bits.std(ddof=1) / np.sqrt(len(bits)):.4f}")
    Console().print(shown)
    tokenizer = Tokenizer(model.tokenizer_json)
    prompt = np.full(model.config.prompt, -1)
    words = tokenizer.encode("The str.split() method returns ")
    prompt[: len(words)] = words
    texts = {
        "sample": model.sample(1, seed=1, temperature=0.7),
        "continued": model.sample(1, seed=1, temperature=0.7, condition=prompt),
    }
    for name, tokens in texts.items():
        Console().print(f"--- {name}\n{tokenizer.decode(tokens[0])}", highlight=False, markup=False)
    record = {name: {"bits_per_byte": float(b.mean()), "n": len(b)} for name, b in rows.items()}
    write_json("benchmarks/results/language.json", {"steps": options.steps, "seed": options.seed, **record})
    return 0


if __name__ == "__main__":
    sys.exit(main())
