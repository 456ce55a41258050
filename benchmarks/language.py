"""A small language model on CPython's documentation: bits per byte, before and after training, and its text.

    python benchmarks/language.py                 # about eight minutes on one core
    python benchmarks/language.py --steps 4000
    python benchmarks/language.py --compress      # its weights on fewer bits; then pruned, and judged

A Llama of `transformers` (four layers, bytes as tokens, 256 of them at once), trained by
`niwaki.training.fit`; `language_model(steps, seed)` gives it, trained and kept under `runs/`, to the other
benchmarks.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import niwaki_runtime
from niwaki.adapters.language import LanguageModel, adapt_language_model, forced_log_probs
from niwaki.api.compress import compress as compress_model
from niwaki.compression import CompressConfig, compress
from niwaki.core.contract import NiwakiError, Runner
from niwaki.core.store import write_json
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.sources.text import tokenizer_json
from niwaki.deployment import bundle_bytes, export_graphs, package
from niwaki.deployment.timing import interleave
from niwaki.evaluation.equivalence.text import bits
from niwaki.evaluation.judges import Tools, judge_named
from niwaki.models import load_model, save_model
from niwaki.training import TrainConfig, fit
from niwaki_runtime.samplers import Autoregressive, NumpyBackend
from niwaki_runtime.tokenizer import Tokenizer

DATA = DataConfig.model_validate({"source": "python-docs", "length": 256})
STEPS = 1200
TRAINING: dict[str, Any] = {
    "batch": 24,
    "optimizer": "adamw",
    "lr": 3e-3,
    "betas": (0.9, 0.98),
    "weight_decay": 0.05,
    "warmup": 100,
    "clip": 1.0,
    "ema": 0.99,
    "checkpoint_every": 0,
}
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


QUANTIZED: dict[str, dict[str, Any]] = {
    "int8 weights": {"backend": "niwaki", "mode": "weights"},
    "int4 weights, groups of 32": {
        "backend": "niwaki", "mode": "weights", "bits": 4, "granularity": "group", "group": 32,
    },
    "int8 weights, dynamic activations": {"backend": "niwaki", "mode": "dynamic"},
    "static int8": {"backend": "niwaki"},
    "static int8, NNCF": {"backend": "nncf"},
}  # fmt: skip
PLAN: list[dict[str, Any]] = [
    {"kind": "prune", "ratio": 0.3},
    {"kind": "finetune", "steps": 200, "batch": 24},
    {"kind": "quantize", "backend": "niwaki", "mode": "weights"},
]


def fresh(seed: int = 0) -> LanguageModel:
    """The model with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return adapt_language_model(
        LlamaForCausalLM(LlamaConfig(**ARCHITECTURE)), tokenizer=tokenizer_json(DATA), length=256, first=0
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
    config = TrainConfig.model_validate({**TRAINING, "steps": steps})
    fit(model, dataset.train, config, seed=seed, progress=progress)
    save_model(model, directory)
    return model, dataset


def bits_per_byte(runner: Runner, dataset: Dataset, windows: int) -> np.ndarray:
    """Of the first windows of the test split `(windows,)`, by the judge of text."""
    judge = judge_named("predictions", Tools(list))
    found = judge.evidence(runner, dataset, "test", windows, 0)
    return bits(found.arrays["log_p"], found.facts["bytes_per_token"])


def quantized(model: LanguageModel, dataset: Dataset, windows: int, out: Path) -> list[tuple[str, ...]]:
    """Bits per byte by reading and by writing, bytes and milliseconds per token of each way, openvino, one
    thread: the graph that reads strides, the one that writes token by token (on a few windows)."""
    bundles = {
        "float32": package(model, export_graphs(model, out / "float" / "graphs"), out / "float.niwaki")
    }
    for name, settings in QUANTIZED.items():
        steps = [{"kind": "quantize", **settings}]
        config = CompressConfig.model_validate({"steps": steps, "batches": (1,), "rounds": 1})
        made = compress(model, dataset, config, workdir=out / name.replace(" ", "-"), seed=0)
        bundles[name] = made.bundle
    loaded = {name: niwaki_runtime.load(b, engine="openvino", threads=1) for name, b in bundles.items()}
    ways = {name: partial(b.sample, 1, seed=0) for name, b in loaded.items()}
    times = interleave(ways, rounds=10)
    rows: list[tuple[str, ...]] = []
    for name, bundle in loaded.items():
        sampler = bundle.sampler
        assert isinstance(sampler, Autoregressive)
        few, single = dataset.test.x[:8].numpy().astype(np.int64), sampler.override(prefill="")
        log_p = forced_log_probs(bundle.graphs, single, few, NumpyBackend())
        written = -np.take_along_axis(log_p, few[..., None], 2).mean() / np.log(2.0)
        read = bits_per_byte(bundle, dataset, windows)
        rows.append((
            name, f"{read.mean():.4f}", f"{read[:8].mean():.3f} / {written:.3f}",
            f"{bundle_bytes(bundles[name]) / 1e6:.2f}", f"{times[name].median_ms / sampler.length:.3f}",
        ))  # fmt: skip
    return rows


def compressed(model: LanguageModel, dataset: Dataset, windows: int) -> dict[str, Any]:
    """The table of quantizations, and the verdict on a plan."""
    rows = quantized(model, dataset, windows, Path("runs") / "language-quantized")
    shown = Table("", "bits per byte", "of 8 windows, read / written", "MB", "ms per token")
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)
    found = compress_model(
        model, data=dataset, out="runs/language-compressed", plan=PLAN, n=windows, threads=1, rounds=3
    )
    for axis in ("fidelity", "diversity"):
        Console().print(found["verdict"][axis]["text"], highlight=False)
    return {"quantized": rows, "n": windows, **{k: found[k] for k in ("verdict", "measured")}}


def measure(options: argparse.Namespace, progress: Callable[[int, int, dict[str, float]], None]) -> None:
    """Train (or find) the model, and print and write the figures that were asked for."""
    model, dataset = language_model(options.steps, options.seed, progress=progress)
    if options.compress:
        write_json("benchmarks/results/language-compressed.json", compressed(model, dataset, options.windows))
        return
    n = options.windows
    ways = {"random weights": fresh(options.seed), "trained": model}
    rows = {name: bits_per_byte(runner, dataset, n) for name, runner in ways.items()}
    out = Path("runs") / "language-bundle"
    bundle = package(model, export_graphs(model, out / "graphs"), out / "model.niwaki")
    for engine in ("openvino", "onnxruntime"):
        for precision in ("exact", "fast"):
            found = niwaki_runtime.load(bundle, engine=engine, precision=precision)
            rows[f"bundle, {engine}, {precision}"] = bits_per_byte(found, dataset, n)
    shown = Table("", "bits per byte", "± standard error", title=f"python-docs, n={n} windows of 256 bytes")
    for name, found_bits in rows.items():
        error = found_bits.std(ddof=1) / np.sqrt(len(found_bits))
        shown.add_row(name, f"{found_bits.mean():.4f}", f"{error:.4f}")
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--windows", type=int, default=256, help="of the test split, for bits per byte")
    parser.add_argument("--compress", action="store_true")
    options = parser.parse_args()
    say = Console(stderr=True)
    began = time.perf_counter()

    def on_progress(done: int, total: int, info: dict[str, float]) -> None:
        if done % 100 == 0:
            say.print(f"{done}/{total}, {time.perf_counter() - began:.0f} s {info}", highlight=False)

    try:
        measure(options, on_progress)
    except NiwakiError as error:
        say.print(str(error), style="red", highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
