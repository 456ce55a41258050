"""Every trap of structured pruning: nothing is broken, nothing is cut in the wrong place."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from compression import small_models
from compression.small_models import Config, SmallGan
from torch import Tensor, nn

from niwaki.compression import PruneConfig, prune
from niwaki.compression.forward import losses, outputs
from niwaki.compression.pruning.channels import pruned
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, couplings, cuts_of
from niwaki.compression.pruning.importance.channels import importance_of
from niwaki.compression.pruning.trial import Trial
from niwaki.compression.seeds import CALIBRATION
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, NiwakiError
from niwaki.models import load_model, save_model
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig
from niwaki.models.registry import build
from niwaki.surgery.cuts import find, scale, width
from niwaki.surgery.edits import apply_edits

BODIES = ["plain", "transposed", "hard"]


def member(coupling: Coupling, name: str) -> bool:
    return any(m.module == name for m in coupling.members)


def of(model: GenerativeModel, name: str) -> Coupling:
    """The coupling in which the outputs of `name` are."""
    return next(c for c in couplings(model) if any((m.module, m.side) == (name, "out") for m in c.members))


@pytest.mark.parametrize("body", BODIES)
def test_dead_channels_can_be_cut_without_a_trace(body: str) -> None:
    """Channels that nothing uses (their outgoing weights are zero, whatever makes them) are cut exactly."""
    model = small_models.gan(body).eval()
    trial, removed = Trial(model), []
    for coupling in map(trial.tried, couplings(model)):
        if coupling.protected:
            continue
        size = coupling.units // coupling.blocks
        units = tuple(b * size + u for b in range(coupling.blocks) for u in range(1, size, 3))
        if coupling.blocks > 1 and any(
            isinstance(find(model, m.module), nn.GroupNorm) for m in coupling.members
        ):
            units = tuple(range(size))  # a norm mixes the channels of a group: whole groups go
        removed.append((coupling, units))
        for m in coupling.members:
            if m.side == "in":
                factors = torch.ones(width(find(model, m.module), "in"))
                factors[[p for u in units for p in m.positions[u]]] = 0.0
                scale(find(model, m.module), "in", factors)
    assert len(removed) >= 2
    before = outputs(model)
    apply_edits(model, cuts_of(model, removed))
    for a, b in zip(before, outputs(model), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-6)


def test_the_layers_of_every_trap_are_found_together() -> None:
    model = small_models.gan("hard")
    stream = of(model, "generator.conv1")
    for layer in ("constant", "film", "embed", "depth", "point", "conv1", "join"):
        assert member(stream, f"generator.{layer}"), layer
    film = next(m for m in stream.members if m.module == "generator.film")
    assert film.positions[3] == (3, 16 + 3)  # scale and shift of channel 3
    join = next(m for m in stream.members if m.module == "generator.join")
    assert join.positions[3] == (3,)
    gated = of(model, "generator.grouped")
    assert gated.blocks == 4
    joined = next(m for m in gated.members if m.module == "generator.join")
    assert joined.positions[3] == (16 + 3,)  # behind the first part of the concatenation
    flat = next(m for m in of(model, "generator.join").members if m.module == "generator.flat")
    assert flat.positions[2] == tuple(range(32, 48))  # sixteen pixels of channel 2


def test_skip_concatenations_of_a_unet_land_behind_each_other() -> None:
    model = small_models.ddpm()
    skip = next(m for m in of(model, "unet.first").members if m.module == "unet.up1.conv1")
    assert skip.positions[0] == (16,)
    grown = next(m for m in of(model, "unet.grow").members if m.module == "unet.up1.conv1")
    assert grown.positions[0] == (0,)


def test_outputs_inputs_and_state_keep_their_width() -> None:
    for model, name in [
        (small_models.gan("transposed"), "generator.embed"),  # multiplied with the latent
        (small_models.gan("hard"), "generator.last"),
        (small_models.flow(), "layers.0.net.4"),
        (small_models.recurrent(), "cell.hidden"),
    ]:
        coupling = Trial(model).tried(of(model, name))
        assert coupling.protected, name
        done = pruned(model, PruneConfig(ratio=0.5, round_to=1, min_width=2))
        assert width(find(done.model, name), "out") == width(find(model, name), "out")


def test_a_wrong_position_is_noticed_on_the_trial_copy() -> None:
    """The trial is what stands between a guess of the tracer and a broken model: it must not pass a wrong
    one."""
    model = small_models.gan("plain")
    coupling, trial = of(model, "generator.conv1"), Trial(model)
    assert not trial.tried(coupling).protected
    for k, one in enumerate(coupling.members):
        shifted = replace(one, positions=(*one.positions[1:], one.positions[0]))
        wrong = replace(coupling, members=(*coupling.members[:k], shifted, *coupling.members[k + 1 :]))
        assert trial.tried(wrong).protected, one
        fewer = replace(coupling, members=(*coupling.members[:k], *coupling.members[k + 1 :]))
        assert trial.tried(fewer).protected, one


class Stubborn(nn.Module):
    """Reshapes by a number noted when it was built, shares weights, pairs channels by place."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.noted = nn.Linear(12, 16), nn.Linear(16, 16)
        self.tied1, self.tied2 = nn.Linear(16, 16), nn.Linear(16, 16)
        self.tied2.weight = self.tied1.weight
        self.paired, self.last = nn.Linear(16, 16), nn.Linear(16, 64)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = torch.relu(self.noted(torch.relu(self.spare(z)))).reshape(-1, 4, 4).transpose(1, 2)
        h = self.paired(torch.relu(self.tied2(torch.relu(self.tied1(h.reshape(-1, 16))))))
        return torch.tanh(self.last(h * h.flip(1))).unflatten(1, (1, 8, 8))


def test_layers_that_cannot_change_are_found_and_the_rest_is_cut() -> None:
    model = SmallGan(Config(), small_models.IMAGE)
    model.generator = Stubborn()
    done = pruned(model, PruneConfig(ratio=0.5, round_to=1, min_width=2))
    g = done.model.generator
    assert width(g.spare, "out") == 8
    assert [width(m, "out") for m in (g.noted, g.tied1, g.tied2)] == [16] * 3
    assert set(done.skipped) >= {"generator.noted:out"}
    pairs = next(c.keep for c in done.model.surgery if (c.module, c.side) == ("generator.paired", "out"))
    assert len(pairs) == 8
    assert {15 - k for k in pairs} == set(pairs)  # a channel and its mirror image stay or go together


class PixelNorm(nn.Module):
    """Divides by a mean over all channels (Karras et al. 2018): with fewer, another mean, and still right."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.conv = nn.Linear(12, 16 * 16), nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.ConvTranspose2d(16, 1, 4, 2, 1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = torch.relu(self.start(z)).unflatten(1, (-1, 4, 4))
        h = torch.relu(self.conv(h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-8)))
        return torch.tanh(self.last(h * torch.rsqrt(h.square().mean(1, keepdim=True) + 1e-8)))


def test_what_looks_at_the_number_of_channels_is_still_cut_rightly() -> None:
    model = SmallGan(Config(), small_models.IMAGE)
    model.generator = PixelNorm()
    done = pruned(model, PruneConfig(ratio=0.5, round_to=1, min_width=2))
    assert done.widths == {"generator.conv:out": (16, 8), "generator.start:out": (16, 8)}


def test_what_only_training_uses_is_left_alone_and_still_fits() -> None:
    model = small_models.gan("plain")
    done = prune(model, ratio=0.5, round_to=1, min_width=2)
    for a, b in zip(model.critic.parameters(), done.critic.parameters(), strict=True):
        assert torch.equal(a, b)
    assert set(losses(done)) == {"critic", "generator"}


def test_both_views_of_a_flow_stay_inverse() -> None:
    model = prune(small_models.flow(), ratio=0.5, round_to=1, min_width=2).double()
    assert {width(m, "out") for layer in model.layers for m in (layer.net[0], layer.net[2])} == {8}
    x = torch.randn(64, 6, dtype=torch.float64)
    torch.testing.assert_close(model.invert(model.encode(x)), x, rtol=0, atol=1e-12)


def test_the_original_is_untouched_and_the_cuts_are_recorded() -> None:
    model = small_models.gan("plain")
    before = copy.deepcopy(model.state_dict())
    done = prune(model, ratio=0.5, round_to=1, min_width=2, rounds=2)
    assert model.surgery == ()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    replayed = small_models.gan("plain")  # the same weights from the same seed
    apply_edits(replayed, done.surgery)
    for a, b in zip(outputs(done), outputs(replayed.eval()), strict=True):
        assert torch.equal(a, b)


def test_the_least_important_channels_go_first() -> None:
    model = small_models.gan("plain")
    with torch.no_grad():
        weak = [1, 4, 9, 12]
        for name, side in (("conv1", 0), ("conv2", 1)):
            getattr(model.generator, name).weight.movedim(side, 0)[weak] *= 1e-3
        model.generator.norm1.weight[weak] = 1e-3
    done = prune(model, ratio=0.25, round_to=1, min_width=2)
    kept = next(c.keep for c in done.surgery if c.module == "generator.norm1")
    assert kept == tuple(i for i in range(16) if i not in weak)


def test_magnitude_is_the_group_norm_over_its_mean() -> None:
    model = small_models.gan("plain")
    coupling = of(model, "generator.conv1")
    g = model.generator
    squares = [g.conv1.weight.flatten(1), g.conv1.bias[:, None], g.conv2.weight.transpose(0, 1).flatten(1)]
    squares += [g.norm1.weight[:, None], g.norm1.bias[:, None]]
    norm = torch.cat(squares, 1).double().square().sum(1).sqrt()
    (score,) = importance_of("magnitude")(model, [coupling])
    torch.testing.assert_close(score, (norm / norm.mean()).detach())
    assert importance_of("magnitude")(model, [coupling])[0].mean() == pytest.approx(1.0)


def test_activation_is_what_a_channel_carries_times_the_weights_it_meets() -> None:
    model = small_models.gan("plain").eval()
    coupling = of(model, "generator.conv2")
    seen: list[Tensor] = []
    handle = model.generator.last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.sample(32, seed=CALIBRATION)
    handle.remove()
    power = torch.cat(seen).double().square().mean((0, 2, 3))
    expected = (power * model.generator.last.weight.double().square().sum((0, 2, 3))).sqrt()
    (score,) = importance_of("activation")(model, [coupling])
    torch.testing.assert_close(score, (expected / expected.mean()).detach())
    with torch.no_grad():  # the scale before a normalization means nothing
        for value in (
            model.generator.conv2.weight,
            model.generator.conv2.bias,
            model.generator.norm2.running_mean,
        ):
            value[:4] *= 100.0
        model.generator.norm2.running_var[:4] *= 1e4
    torch.testing.assert_close(importance_of("activation")(model, [coupling])[0], score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "widths"),
    [
        ({"ratio": 0.5, "round_to": 8, "min_width": 8}, {8, 16}),  # 16 → 8, and 8 stays
        ({"ratio": 0.3, "round_to": 4, "min_width": 4}, {12, 8}),  # 11.2 → 12; 5.6 of 8 → 4·1.4 → 4 or 8
        ({"ratio": 0.7, "round_to": 1, "min_width": 6}, {6}),
    ],
)
def test_widths_are_rounded_and_never_below_the_least(settings: dict[str, float], widths: set[int]) -> None:
    done = pruned(small_models.gan("plain"), PruneConfig.model_validate(settings))
    after = {a for _, a in done.widths.values()}
    assert min(after) >= min(settings["min_width"], 8)
    assert all(a % settings["round_to"] == 0 or a == b for b, a in done.widths.values())
    assert after & widths


def test_a_global_ranking_takes_more_where_the_channels_are_weak() -> None:
    model = small_models.gan("plain")
    with torch.no_grad():  # half of one layer's channels hardly exist
        model.generator.conv1.weight[8:] *= 1e-3
        model.generator.norm1.weight[8:] = 1e-3
        model.generator.conv2.weight[:, 8:] *= 1e-3
    done = pruned(model, PruneConfig(ratio=0.25, round_to=1, min_width=2, ranking="global"))
    lost = {k: b - a for k, (b, a) in done.widths.items()}
    assert lost["generator.conv1:out"] >= 8 > lost["generator.conv2:out"]
    assert sum(lost.values()) == pytest.approx(0.25 * sum(b for b, _ in done.widths.values()), abs=1)


def test_rounds_end_where_one_cut_would_and_train_in_between() -> None:
    seen: list[int] = []

    def recover(model: GenerativeModel, k: int) -> GenerativeModel:
        seen.append(model.generator.conv1.out_channels)
        return model

    done = prune(small_models.gan("plain"), ratio=0.5, rounds=4, round_to=1, min_width=2, recover=recover)
    assert seen == [14, 12, 10]
    assert done.generator.conv1.out_channels == 8


def test_excluded_and_not_offered_layers_keep_their_width() -> None:
    model = small_models.gan("plain")
    done = prune(model, ratio=0.5, round_to=1, min_width=2, exclude=("generator.conv1",))
    assert done.generator.conv1.out_channels == 16
    assert done.generator.conv2.out_channels == 8
    model.prunable = ("generator.conv2", "generator.norm2", "generator.last")
    done = prune(model, ratio=0.5, round_to=1, min_width=2)
    assert (done.generator.conv1.out_channels, done.generator.conv2.out_channels) == (16, 8)


def test_pruning_that_does_nothing_is_an_error() -> None:
    with pytest.raises(NiwakiError, match="cut nothing: with round_to=64"):
        prune(small_models.gan("plain"), ratio=0.3, round_to=64)
    model = small_models.gan("plain")
    model.prunable = ()
    with pytest.raises(NiwakiError, match="no layer may change its width"):
        prune(model, ratio=0.3)
    with pytest.raises(CallError, match="no importance 'magnitud'; did you mean 'magnitude'"):
        prune(small_models.gan("plain"), ratio=0.3, importance="magnitud")


def test_attention_heads_lose_as_many_channels_each() -> None:
    torch.manual_seed(0)
    model = build(
        "ddpm",
        {"widths": (16, 32), "blocks": 1, "groups": 4, "attention": (4,), "heads": 2},
        DataSpec.of("image", (1, 8, 8), levels=17, classes=10),
    )
    heads = [
        c for c in couplings(model) if any(m.module.endswith(".q") and m.side == "out" for m in c.members)
    ]
    assert heads
    assert all(c.blocks % 2 == 0 for c in heads)
    assert all(
        {m.module.rpartition(".")[2] for m in c.members} == {"q", "k"} for c in heads
    )  # v stands alone
    done = prune(model, ratio=0.5, round_to=1, min_width=2)
    q = [m for n, m in done.named_modules() if n.endswith(".q")]
    assert {m.out_channels for m in q} == {16}


@pytest.mark.parametrize("shared", [None, 2])
def test_heads_beside_a_cache_are_cut_with_it(shared: int | None, tmp_path: Path) -> None:
    """Keys and values that are carried from token to token are as wide as what is left."""
    torch.manual_seed(0)
    config = TransformerConfig(width=32, depth=2, heads=4, kv_heads=shared, stride=4, dropout=0.0)
    model = Transformer(config, DataSpec.of("text", (8,), levels=20)).eval()
    done = pruned(model, PruneConfig(ratio=0.5, heads="only", min_width=1)).model
    heads = [(block.attention.heads, block.attention.kv_heads) for block in done._blocks()]
    assert heads == [(2, (shared or 4) // 2)] * 2
    assert [s.shape[1] for s in done.carried()] == [(shared or 4) // 2] * 4
    x = torch.randint(0, 20, (3, 8))
    whole = done.logits(x).log_softmax(-1)  # nothing is read from the cache here
    sampler, graphs = done.sampler(), done.graphs()
    found = sampler.forced(graphs, x.numpy(), done.backend(), {})
    taken = np.exp(found) / np.exp(found).sum(-1, keepdims=True)
    wanted = whole.exp().detach().numpy()[..., : taken.shape[-1]]
    np.testing.assert_allclose(taken, wanted / wanted.sum(-1, keepdims=True), atol=1e-5)
    save_model(done, tmp_path)
    assert torch.equal(load_model(tmp_path).sample(4, seed=1), done.sample(4, seed=1))
