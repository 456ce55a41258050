"""Every network of a pipeline is called once; the one that does not work is named."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from niwaki.adapters.diffusers.first_call import call_once
from niwaki.core.contract import Graph, NiwakiError, Port


class Network(nn.Module):
    def __init__(self, does: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.does = nn.Identity(), does

    def forward(self, x: Tensor) -> Any:
        return self.does(x)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (lambda x: x @ torch.ones(3, 3), r"'decoder' \(Identity\) does not take inputs of shape \(2, 4\)"),
        (lambda x: [][0], "'decoder'.*list index out of range"),
        (lambda x: (x, x), "'decoder' does not return one tensor"),
        (lambda x: x[:1], "'decoder' does not return one tensor"),
        (lambda x: x / 0, "'decoder' makes values that are not finite"),
        (lambda x: x.log(), "'decoder' makes values that are not finite"),
    ],
)
def test_the_network_that_fails_is_named(does: Callable[[Tensor], Any], words: str) -> None:
    parts = {"denoiser": Network(torch.tanh), "decoder": Network(does)}
    graphs = {name: Graph(name, part, (Port("x", (1, 4)),)) for name, part in parts.items()}
    model: Any = SimpleNamespace(graphs=lambda: graphs)
    with pytest.raises(NiwakiError, match=words):
        call_once(model)
    del graphs["decoder"]
    call_once(model)
