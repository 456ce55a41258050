"""Language models of `transformers` say with our cache what they say without, and are trained and scored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from small_language import CONFIGS, LENGTH, LEVELS, adapted, network

from niwaki.adapters.language import adapt_language_model, bits_per_token
from niwaki.core.backend import TorchBackend
from niwaki.core.contract import Batch, CallError, Context, DataSpec
from niwaki.data import Split
from niwaki.training import TrainConfig, fit
from niwaki_runtime.samplers.reading import teacher_forced

CONTEXT = Context(0, 0.0, "main", {}, torch.Generator())


def tokens(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2, LEVELS, (n, LENGTH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_cached_logits_are_those_of_transformers(name: str) -> None:
    x = tokens(3)
    fed = F.pad(x[:, :-1], (1, 0), value=0)
    wanted = network(name)(input_ids=fed, use_cache=False).logits.numpy()
    model = adapted(name)
    graphs, backend = model.graphs(), TorchBackend()
    by_strides = teacher_forced(graphs, model.sampler(), x.numpy(), backend)
    one_by_one = teacher_forced(graphs, model.sampler().override(prefill=""), x.numpy(), backend)
    np.testing.assert_allclose(by_strides, wanted, atol=1e-4)
    np.testing.assert_allclose(one_by_one, wanted, atol=1e-4)
    np.testing.assert_allclose(model.logits(x).numpy(), wanted, atol=1e-4)
    assert np.ptp(wanted) > 1.0, "logits that are all alike prove nothing"


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_samples_are_those_of_generate(name: str) -> None:
    model, prompt = adapted(name), tokens(1, 1)[0, :11]
    given = np.full(model.config.prompt, -1)
    given[:11] = prompt
    made = model.sample(1, seed=0, condition=given, temperature=0.0)[0]
    wanted = network(name).generate(
        torch.cat([torch.tensor([0]), prompt])[None],
        attention_mask=torch.ones(1, 12),
        max_new_tokens=LENGTH - 11,
        do_sample=False,
        pad_token_id=1,
    )[0, 1:]
    assert torch.equal(made[: len(wanted)], wanted)
    assert (made[len(wanted) :] == model.config.stop).all()  # both are over at the same token


def test_prompts_of_different_lengths_do_not_disturb_each_other() -> None:
    model = adapted("llama")
    x = tokens(3, 2)
    given = np.full((3, model.config.prompt), -1)
    for i, length in enumerate((13, 0, 5)):
        given[i, :length] = x[i, :length]
    together = model.sample(3, seed=4, condition=given)
    for i, length in enumerate((13, 0, 5)):
        alone = model.sample(1, seed=4, start=i, condition=given[i])
        assert torch.equal(together[i : i + 1], alone)
        assert torch.equal(together[i, :length], x[i, :length])
    assert torch.equal(model.sample(3, seed=4, condition=given, batch=2), together)
    assert torch.equal(model.sample(3, seed=4, condition=given, prefill=""), together)


def test_a_prompt_with_a_gap_is_refused() -> None:
    model = adapted("llama")
    given = np.full(model.config.prompt, -1)
    given[1] = 5
    with pytest.raises(CallError, match="after its end"):
        model.sample(1, seed=0, condition=given)


def test_the_cache_follows_heads_that_are_taken_out() -> None:
    model = adapted("llama")
    with torch.no_grad():
        for layer in model.network.model.layers:  # the second half of all heads: one of two groups
            part = layer.self_attn
            for linear, rows in ((part.q_proj, 16), (part.k_proj, 8), (part.v_proj, 8)):
                linear.weight = torch.nn.Parameter(linear.weight[:rows])
            part.o_proj.weight = torch.nn.Parameter(part.o_proj.weight[:, :16])
    assert {s.shape for s in model.graphs()["decode"].state} == {(1, 1, LENGTH, 8)}
    x = tokens(2)
    with torch.no_grad():
        cached = teacher_forced(model.graphs(), model.sampler(), x.numpy(), TorchBackend())
        np.testing.assert_allclose(cached, model.logits(x).numpy(), atol=1e-4)


@torch.no_grad()
def test_loss_and_likelihood_are_the_cross_entropy_of_the_next_token() -> None:
    model, x = adapted("gpt2"), tokens(4)
    p = network("gpt2")(input_ids=F.pad(x[:, :-1], (1, 0), value=0), use_cache=False).logits.softmax(-1)
    nats = [[-math.log(float(p[i, j, x[i, j]])) for j in range(LENGTH)] for i in range(4)]
    loss = model.loss("nll", Batch({"x": x}), CONTEXT)
    assert float(loss["nll"]) == pytest.approx(np.mean(nats), abs=1e-4)
    np.testing.assert_allclose(model.log_prob(x).numpy(), -np.sum(nats, axis=1), atol=1e-3)
    np.testing.assert_allclose(bits_per_token(model, x), np.mean(nats, 1) / math.log(2), atol=1e-4)


@torch.no_grad()
def test_probabilities_of_all_texts_add_up_to_one() -> None:
    settings = {**CONFIGS["llama"][1], "vocab_size": 5, "max_position_embeddings": 3}
    torch.manual_seed(1)
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    model = adapt_language_model(made, length=3)
    every = torch.cartesian_prod(*[torch.arange(5)] * 3)
    assert float(model.log_prob(every).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_training_lowers_the_bits_of_what_is_learned() -> None:
    model = adapted("llama, tied")
    x = (torch.arange(LENGTH)[None] + 7 * torch.arange(16)[:, None]) % (LEVELS - 2) + 2
    split = Split.of(DataSpec.of("text", (LENGTH,), levels=LEVELS), x.to(torch.uint8))
    before = bits_per_token(model, x).mean()
    fit(model, split, TrainConfig(steps=40, batch=16, lr=1e-2, ema=0.0, precision="fp32"), seed=0)
    assert bits_per_token(model, x).mean() < 0.5 * before
    tied = model.network
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


def test_every_parameter_gets_a_gradient() -> None:
    model = adapted("qwen2")
    model.loss("nll", Batch({"x": tokens(2)}), CONTEXT)["nll"].backward()
    lacking = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not lacking or all("k_proj.bias" in n for n in lacking)  # softmax does not see a key's bias


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"length": 49}, "1 … 48"),
        ({"stride": 7}, "divide the length 32"),
        ({"prompt": 33}, "0 … 32"),
        ({"first": 61}, "first must be a token"),
        ({"stop": -2}, "stop must be a token"),
        ({"tokenizer": 5}, "is no tokenizer"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        adapted("llama", **options)


def test_what_cannot_run_with_the_cache_is_refused() -> None:
    small = {"hidden_size": 32, "n_layer": 1, "n_head": 2, "vocab_size": 20, "num_hidden_layers": 1}
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(**small))
    with pytest.raises(CallError, match=r"BloomForCausalLM cannot be run .* attention of its own"):
        adapt_language_model(bloom, length=8)
    t5 = transformers.T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)
    with pytest.raises(CallError, match="no causal language model"):
        adapt_language_model(transformers.T5ForConditionalGeneration(t5))
    with pytest.raises(CallError, match=r"niwaki\.adapt"):
        adapt_language_model(torch.nn.Linear(2, 2))
    settings = transformers.MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=20, state_size=4)
    with pytest.raises(CallError, match="cannot be run with a cache"):
        adapt_language_model(transformers.MambaForCausalLM(settings), length=8)
