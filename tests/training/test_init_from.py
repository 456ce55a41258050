"""Parts of a model start from other runs' weights, and the training depends on their content."""

from __future__ import annotations

import pytest
import torch
from training_toys import Regression, TwoStages

from niwaki.core.store import write_tensors
from niwaki.training import StageConfig, TrainConfig, fit, init_from_hashes
from niwaki_runtime.errors import NiwakiError

STAGES = (StageConfig(name="codec", steps=1), StageConfig(name="prior", steps=1))


class Codec(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.codec = TwoStages().codec
        self.critic = torch.nn.Linear(2, 2)


def saved(folder, module):
    write_tensors(folder / "model.safetensors", module.state_dict())
    return str(folder)


def trained(vectors, **settings):
    model = TwoStages()
    config = TrainConfig(batch=8, lr=0.0, stages=STAGES, precision="fp32", **settings)
    fit(model, vectors, config, seed=0)
    return model


def test_a_submodule_takes_all_weights_of_another_model(vectors, tmp_path):
    source, model = TwoStages().codec, TwoStages()
    with torch.no_grad():
        source[1].running_mean.fill_(3.0)
    taken = {"init_from": {"codec": saved(tmp_path, source)}, "freeze": ("codec",)}
    stages = (STAGES[0], StageConfig(name="prior", steps=1, **taken))
    fit(model, vectors, TrainConfig(batch=8, stages=stages), seed=0)
    assert all(torch.equal(model.codec.state_dict()[n], v) for n, v in source.state_dict().items())


@pytest.mark.parametrize("where", ["", "model", "checkpoint"])
def test_a_part_of_a_run_goes_where_it_is_asked_for(vectors, tmp_path, where):
    source = Codec()
    if where == "checkpoint":
        first = TwoStages()
        fit(first, vectors, TrainConfig(batch=8, stages=STAGES, ema=0.5), seed=0, directory=tmp_path / "run")
        source.codec = first.codec
    else:
        saved(tmp_path / "run" / where, source)
    model = trained(vectors, ema=0.5, init_from={"codec.0": f"{tmp_path / 'run'}:codec.0"})
    assert torch.equal(model.codec[0].weight, source.codec[0].weight)
    assert not torch.equal(model.codec[2].weight, source.codec[2].weight)


def test_the_average_starts_from_what_was_taken(vectors, tmp_path):
    source = TwoStages()
    model = trained(vectors, ema=0.999, init_from={"codec.2": saved(tmp_path, source.codec[2])})
    assert torch.equal(model.codec[2].weight, source.codec[2].weight)  # the rate is 0


def test_a_path_with_a_colon_is_a_path(vectors, tmp_path):
    source = TwoStages()
    model = trained(vectors, init_from={"prior": saved(tmp_path / "a:b", source.prior)})
    assert torch.equal(model.prior.weight, source.prior.weight)


@pytest.mark.parametrize(
    ("change", "source", "message"),
    [
        ({"prior": ""}, {"weight": (2, 2)}, "lacks 'bias'"),
        ({"prior": ""}, {"weight": (2, 3), "bias": (2,)}, r"'weight' has the shape \(2, 3\).*\(2, 2\)"),
        ({"prior": ""}, {"weight": (2, 2), "bias": (2,), "scale": (2,)}, "'scale', which the model does not"),
        ({"prio": ""}, {"weight": (2, 2)}, "the model has no weights under 'prio'; did you mean 'prior'"),
        ({"prior": ":decoder"}, {"dec.weight": (2, 2)}, "has no weights under 'decoder'; did you mean 'dec'"),
        ({"prior": "/nowhere"}, {}, "neither model.safetensors nor a checkpoint"),
    ],
)
def test_the_first_weight_that_does_not_fit_is_named(vectors, tmp_path, change, source, message):
    if source:
        write_tensors(tmp_path / "model.safetensors", {n: torch.zeros(s) for n, s in source.items()})
    ((prefix, more),) = change.items()
    with pytest.raises(NiwakiError, match=message):
        trained(vectors, init_from={prefix: str(tmp_path) + more})


def test_nothing_is_changed_where_something_does_not_fit(vectors, tmp_path):
    write_tensors(tmp_path / "model.safetensors", {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)})
    model = TwoStages()
    before = model.prior.weight.detach().clone()
    config = TrainConfig(batch=8, stages=STAGES, init_from={"prior": str(tmp_path)})
    with pytest.raises(NiwakiError, match="'bias' has the shape"):
        fit(model, vectors, config, seed=0)
    assert torch.equal(model.prior.weight, before)


def test_the_hash_follows_the_content(tmp_path):
    model, other = TwoStages(), TwoStages()
    saved(tmp_path / "run" / "model", model)
    second = saved(tmp_path / "b", other)
    stages = (StageConfig(name="a", steps=1, init_from={"prior": f"{second}:prior"}),)
    config = TrainConfig(init_from=str(tmp_path / "run"), stages=stages)
    before = init_from_hashes(config)
    assert before.keys() == {str(tmp_path / "run"), second}
    assert init_from_hashes(config) == before
    with torch.no_grad():
        model.prior.weight.add_(1.0)
    saved(tmp_path / "run" / "model", model)
    after = init_from_hashes(config)
    assert after[str(tmp_path / "run")] != before[str(tmp_path / "run")]
    assert after[second] == before[second]
    assert init_from_hashes(TrainConfig()) == {}
    assert init_from_hashes(TrainConfig(init_from={"a": "/nowhere"})) == {"/nowhere": "missing"}


def test_a_checkpoint_is_hashed_too(vectors, tmp_path):
    fit(Regression(), vectors, TrainConfig(steps=2, batch=8), seed=0, directory=tmp_path)
    (value,) = init_from_hashes(TrainConfig(init_from=str(tmp_path))).values()
    assert len(value) == 64


def text_model(tokens: int, files: dict[str, str] | None = None, **changes):
    from niwaki import models
    from niwaki.core.contract import DataSpec

    torch.manual_seed(tokens)
    settings = {"width": 8, "depth": 1, "heads": 2, **changes}
    model = models.build("transformer", settings, DataSpec.of("text", (12,), levels=tokens))
    model.files = files or {}
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_a_vocabulary_that_has_grown_keeps_its_tokens_and_begins_new_ones_as_their_mean(tied, tmp_path):
    from niwaki.models import save_model
    from niwaki.training.weights import Source, init_from

    before, after = text_model(20, tied=tied), text_model(23, tied=tied)
    save_model(before, tmp_path)
    init_from(after, Source(tmp_path))
    for name in ("embed.weight", "head.weight"):
        old, new = before.state_dict()[name], after.state_dict()[name]
        assert torch.equal(new[:20], old[:20])
        torch.testing.assert_close(new[20:23], old[:20].mean(0).expand(3, -1))
        assert torch.equal(new[23], old[20])  # what stands before the first token
    x = torch.randint(0, 20, (2, 12))
    torch.testing.assert_close(
        after.eval().logits(x)[..., :20], before.eval().logits(x), atol=1e-5, rtol=1e-5
    )


def test_weights_for_fewer_tokens_or_another_width_are_refused_by_their_shapes(tmp_path):
    from niwaki.models import save_model
    from niwaki.training.weights import Source, init_from

    save_model(text_model(20), tmp_path)
    for other in (text_model(17), text_model(23, width=16)):
        with pytest.raises(
            NiwakiError, match=r"has the shape \(\d+, 8\) in .* but \(\d+, \d+\) in the model"
        ):
            init_from(other, Source(tmp_path))


def test_a_model_of_another_tokenizer_is_refused(tmp_path):
    from niwaki.data.reading.tokens import byte_tokenizer, learned_tokenizer
    from niwaki.models import save_model
    from niwaki.training.weights import Source, init_from
    from niwaki_runtime.tokenizer import FILE, with_special

    pairs = learned_tokenizer(["the cat sat on the mat"] * 3, 260)
    save_model(text_model(260, {FILE: pairs}), tmp_path)
    init_from(text_model(262, {FILE: with_special(pairs, ["<|a|>", "<|b|>"])}), Source(tmp_path))
    with pytest.raises(NiwakiError, match="another tokenizer"):
        init_from(text_model(260, {FILE: byte_tokenizer()}), Source(tmp_path))
