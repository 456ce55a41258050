"""Residual branches that are left out in training: what is left out, how often, and that the mean stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_cases import case_of, context, first_that_fits, make
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Phase, Trainable
from niwaki.data import Split
from niwaki.nn.layers.causal import CausalBlock
from niwaki.nn.stochastic_depth import branches_of, drop_branches, keep_branches
from niwaki.training import TrainConfig, fit

MODELS = {
    "audio-codec": {"out", "down"},
    "cyclegan": {"body"},
    "ddpm": {"conv2", "out"},
    "dit": {"out", "down"},
    "edm with magnitude-preserving": {"conv2", "out"},
    "flowpp": {"out", "value"},
    "gated-pixelcnn": {"out", "vertical_out"},
    "hierarchical-vae": {"last"},
    "lstm": {"cells"},
    "pixelcnn": {"up"},
    "r3gan": {"body"},
    "state-space": {"out"},
    "stylegan2": {"body"},
    "transformer": {"out", "down"},
    "transformer-gan": {"out", "narrow"},
    "video-diffusion": {"conv", "conv2"},
    "vqvae": {"out", "down"},
    "wavenet": {"out"},
}
"""Model → the last words of the modules that its branches end with."""
METHODS = ("forward", "see_above", "see_left", "widen", "receive", "think")
"""What adds a branch to what a block is given."""


def observed(model: nn.Module, run: Callable[[], Any]) -> dict[str, tuple[Callable[..., Any], Any, Any]]:
    """Of each kind of block a method that adds its branch, and the arguments that it was last called with."""
    calls: dict[str, tuple[Callable[..., Any], Any, Any]] = {}
    for block in model.modules():
        for name in METHODS if hasattr(block, "residual_ends") else ():
            plain = getattr(block, name, None)
            if plain is None or (name == "forward" and isinstance(block, type(model))):
                continue

            def called(
                *args: Any, of: Any = plain, key: str = f"{type(block).__name__}.{name}", **named: Any
            ):
                calls[key] = of, args, named
                return of(*args, **named)

            object.__setattr__(block, name, called)
    run()
    return calls


def parts(made: Any) -> Tensor:
    return torch.cat([one.flatten() for one in (made if isinstance(made, tuple) else (made,))])


@pytest.mark.parametrize("name", MODELS)
def test_a_block_is_linear_in_what_its_branch_ends_with(name: str) -> None:
    """So x + (b / p) f has the mean x + f: with f left out and doubled, the mean is the block itself."""
    kind, _, network = name.partition(" with ")
    case = (
        first_that_fits(kind, {"network": {"name": network}})
        if network
        else case_of(name) or first_that_fits(name)
    )
    model = case.model().eval()
    torch.manual_seed(0)
    for parameter in model.parameters():  # what begins at zero would hide a branch
        parameter.data += 0.1 * torch.randn_like(parameter)
    ends = {end: module for block in branches_of(model) for end, module in block.items()}
    assert {[w for w in end.split(".") if not w.isdigit()][-1] for end in ends} == MODELS[name]
    batch = case.batch(2)

    def run() -> None:
        for phase in model.phases():
            model.loss(phase.name, batch, context())

    fired: list[nn.Module] = []
    for module in ends.values():
        module.register_forward_hook(lambda module, inputs, output: fired.append(module))
    calls = observed(model, run)
    assert calls
    with torch.no_grad():
        for method, args, named in calls.values():
            fired.clear()
            plain = parts(method(*args, **named)).double()
            changed = []
            for factor in (0.0, 2.0) if fired else ():  # the branch that is added last
                handle = fired[-1].register_forward_hook(lambda m, i, out, by=factor: out * by)
                changed.append(parts(method(*args, **named)).double())
                handle.remove()
                assert not torch.equal(changed[-1], plain), method
            if changed:
                torch.testing.assert_close(sum(changed) / 2, plain, rtol=1e-3, atol=1e-4)


def test_the_share_rises_linearly_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"a": nn.ModuleList(CausalBlock(4, 1, 8) for _ in range(4)), "b": CausalBlock(4, 1, 8)}
    )
    x = torch.randn(1, 3, 4)
    whole = {name: block(x) for name, block in (("first", model["a"][0]), ("last", model["b"]))}
    assert drop_branches(model, ("a", "b"), 0.5) == 5
    with torch.no_grad():
        for block, name, share in ((model["a"][0], "first", 0.125), (model["b"], "last", 0.5)):
            rows = block(x.expand(40_000, 3, 4))
            skipped = (rows == x).all((1, 2)).double().mean()
            assert skipped == pytest.approx(share**2, abs=0.01)  # both halves of the block
            if name == "last":
                half = x + block.attention(block.norm1(x).expand(40_000, 3, 4)).mean(0)
                exact = x + block.eval().attention(block.norm1(x))
                assert (half - exact).abs().max() < 0.02
                assert torch.equal(block(x), whole[name])  # off in evaluation
    model.train()
    keep_branches(model)
    assert torch.equal(model["b"](x), whole["last"])


class Blocks(Trainable):
    """Sequences of four numbers through two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(CausalBlock(4, 1, 8), CausalBlock(4, 1, 8))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", ("net",)),)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        return {"square": self.net(batch.x[:, None]).square().mean()}


def test_a_training_draws_it_from_the_step_and_leaves_no_trace() -> None:
    split = Split.of(
        DataSpec.of("vector", (4,)), torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    )
    config = TrainConfig(steps=4, batch=8, drop_path=0.3, checkpoint_every=2, precision="fp32", log_every=1)
    ends = []
    for changes in ({}, {}, {"drop_path": 0.0}):
        torch.manual_seed(0)
        model = Blocks()
        fit(model, split, config.model_copy(update=changes), seed=0)
        assert not any(m._forward_hooks for m in model.modules())
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_network_without_branches_is_refused() -> None:
    spec = DataSpec.of("image", (1, 8, 8))
    split = Split.of(spec, torch.zeros(8, 1, 8, 8))
    with pytest.raises(CallError, match="nothing that the stage 'main' trains has any"):
        fit(make("vae", spec), split, TrainConfig(steps=1, batch=4, drop_path=0.1), seed=0)
