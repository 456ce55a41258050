"""Models that are not ours, and of other kinds than pictures from noise, come to a bundle with a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import niwaki_runtime
from niwaki.api.search import search
from niwaki.api.train import train
from niwaki.core.contract import NiwakiError
from niwaki.recipe import recipe_from
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.search import _in_time

LENGTH = 32
PLENTY = 1800
"""Seconds; a plan that certainly loses nothing ends a search at once."""
EXPORT = ["export.repeats=3", "export.memory=false"]


def proven(found: Any, samples: tuple[int, ...]) -> None:
    """Within the budget, nothing lost on either axis of the test split, and it samples."""
    assert found.chosen is not None, found.refusal
    assert found.meets
    assert set(found.verdict) == {"fidelity", "diversity"}
    bundle = niwaki_runtime.load(found.bundle)
    assert tuple(bundle.sample(2, seed=0).shape) == (2, *samples)


def text(place: Path) -> Path:
    """Sentences of a few words, in an order that a network learns."""
    rng = np.random.default_rng(0)
    words = ["the", "tree", "a", "model", "grows", "small", "and", "never", "ends", "soon"]
    lines = []
    for _ in range(500):
        at = int(rng.integers(10))
        line = []
        for _ in range(12):
            line.append(words[at])
            at = int((at * 3 + rng.integers(1, 4)) % 10)
        lines.append(" ".join(line) + ".")
    path = place / "words.txt"
    path.write_text("\n\n".join(lines))
    return path


def language_folder(place: Path, file: Path) -> Path:
    """A small GPT-2 with a tokenizer of bytes, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    body = file.read_text()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([body], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    network = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(fast), n_embd=32, n_layer=2, n_head=4, n_positions=LENGTH, bos_token_id=0,
            eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    ids = torch.tensor(fast(body)["input_ids"])[: 7 * len(body) // 10]
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(150):
        starts = torch.randint(0, len(ids) - LENGTH, (16,), generator=rng)
        x = torch.stack([ids[s : s + LENGTH] for s in starts])
        optimizer.zero_grad()
        network(x, labels=x).loss.backward()
        optimizer.step()
    network.save_pretrained(place)
    fast.save_pretrained(place)
    return place


@pytest.mark.slow
def test_the_folder_of_a_language_model(tmp_path: Path) -> None:
    file = text(tmp_path)
    folder = language_folder(tmp_path / "gpt2", file)
    found = search(
        folder, [f"data.length={LENGTH}", *EXPORT], budget="size=1MB", time=PLENTY, data=f"text:{file}",
        out=tmp_path / "out",
    )  # fmt: skip
    proven(found, (LENGTH,))


def pipeline_folder(place: Path) -> Path:
    """A small DDPM of digits, trained so that its samples have diversity to lose, as diffusers saves it."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=4, attention_head_dim=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    schedule = diffusers.DDPMScheduler()
    digits = torch.from_numpy(load_digits().images[:1200, None] / 8 - 1).float()
    optimizer, rng = torch.optim.AdamW(network.parameters(), lr=2e-3), torch.Generator().manual_seed(0)
    for step in range(500):
        x = digits[torch.randint(len(digits), (64,), generator=rng)]
        noise, t = torch.randn(x.shape, generator=rng), torch.randint(1000, (64,), generator=rng)
        loss = torch.nn.functional.mse_loss(network(schedule.add_noise(x, noise, t), t).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / 500)
    diffusers.DDPMPipeline(network, schedule).save_pretrained(place)
    return place


@pytest.mark.slow
def test_the_folder_of_a_pipeline(tmp_path: Path) -> None:
    found = search(
        pipeline_folder(tmp_path / "ddpm"), ["model.steps=12", "evaluate.features=[random]", *EXPORT],
        budget="size=4MB", time=PLENTY, data="digits", n=400, out=tmp_path / "out",
    )  # fmt: skip
    proven(found, (1, 8, 8))


@pytest.mark.slow
def test_a_forecaster(tmp_path: Path) -> None:
    recipe = {
        "name": "small",
        "data": {"source": "series", "name": "membrane", "past": 32, "future": 8, "every": 8},
        "model": {"name": "forecaster", "width": 16, "hidden": 32},
        "train": {"steps": 80, "batch": 64, "lr": 2e-3},
        "evaluate": {"features": ["random"], "judges": ["forecast"]},
        "export": {"repeats": 3, "memory": False},
    }
    run = train(recipe_from(recipe), out=tmp_path / "run").path
    found = search(run, budget="size=1MB", time=PLENTY)
    assert found.chosen is not None, found.refusal
    assert set(found.verdict) == {"fidelity", "diversity"}


def test_a_search_whose_beginning_takes_all_of_its_time_says_how_much_it_needs() -> None:
    now = [0.0]
    clock = Clock(60.0, now=lambda: now[0])
    now[0] = 59.0
    _in_time(clock)
    now[0] = 75.0
    with pytest.raises(NiwakiError, match=r"taken 75 s of the 60 s.*at least --time 300s.*goes on"):
        _in_time(clock)
