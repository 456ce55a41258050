"""Transformers as networks of denoisers: their blocks, what they are asked by, and any process with any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import SMALL_TRANSFORMER, context, make, step
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, ConditionSpec, DataSpec, GenerativeModel, Tokens, ValueSpec
from niwaki.models.diffusion.dit import grid_places
from niwaki.models.registry import config_of
from niwaki.nn.layers.joint_blocks import JointBlock
from niwaki.nn.layers.text_encoder import TextEncoder

IMAGES = DataSpec.of("image", (3, 16, 16), classes=5)
CAPTION = ValueSpec("text", (4,), "T", Tokens(9, "tokenizer.json"))
CAPTIONED = DataSpec({**IMAGES.columns, "caption": CAPTION})
MODELS = ["ddpm", "edm", "flow-matching", "latent-diffusion"]
NETWORKS = ["unet", "dit", "mmdit"]
SMALL_LATENT = {"autoencoder": {"name": "spatial-vae", "width": 4}, "attention": (), "words": 8}


def network(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, **({} if name == "unet" else SMALL_TRANSFORMER), **changes}


def model_of(name: str, kind: str, spec: DataSpec = CAPTIONED, **changes: Any) -> GenerativeModel:
    more = SMALL_LATENT if name == "latent-diffusion" else {}
    return make(name, spec, **{**more, "network": network(kind), **changes})


def rows(n: int = 6, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        {
            "x": 2 * torch.rand((n, 3, 16, 16), generator=rng) - 1,
            "class": torch.randint(0, 5, (n,), generator=rng),
            "caption": torch.randint(1, 9, (n, 4), generator=rng),
        }
    )


def stirred(module: nn.Module, deviation: float = 0.3) -> nn.Module:
    """Layers that begin at zero are not there any more."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(deviation * torch.randn(p.shape, generator=rng))
    return module.eval()


def test_a_block_begins_as_its_skip() -> None:
    picture, text, c = torch.randn(2, 6, 16), torch.randn(2, 3, 16), torch.randn(2, 16)
    one, both = JointBlock(16, 2, 32)([picture], c), JointBlock(16, 2, 32, streams=2)([picture, text], c)
    assert torch.equal(one[0], picture)
    assert torch.equal(both[0], picture)
    assert torch.equal(both[1], text)


def test_a_block_is_the_published_one() -> None:
    """x + α₁ attention(γ₁, β₁), then x + α₂ mlp(γ₂, β₂) (Peebles & Xie 2023, Figure 3), the attention torch's
    own."""
    block, x, c = stirred(JointBlock(8, 2, 16)), torch.randn(3, 5, 8), torch.randn(3, 8)
    (s,) = block.streams

    def norm(layer: Any, x: Tensor) -> Tensor:
        return (
            nn.functional.layer_norm(x, (8,), eps=1e-6) * (1 + layer.scale(c))[:, None]
            + layer.shift(c)[:, None]
        )

    torchs = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.cat([s.q.weight, s.k.weight, s.v.weight]))
        torchs.in_proj_bias.copy_(torch.cat([s.q.bias, torch.zeros(8), s.v.bias]))
        torchs.out_proj.load_state_dict(s.out.state_dict())
        h = norm(s.norm1, x)
        expected = x + s.gate1(c)[:, None] * torchs(h, h, h)[0]
        h = nn.functional.gelu(s.up(norm(s.norm2, expected)), approximate="tanh")
        expected = expected + s.gate2(c)[:, None] * s.down(h)
        torch.testing.assert_close(block([x], c)[0], expected, rtol=1e-5, atol=5e-5)


def test_two_streams_of_equal_weights_are_one() -> None:
    """Joint attention looks from every token at every token of both (Esser et al. 2024, Figure 2)."""
    both, one = stirred(JointBlock(16, 2, 32, streams=2)), JointBlock(16, 2, 32)
    both.streams[1].load_state_dict(both.streams[0].state_dict())
    one.streams[0].load_state_dict(both.streams[0].state_dict())
    picture, text, c = torch.randn(2, 6, 16), torch.randn(2, 3, 16), torch.randn(2, 16)
    joined = one([torch.cat([picture, text], 1)], c)[0]
    torch.testing.assert_close(torch.cat(both([picture, text], c), 1), joined)


def test_a_silent_stream_is_looked_at_and_ends() -> None:
    block = stirred(JointBlock(16, 2, 32, streams=1, silent=1))
    picture, text, c = torch.randn(2, 6, 16), torch.randn(2, 3, 16), torch.randn(2, 16)
    (out,) = block([picture, text], c)
    assert not torch.allclose(out, block([picture, -text], c)[0])  # no shift: the norm takes that away
    assert not any(name.startswith(("streams.1.q", "streams.1.up")) for name, _ in block.named_parameters())


def test_places_of_a_grid_all_differ() -> None:
    places = grid_places(4, 6, 16)
    assert places.shape == (24, 16)
    assert float(torch.cdist(places, places).add(torch.eye(24)).min()) > 0.05


@pytest.mark.parametrize("depth", [0, 1])
def test_words_look_at_each_other_where_there_are_blocks(depth: int) -> None:
    encoder = stirred(TextEncoder(9, 4, 8, depth, 2))
    a, b = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 5]])
    assert torch.equal(encoder(a)[:, :3], encoder(b)[:, :3]) == (depth == 0)
    assert encoder(a).shape == (1, *encoder.shape)
    assert TextEncoder(9, None, 8, depth, 2)(torch.tensor([3, 4])).shape == (2, 1, 8)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", MODELS)
def test_any_process_and_space_takes_any_network(name: str, kind: str) -> None:
    model = model_of(name, kind, conditioning={"columns": ("caption",), "drop": 0.1})
    assert list(model.conditions) == ["caption"]
    for phase in model.phases():
        assert {"denoiser", "words"} <= set(phase.parameters)
    stirred(model, 0.1)
    gradients = step(model, rows())["denoiser"]
    assert float(gradients["words.caption.words.weight"].abs().sum()) > 0
    model.eval()
    asked = {"caption": rows()["caption"]}
    x = model.sample(6, seed=3, condition=asked)
    assert x.shape == (6, 3, 16, 16)
    other = {"caption": asked["caption"].roll(1, 0)}
    assert not torch.allclose(x, model.sample(6, seed=3, condition=other))


@pytest.mark.parametrize("kind", ["dit", "mmdit"])
def test_guidance_leads_from_an_empty_caption_to_the_asked_one(kind: str) -> None:
    model = stirred(model_of("flow-matching", kind), 0.1)
    assert isinstance(model, GenerativeModel)
    asked = {"caption": rows()["caption"][:3]}

    def made(w: float, given: dict[str, Tensor] = asked) -> Tensor:
        return model.sample(3, seed=1, steps=1, solver="euler", clip=0.0, guidance=w, condition=given)

    free, plain, strong = made(1e-9), made(1.0), made(2.0)
    torch.testing.assert_close(strong - plain, plain - free, atol=1e-4, rtol=1e-3)
    empty = {"caption": torch.zeros(3, 4, dtype=torch.long)}
    torch.testing.assert_close(free, made(1.0, empty), atol=1e-5, rtol=0)


def test_a_dropped_caption_is_dropped_as_a_whole_and_with_the_class() -> None:
    model = model_of("flow-matching", "dit", conditioning={"columns": ("class", "caption"), "drop": 0.5})
    assert list(model.conditions) == ["class", "caption"]
    seen = []
    model.words["caption"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    data = rows(64)
    label, _ = model.asked(data, context())
    empty = (seen[0] == 0).all(1)
    assert 0 < int(empty.sum()) < 64
    assert torch.equal(seen[0][~empty], data["caption"][~empty])
    assert torch.equal(label == 5, empty)
    assert torch.equal(label[~empty], data["class"][~empty])


def test_what_is_asked_for_unless_it_is_said() -> None:
    assert list(model_of("flow-matching", "dit").conditions) == ["caption"]
    assert list(model_of("flow-matching", "mmdit", IMAGES).conditions) == ["class"]
    unet = model_of("flow-matching", "unet")
    assert unet.conditions == {"class": ConditionSpec(CAPTIONED["class"], 5)}
    assert set(unet.graphs()) == {"denoiser"}


def test_records_of_before_do_not_name_the_network() -> None:
    record = config_of("ddpm", {}).model_dump()
    assert "network" not in record
    assert "words" not in record


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("ddpm", {"network": {"name": "ditt"}}, "there is no network 'ditt'; did you mean 'dit'"),
        ("ddpm", {"network": network("dit", widht=3)}, "the network 'dit' has no setting 'widht'"),
        ("ddpm", {"network": network("dit", patch=3)}, "a patch of 3 does not divide 16×16"),
        ("ddpm", {"network": network("dit", heads=3)}, "cannot be shared by 3 attention heads"),
        ("ddpm", {"network": network("dit", text_heads=3)}, "does not give 3 heads"),
        ("edm", {"network": network("dit"), "dropout": 0.1}, "has no dropout"),
        ("flow-matching", {"network": network("mmdit"), "conditional": False}, "needs a caption or a class"),
        ("mean-flow", {"network": network("dit")}, "network"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(
    name: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(CallError, match=words):
        make(name, CAPTIONED, **settings)
