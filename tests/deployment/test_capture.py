"""A module is exported for every batch or refused in words for its author, not the exporter's."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Graph, NiwakiError, Port
from niwaki.deployment.bake import bake
from niwaki.deployment.capture import capture
from niwaki.deployment.export import OPSET, to_onnx


class Does(nn.Module):
    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(8, 8), then

    def forward(self, z: Tensor) -> Tensor:
        return self.then(self.linear(z))


def graph_of(then: Callable[[Tensor], Tensor]) -> Graph:
    return Graph("generator", Does(then).eval(), (Port("z", (1, 8)),))


def refused(then: Callable[[Tensor], Tensor]) -> str:
    graph = graph_of(then)
    with pytest.raises(NiwakiError) as caught:
        to_onnx("mine", graph, bake(graph.module))
    return str(caught.value)


BRANCHES = {
    "above": lambda x: torch.cat([part * 0.5 for part in x.split(2)]) if x.shape[0] > 4 else x,
    "far above": lambda x: x * 2 if x.shape[0] > 100 else x,
    "below": lambda x: x * 2 if x.shape[0] < 3 else x,
    "even": lambda x: x * 2 if x.shape[0] % 2 == 0 else x,
    "one of them": lambda x: x * 2 if x.shape[0] == 7 else x,
    "not three": lambda x: x if x.shape[0] == 3 else x * 2,
    "size": lambda x: x * 2 if x.numel() > 64 else x,
    "loop": lambda x: torch.stack([row * 2 for row in x]),
    "chunks": lambda x: torch.cat([part * 2 for part in x.chunk(4)]),
    "length": lambda x: x.reshape(len(x), 2, 4),
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_what_differs_from_batch_to_batch_is_refused(kind: str) -> None:
    said = refused(BRANCHES[kind])
    assert re.search(r"another with the rest|something else with|only works for the batch", said)


def test_a_branch_is_named_with_its_bound() -> None:
    assert "up to 4 samples" in refused(BRANCHES["above"])
    assert "something else with 7 samples than with 3" in refused(BRANCHES["one of them"])


@pytest.mark.parametrize(
    "then",
    [
        lambda x: x * x.shape[0],
        lambda x: torch.cat([x[:4] * 2, x[4:]]),
        lambda x: x if x.shape[1] > 4 else x * 2,
        lambda x: x.expand(2, *x.shape).reshape(-1, 8)[: x.shape[0]],
        lambda x: x - x.mean(0),
    ],
)
def test_arithmetic_with_the_batch_is_followed(then: Callable[[Tensor], Tensor]) -> None:
    capture("mine", graph_of(then), graph_of(then).module)


NOISES = [
    lambda x: x + torch.randn_like(x),
    lambda x: x + torch.rand(x.shape[0], 8),
    lambda x: F.dropout(x, 0.5),
    lambda x: x * torch.bernoulli(torch.sigmoid(x)),
    lambda x: x + torch.empty_like(x).normal_(),
]


@pytest.mark.parametrize("then", NOISES)
def test_noise_in_a_graph_is_refused_with_its_place(then: Callable[[Tensor], Tensor]) -> None:
    assert re.search(r"draws noise itself \(\w+ at test_capture.py:\d+", refused(then))


def test_what_only_could_drop_is_no_noise() -> None:
    def attends(x: Tensor) -> Tensor:
        x = F.dropout(F.rrelu(x), 0.5, training=False)
        return F.scaled_dot_product_attention(*[x.view(-1, 1, 4, 2)] * 3)

    capture("mine", graph_of(attends), graph_of(attends).module)


class Foreign:
    """An object that torch does not know."""


VALUES = r"decides by the values of a tensor at test_capture.py:\d+"
WORDS = {
    "operator": (torch.special.bessel_j0, r"no form of the operator bessel_j0 at test_capture.py:\d+"),
    "algebra": (lambda x: torch.linalg.svd(x.view(-1, 2, 4))[1], r"no form of the operator linalg_svd at"),
    "values": (lambda x: x if x.sum() > 0 else -x, VALUES),
    "item": (lambda x: x * 2 if x.max().item() > 1 else x, VALUES),
    "type": (lambda x: x + Foreign(), r"cannot be followed at test_capture.py:\d+"),
    "shape": (lambda x: x @ torch.ones(3, 3), r"cannot be followed at test_capture.py:\d+"),
}


@pytest.mark.parametrize("kind", WORDS)
def test_a_refusal_says_what_was_seen_and_where(kind: str) -> None:
    then, words = WORDS[kind]
    said = refused(then)
    assert re.search(words, said), said
    assert "\n" not in said
    assert not re.search(r"torch\.onnx|OpOverload|Symbolic|SymInt|Fake|dynamo|fx\.|<class|TORCH_LOGS", said)


def test_the_opset_is_as_high_as_the_operators_need() -> None:
    def volume(x: Tensor) -> Tensor:
        places = torch.tanh(x).view(-1, 1, 2, 4, 1)[..., :1].expand(-1, 1, 2, 4, 3)
        return F.grid_sample(x.view(-1, 1, 2, 2, 2), places, align_corners=False)

    found = {}
    for name, then in {"plain": torch.tanh, "volume": volume}.items():
        graph = graph_of(then)
        found[name] = to_onnx("g", graph, bake(graph.module)).opset_import[0].version
    assert found == {"plain": OPSET, "volume": 20}
