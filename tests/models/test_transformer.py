"""The causal transformer: causality, its cache, its probabilities, its prompts."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import WORDS, batch, context, make

from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Tokens, ValueSpec
from niwaki.deployment import export_graphs, package
from niwaki.models import load_model, save_model
from niwaki.nn.layers.causal import Rotary, rotate
from niwaki_runtime import load as load_bundle

CODES = DataSpec({"x": ValueSpec("series", (9,), "T", Tokens(5))})


def loud(spec: DataSpec = CODES, **changes: Any) -> GenerativeModel:
    """With weights so large that every token matters to all later ones."""
    model = make("transformer", spec, **changes)
    torch.manual_seed(1)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model


def one_by_one(model: GenerativeModel, x: torch.Tensor) -> torch.Tensor:
    """Logits by `decode` alone, the cache written by hand."""
    graph = model.graphs()["decode"]
    state = [torch.from_numpy(s.zeros(len(x))) for s in graph.state]
    token, rows = torch.full((len(x),), model.spec.levels), []
    for i in range(x.shape[1]):
        logits, *news = graph(token, torch.tensor([i]), *state)
        for held, new in zip(state, news, strict=True):
            held[:, :, i : i + 1] = new
        rows.append(logits)
        token = x[:, i]
    return torch.stack(rows, 1)


def test_no_token_depends_on_itself_or_on_later_ones_in_training_mode() -> None:
    """d logits[i] / d embedding[j] is zero for j ≥ i, and not for j < i: by gradients, with dropout."""
    model = loud(dropout=0.3).train()
    x = batch(CODES, n=2).x
    fed: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        fed.append(out.detach().requires_grad_(True))
        return fed[-1]

    handle = model.embed.register_forward_hook(keep)
    torch.manual_seed(0)
    logits = model.logits(x)
    handle.remove()
    for i in range(x.shape[1]):
        (g,) = torch.autograd.grad(logits[:, i].square().sum(), fed[0], retain_graph=True)
        seen = g.abs().sum((0, 2))  # by position of what was fed; 0 is the token before the first
        assert (seen[i + 1 :] == 0).all()
        assert float(seen[0]) > 0
        assert float(seen[i]) > 0


@pytest.mark.parametrize("stride", [1, 4, 5, 9, 40])
def test_reading_by_strides_and_one_by_one_give_the_logits_of_training(stride: int) -> None:
    model = loud(stride=stride).eval()
    x = batch(CODES, n=3).x
    with torch.no_grad():
        wanted = model.logits(x)
        torch.testing.assert_close(one_by_one(model, x), wanted, atol=2e-5, rtol=0)
        forced = model.sampler().forced(model.callable_graphs(), x.numpy(), model.backend())
    np.testing.assert_allclose(forced, torch.log_softmax(wanted.double(), -1).numpy(), atol=2e-5)


def test_generation_with_a_cache_equals_generation_without() -> None:
    """Token for token: each is the greedy one of the whole network on what was made before."""
    model = loud().eval()
    made = model.sample(4, seed=0, temperature=0.0)
    with torch.no_grad():
        for i in range(made.shape[1]):
            part = made.clone()
            part[:, i:] = 0  # whatever comes later must not matter
            assert torch.equal(model.logits(part)[:, i].argmax(-1), made[:, i])


def test_probabilities_of_all_sequences_add_up_to_one() -> None:
    spec = DataSpec({"x": ValueSpec("text", (4,), "T", Tokens(3)), "class": ValueSpec.label(2)})
    model = loud(spec).eval()
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for label in range(2):
        asked = {"x": every, "class": torch.full((81,), label)}
        total = model.run("log_prob", 81, inputs=asked).double().exp().sum()
        assert float(total) == pytest.approx(1.0, abs=1e-5)


def test_samples_have_the_frequencies_that_log_prob_says() -> None:
    """χ² over all 27 sequences, 26 degrees of freedom: below its 99.9 % quantile."""
    spec = DataSpec({"x": ValueSpec("text", (3,), "T", Tokens(3))})
    model = loud(spec).eval()
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    p = model.run("log_prob", 27, inputs={"x": every}).double().exp()
    n = 20_000
    made = model.sample(n, seed=3)
    counts = torch.bincount((made * torch.tensor([9, 3, 1])).sum(1), minlength=27).double()
    assert float(((counts - n * p) ** 2 / (n * p)).sum()) < 54.05


def test_a_prompt_is_kept_and_what_follows_is_conditioned_on_it() -> None:
    model = loud(WORDS, dropout=0.0).eval()
    longest = model.program("continue").inputs["prompt"].shape[0]
    assert longest == 23
    prompt = np.full((3, longest), -1)
    prompt[0, :2], prompt[1, :7] = [1, 4], [0, 1, 2, 3, 4, 5, 6]  # the third has none
    asked = {"prompt": prompt, "class": [0, 1, 2]}
    made = model.run("continue", 3, seed=5, inputs=asked)
    assert made[0, :2].tolist() == [1, 4]
    assert made[1, :7].tolist() == [0, 1, 2, 3, 4, 5, 6]
    free = model.sample(3, seed=5, condition=[0, 1, 2])
    assert torch.equal(made[2], free[2])
    greedy = model.run("continue", 3, inputs=asked, temperature=0.0)
    with torch.no_grad():
        best = model.logits(greedy, torch.tensor([0, 1, 2])).argmax(-1)
    assert torch.equal(greedy[0, 2:], best[0, 2:])
    assert torch.equal(greedy[1, 7:], best[1, 7:])
    assert "continue" not in make("transformer", WORDS, prompt=0).programs()


def test_labels_dropped_in_training_can_be_left_out_when_asking() -> None:
    model = make("transformer", WORDS, conditioning={"drop": 0.5})
    data = batch(WORDS, n=64)
    model.train()
    losses = {float(model.loss("nll", data, context(s))["nll"].detach()) for s in (1, 1, 2)}
    assert len(losses) >= 2
    with pytest.raises(CallError, match="sequences of tokens"):
        make("transformer", DataSpec.of("series", (2, 8)))
    asked = model.sample(2, seed=0, condition=3)  # 3 is "nothing asked" of 3 classes
    assert asked.shape == (2, 24)
    with pytest.raises(CallError, match="can be asked by labels"):
        make("transformer", WORDS, conditioning={"columns": ("x",)})


def test_rotation_keeps_lengths_and_makes_products_depend_on_distance() -> None:
    rotary = Rotary(40, 8)
    q, k = (torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(s)).double() for s in (0, 1))

    def product(i: int, j: int) -> float:
        a, b = (rotate(x, rotary(torch.tensor([at]))) for x, at in ((q, i), (k, j)))
        torch.testing.assert_close(a.norm(), q.norm(), atol=1e-6, rtol=0)
        return float((a * b).sum())

    assert product(3, 1) == pytest.approx(product(30, 28), abs=1e-5)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-3)


def test_the_tokenizer_travels_and_a_bundle_continues_as_the_model_does(tmp_path: Path) -> None:
    model = loud(WORDS, depth=1).eval()
    model.files = {"tokenizer.json": '{"a": 1}'}
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.files == model.files
    bundle = load_bundle(
        package(again, export_graphs(again, tmp_path / "graphs"), tmp_path / "t.niwaki"), precision="exact"
    )
    assert bundle.files == model.files
    assert list(bundle.programs()) == ["sample", "continue", "codec"]
    prompt = np.full(23, -1)
    prompt[:6] = [3, 3, 1, 0, 2, 6]
    asked = {"prompt": prompt, "class": 1}
    for seed in (0, 1):
        wanted = model.run("continue", 3, seed=seed, inputs=asked).numpy()
        assert np.array_equal(np.asarray(bundle.run("continue", 3, seed=seed, inputs=asked)), wanted)
