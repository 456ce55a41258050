"""Models of tokens: steps are the network of training, nothing later is seen, and each layer is what its
paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import make
from torch import Tensor, nn

from niwaki.core.contract import DataSpec, ValueSpec
from niwaki.models.autoregressive.token_model import TokenModel
from niwaki.nn.layers.recurrent import Gru, Lstm, RecurrentLayer
from niwaki.nn.layers.selective_scan import scan, scan_step
from niwaki_runtime.specs import Tokens

WORDS = DataSpec({"x": ValueSpec("text", (19,), "T", Tokens(7)), "class": ValueSpec.label(3)})
PLAIN = DataSpec({"x": ValueSpec("text", (19,), "T", Tokens(7))})
MEMORY = {"orders": (1, 2, 4), "slots": 512, "successors": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("transformer", {}),
    "transformer-learned": ("transformer", {"positions": "learned", "feed_forward": "gelu", "bias": True}),
    "transformer-llama": ("transformer", {"norm": "rms", "feed_forward": "swiglu", "kv_heads": 1}),
    "transformer-window": ("transformer", {"window": 4}),
    "transformer-memory": ("transformer", {"memory": MEMORY}),
    "lstm": ("lstm", {}),
    "lstm-memory": ("lstm", {"memory": MEMORY}),
    "gru": ("gru", {}),
    "state-space": ("state-space", {}),
    "state-space-short": ("state-space", {"kernel": 2, "state": 3}),
}
each = pytest.mark.parametrize(("name", "changes"), CASES.values(), ids=CASES)


def stirred(name: str, spec: DataSpec, **changes: Any) -> TokenModel:
    model = make(name, spec, **changes)
    assert isinstance(model, TokenModel)
    rng = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=rng)
    if model.memory is not None:
        model.memory.remember(torch.randint(7, (9, 19), generator=rng))
    return model


def labels(model: TokenModel, n: int) -> tuple[Tensor, ...]:
    return tuple(torch.arange(n) % 3 for _ in model.conditions)


@pytest.mark.parametrize("spec", [WORDS, PLAIN], ids=["labels", "plain"])
@each
def test_steps_are_the_network_of_training(name: str, changes: dict[str, Any], spec: DataSpec) -> None:
    model = stirred(name, spec, **changes).eval()
    x = torch.randint(7, (3, 19), generator=torch.Generator().manual_seed(0))
    asked = labels(model, 3)
    graph = model.graphs()["decode"]
    state = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    with torch.no_grad():
        whole = model.logits(x, *asked)
        token = torch.full((3,), 7)
        for t in range(19):
            logits, *news = graph(token, torch.tensor([t]), *asked, *state)
            torch.testing.assert_close(logits, whole[:, t], atol=1e-4, rtol=1e-4)
            state = [_written(old, new, t) for old, new in zip(state, news, strict=True)]
            token = x[:, t]


def _written(old: Tensor, new: Tensor, at: int) -> Tensor:
    """A cache gets its new row; a state is replaced."""
    if old.shape == new.shape:
        return new
    axis = next(i for i, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)) if a != b)
    old.narrow(axis, at, 1).copy_(new)
    return old


@each
def test_a_token_depends_on_those_before_it_alone(name: str, changes: dict[str, Any]) -> None:
    """By gradients, in training mode."""
    model = stirred(name, PLAIN, **changes).train()
    stream = torch.randn(1, 19, model.config.width, requires_grad=True)
    torch.manual_seed(0)
    out = model.think(stream)
    for t in range(19):
        (grad,) = torch.autograd.grad(out[0, t].sum(), stream, retain_graph=True)
        seen = grad[0].abs().sum(1) > 0
        assert not seen[t + 1 :].any()
        assert seen[: t + 1].any()
        assert seen[t]


@each
def test_greedy_samples_are_the_argmax_of_the_whole_network(name: str, changes: dict[str, Any]) -> None:
    model = stirred(name, PLAIN, **changes).eval()
    x = model.sample(4, seed=0, temperature=0.0)
    with torch.no_grad():
        assert torch.equal(model.logits(x).argmax(-1), x)


@pytest.mark.parametrize(("ours", "theirs"), [(Lstm, nn.LSTM), (Gru, nn.GRU)], ids=["lstm", "gru"])
def test_cells_are_those_of_torch(ours: type[RecurrentLayer], theirs: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    a, b = ours(5, 6), theirs(5, 6, batch_first=True)  # type: ignore[call-arg]
    with torch.no_grad():
        b.weight_ih_l0.copy_(a.inner.weight)
        b.bias_ih_l0.copy_(a.inner.bias)
        b.weight_hh_l0.copy_(a.outer.weight)
        b.bias_hh_l0.copy_(a.outer.bias)
    x = torch.randn(3, 11, 5)
    torch.testing.assert_close(a(x), b(x)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
@pytest.mark.parametrize("length", [1, 7, 33])
def test_the_scan_is_the_loop(length: int, chunk: int) -> None:
    rng = torch.Generator().manual_seed(length)
    x = torch.randn(2, length, 3, 4, generator=rng, dtype=torch.float64)
    decay = -torch.rand(2, length, 3, generator=rng, dtype=torch.float64) * 5
    b, c = (torch.randn(2, length, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    state, said = torch.zeros(2, 3, 4, 6, dtype=torch.float64), []
    for t in range(length):
        y, state = scan_step(x[:, t], decay[:, t], b[:, t], c[:, t], state)
        said.append(y)
    torch.testing.assert_close(scan(x, decay, b, c, chunk), torch.stack(said, 1), atol=1e-10, rtol=1e-10)


def test_the_scan_survives_fast_decay() -> None:
    """e^(−total) would overflow; differences of sums do not."""
    x, b = torch.ones(1, 64, 1, 1), torch.ones(1, 64, 1)
    decay = torch.full((1, 64, 1), -50.0, requires_grad=True)
    y = scan(x, decay, b, b)
    torch.testing.assert_close(y, torch.ones_like(y))
    (grad,) = torch.autograd.grad(y.sum(), decay)
    assert torch.isfinite(grad).all()
