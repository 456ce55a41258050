"""Encoders as extractors: trained on a data set, from the cache, from a run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from features.toys import toy

from niwaki.core.contract import (
    Batch,
    CallError,
    Context,
    DataSpec,
    NiwakiError,
    Tokens,
    ValueSpec,
)
from niwaki.data import Dataset
from niwaki.features import (
    EncoderExtractor,
    available,
    build,
    fitting,
    load_encoder,
    names,
    save_encoder,
    selfsupervised,
)
from niwaki.features.encoders import build_encoder, encoder_names, registered_encoder
from niwaki.features.probe import knn_accuracy, linear_accuracy
from niwaki.features.selfsupervised import encoder_steps, probe

CONTRASTIVE = ("simclr", "moco")
SHAPES: list[Any] = [(1, 8, 8), (3, 32, 20), (2, 40), (6,), (4, 2, 8, 8), "text"]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfsupervised, "encoder_steps", lambda n, batch: 12)


def context() -> Context:
    return Context(0, 0.0, "main", {}, torch.Generator().manual_seed(0))


def test_they_are_known_by_name_and_by_the_data_they_can_look_at() -> None:
    assert encoder_names() == ["mae", "moco", "motion", "simclr"]
    assert set(names()) >= {"random", "classifier", "mae", "moco", "simclr"}
    assert set(available(toy((1, 8, 8)))) >= {"mae", "moco", "simclr"}
    assert "mae" not in available(toy((6,)))
    assert {"moco", "simclr"} <= set(available(toy((6,), classes=0)))
    with pytest.raises(CallError, match="did you mean 'simclr'"):
        build(["simcrl"], toy((6,)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CONTRASTIVE)
def test_every_kind_of_sample_deterministically(name: str, shape: tuple[int, ...], few_steps: None) -> None:
    dataset = toy(shape)
    heard: list[tuple[str, int, int]] = []
    (first,) = build([name], dataset, progress=lambda *event: heard.append(event))
    torch.manual_seed(5)
    (second,) = build([name], dataset)
    (other,) = build([name], dataset, seed=1)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert heard[-1] == (name, 12, 12)
    x = dataset.test.values()
    z = first(x)
    np.testing.assert_array_equal(z, second(x))
    assert z.shape == (40, first.dim)
    np.testing.assert_allclose((z**2).mean(1), 1, rtol=1e-4)  # on a sphere
    assert isinstance(first, EncoderExtractor)
    assert first.probe["knn"]["test"] > 0.9, "three patterns and a little noise are no riddle"


@pytest.mark.parametrize("name", CONTRASTIVE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_trained_parameter_gets_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    dataset = toy(shape)
    encoder = build_encoder(name, {"width": 16}, dataset.spec)
    (loss,) = encoder.loss("contrast", Batch({"x": dataset.train.values()}), context()).values()
    loss.backward()
    for part in (encoder.backbone, encoder.projector):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_a_view_of_one_sample_is_near_the_other_after_training(few_steps: None) -> None:
    """Training does what the loss says: it falls, on data and views that it has not seen."""
    dataset = toy((1, 8, 8), n=300)
    kind = registered_encoder("simclr")
    torch.manual_seed(0)
    fresh = build_encoder("simclr", kind.Config(), dataset.spec)
    (trained,) = build(["simclr"], dataset)
    batch = Batch({"x": dataset.test.values()})
    losses = [m.loss("contrast", batch, context())["nt_xent"].item() for m in (fresh, trained.network)]
    assert losses[1] < losses[0] - 0.2


@pytest.mark.parametrize("name", ["simclr", "moco", "mae"])
def test_in_bf16_the_loss_is_nearly_the_same(name: str) -> None:
    dataset = toy((1, 8, 8))
    torch.manual_seed(0)
    encoder = build_encoder(name, {"width": 16}, dataset.spec)
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    losses = []
    for on in (False, True):
        encoder.load_state_dict(state)  # MoCo's queue has moved
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            (loss,) = encoder.loss(
                encoder.phases()[0].name, Batch({"x": dataset.train.values()}), context()
            ).values()
        losses.append(loss)
        assert loss.dtype == torch.float32
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    assert not torch.equal(*losses)


def test_from_the_cache_it_comes_without_training(
    few_steps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = toy((6,))
    (first,) = build(["simclr"], dataset, cache=tmp_path)

    def refuse(*_: Any) -> None:
        raise AssertionError("it was made again")

    with monkeypatch.context() as patched:
        patched.setattr(fitting, "_fit", refuse)
        patched.setattr(selfsupervised, "probe", refuse)
        (again,) = build(["simclr"], dataset, cache=tmp_path)
        assert again.fingerprint == first.fingerprint
        assert again.probe == first.probe
        with pytest.raises(AssertionError, match="made again"):
            build(["simclr"], dataset, cache=tmp_path, seed=1)
        with pytest.raises(AssertionError, match="made again"):
            build(["moco"], dataset, cache=tmp_path)
    for file in (tmp_path / "features").iterdir():
        file.write_bytes(b"broken")
    (third,) = build(["simclr"], dataset, cache=tmp_path)
    assert (third.fingerprint, third.probe) == (first.fingerprint, first.probe)


def test_without_labels_there_is_no_probe(few_steps: None) -> None:
    dataset = toy((6,), classes=0)
    (made,) = build(["simclr"], dataset)
    assert made.probe == {"linear": None, "knn": None}
    assert made(dataset.test.values()).shape == (40, made.dim)


def test_labels_are_never_looked_at(few_steps: None) -> None:
    dataset, blind = toy((6,)), toy((6,))
    labels = blind.train.columns["class"]
    blind.train.columns["class"] = replace(labels, data=torch.zeros_like(labels.data))
    (one,), (other,) = build(["moco"], dataset), build(["moco"], blind)
    x = dataset.test.values()
    np.testing.assert_array_equal(one(x), other(x))
    assert other.probe == {"linear": None, "knn": None}, "of one class nothing can be probed"


def test_a_run_s_encoder_is_an_extractor(tmp_path: Path) -> None:
    dataset = toy((1, 8, 8))
    torch.manual_seed(3)
    encoder = build_encoder("simclr", {"width": 16, "features": 24}, dataset.spec).eval()
    save_encoder(encoder, tmp_path / "own" / "model")
    again = load_encoder(tmp_path / "own")
    x = dataset.test.values()
    assert torch.equal(again.features(x), encoder.features(x))
    found, random = build([str(tmp_path / "own"), "random"], dataset, cache=tmp_path / "cache")
    assert (found.name, found.dim, random.name) == ("own", 24, "random")
    np.testing.assert_allclose(found(x), encoder.features(x).detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(found.of_split(dataset, "test"), found(x))
    assert found.probe["linear"]["test"] > 0.9
    with pytest.raises(CallError, match=r"is for samples of shape \(1, 8, 8\)"):
        build([str(tmp_path / "own")], toy((6,)))
    shutil.copytree(tmp_path / "own", tmp_path / "cut")
    weights = tmp_path / "cut" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(NiwakiError, match="not a whole safetensors file"):
        build([str(tmp_path / "cut")], dataset)
    with pytest.raises(CallError, match="there are no features"):
        build([str(tmp_path / "nowhere")], dataset)
    with pytest.raises(NiwakiError, match="does not exist"):
        load_encoder(tmp_path / "nowhere")


def test_as_a_model_it_is_refused(tmp_path: Path) -> None:
    from niwaki.models import load_model

    encoder = build_encoder("moco", {"width": 16}, toy((6,)).spec)
    with pytest.raises(
        CallError, match="'moco' is an encoder: it can be trained and used as features, not sampled"
    ):
        load_model(save_encoder(encoder, tmp_path))


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("simclr", {"widht": 32}, "the model 'simclr' has no setting 'widht'; did you mean 'width'?"),
        ("simclr", {"augment": {"rotat": 3}}, "no setting 'augment.rotat'; did you mean 'rotate'?"),
        ("simclr", {"width": 20}, "'model.width' of the model 'simclr'"),
        ("moco", {"momentum": 1.0}, "'model.momentum' of the model 'moco'"),
        ("moca", {}, "there is no encoder 'moca'; did you mean 'moco'?"),
    ],
)
def test_wrong_settings_are_one_sentence(name: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(CallError) as error:
        build_encoder(name, settings, DataSpec.of("vector", (6,)))
    assert sentence in str(error.value)


def test_samples_of_more_dimensions_are_refused() -> None:
    for name in encoder_names():
        with pytest.raises(CallError, match=rf"'{name}' is for samples of up to three dimensions beside"):
            build_encoder(name, {}, DataSpec({"x": ValueSpec("vector", (2, 2, 2, 2), "DTHW", Tokens(3))}))


def test_training_grows_with_the_data_within_limits() -> None:
    assert [encoder_steps(n, 256) for n in (100, 1257, 10_000_000)] == [600, 736, 3000]


# ── the probes


def slow_knn(
    train: np.ndarray, y: np.ndarray, test: np.ndarray, answers: np.ndarray, k: int, t: float
) -> float:
    right = 0
    for row, answer in zip(test, answers, strict=True):
        s = [float(row @ x / np.linalg.norm(row) / np.linalg.norm(x)) for x in train]
        votes: dict[int, float] = {}
        for i in sorted(range(len(s)), key=lambda i: -s[i])[:k]:
            votes[int(y[i])] = votes.get(int(y[i]), 0.0) + np.exp(s[i] / t)
        right += max(votes, key=lambda c: votes[c]) == answer
    return right / len(test)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 5.0)])
def test_neighbours_vote_by_the_formula(k: int, temperature: float) -> None:
    rng = np.random.default_rng(0)
    y, answers = rng.integers(0, 3, 60), rng.integers(0, 3, 50)
    centres = rng.normal(size=(3, 5))
    train, test = centres[y] + rng.normal(size=(60, 5)), centres[answers] + rng.normal(size=(50, 5))
    ours = knn_accuracy(train, y, test, answers, k=k, temperature=temperature)
    assert ours == slow_knn(train, y, test, answers, k, temperature)
    assert 0.4 < ours < 1.0
    scaled = knn_accuracy(train * 1e3, y, test * 1e-3, answers, k=k, temperature=temperature)
    assert scaled == ours, "lengths do not matter"
    with pytest.raises(CallError, match="too few for 61 neighbours"):
        knn_accuracy(train, y, test, answers, k=61)


def test_a_linear_probe_knows_what_a_plane_divides_and_no_more() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 2))
    plane, circle = (x @ [1.0, -2.0] > 0).astype(int), (np.hypot(*x.T) > 1.18).astype(int)
    for scale in (1.0, 1e4):
        assert linear_accuracy(scale * x[:400], plane[:400], scale * x[400:], plane[400:]) > 0.98
    assert linear_accuracy(x[:400], circle[:400], x[400:], circle[400:]) < 0.65
    constant = np.column_stack([x, np.ones(600)])
    assert linear_accuracy(constant[:400], plane[:400], constant[400:], plane[400:]) > 0.98
    with pytest.raises(CallError, match="at least two classes"):
        linear_accuracy(x, np.zeros(600, int), x, plane)


# ── on real data


@pytest.mark.slow
def test_on_digits_simclr_knows_more_than_pixels_and_random_features(digits: Dataset) -> None:
    simclr, random = build(["simclr", "random"], digits)
    assert isinstance(simclr, EncoderExtractor)
    pixels = [digits.split(s).values().flatten(1).numpy() for s in ("train", "test")]
    labels = [digits.split(s).y.numpy() for s in ("train", "test")]
    raw = knn_accuracy(pixels[0], labels[0], pixels[1], labels[1])
    ours = simclr.probe["knn"]["test"]
    assert ours > max(raw, probe(random, digits)["knn"]["test"]) + 0.003
    assert ours > 0.98
