from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from features.toys import toy

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Dataset
from niwaki.features import build
from niwaki.features.random import RandomFeatures

SHAPES = [(1, 8, 8), (1, 32, 32), (3, 32, 32), (3, 20, 48), (2, 64), (7,)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_sample_gets_features_that_know_its_classes(shape: tuple[int, ...]) -> None:
    dataset = toy(shape)
    (extractor,) = build(["random"], dataset)
    z, y = extractor(dataset.test.values()), dataset.test.y.numpy()
    assert z.shape == (40, extractor.dim)
    assert z.dtype == np.float32
    distance = ((z[:, None] - z[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    assert (y[distance.argmin(1)] == y).mean() > 0.95  # nearest neighbours are of one class


def test_the_same_seed_gives_the_same_features_and_another_seed_others(digits: Dataset) -> None:
    x = digits.test.values()[:20]
    (a,), (b,), (c,) = (build(["random"], digits, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a(x), b(x))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert np.abs(a(x) - c(x)).max() > 0.1


def test_neither_the_batch_nor_torchs_seed_matters(digits: Dataset) -> None:
    x = digits.test.values()[:50]
    torch.manual_seed(5)
    (first,) = build(["random"], digits)
    torch.manual_seed(6)
    (second,) = build(["random"], digits)
    assert first.fingerprint == second.fingerprint
    np.testing.assert_allclose(first(x, batch=7), first(x, batch=50), atol=1e-5)
    np.testing.assert_array_equal(first(x), first(x.numpy()))


def test_members_lie_on_spheres_of_their_own(digits: Dataset) -> None:
    (extractor,) = build(["random"], digits)
    z = extractor(digits.test.values())
    assert len(extractor.parts) == 3
    assert sum(p.stop - p.start for p in extractor.parts) == extractor.dim
    for part in extractor.parts:
        np.testing.assert_allclose((z[:, part] ** 2).mean(1), 1, rtol=1e-4)


def test_blur_moves_features_away_the_more_the_stronger_it_is(digits: Dataset) -> None:
    """What a plain random network fails: its blurred digits crowd in the middle of the real ones."""
    from niwaki.evaluation.pairwise.neighbourhood import neighbourhood
    from niwaki.modalities.drawing import blur

    (extractor,) = build(["random"], digits)
    real = extractor.of_split(digits, "test")
    x = digits.train.values()[:400].numpy()
    log_realism = [
        neighbourhood(real, extractor(blur(x, s, (2, 3)) if s else x)).log_realism.mean()
        for s in (0, 0.5, 0.7, 1)
    ]
    assert np.all(np.diff(log_realism) < 0)


def test_images_are_seen_as_a_viewer_sees_them(digits: Dataset) -> None:
    (extractor,) = build(["random"], digits)
    x = digits.test.values()[:5] * 1.7
    np.testing.assert_array_equal(extractor(x), extractor(x.clamp(-1, 1)))


def test_splits_are_kept_on_disk_and_a_damaged_file_is_made_again(digits: Dataset, tmp_path: Path) -> None:
    (extractor,) = build(["random"], digits, cache=tmp_path)
    z = extractor.of_split(digits, "test")
    (file,) = (tmp_path / "features").glob("random-test-*.safetensors")
    (again,) = build(["random"], digits, cache=tmp_path)
    again.network = torch.nn.Flatten()  # would give something else if it were asked
    np.testing.assert_array_equal(again.of_split(digits, "test"), z)
    file.write_bytes(file.read_bytes()[:100])
    (third,) = build(["random"], digits, cache=tmp_path)
    np.testing.assert_array_equal(third.of_split(digits, "test"), z)
    with pytest.raises(ValueError, match="read-only"):
        z[0, 0] = 1


def test_bad_calls(digits: Dataset) -> None:
    (extractor,) = build(["random"], digits)
    with pytest.raises(CallError, match="shape"):
        extractor(np.zeros((3, 1, 9, 9), np.float32))
    with pytest.raises(CallError, match="NaN"):
        extractor(np.full((3, 1, 8, 8), np.nan, np.float32))
    with pytest.raises(CallError, match="no samples"):
        extractor(np.zeros((0, 1, 8, 8), np.float32))
    with pytest.raises(CallError, match="did you mean 'random'"):
        build(["randon"], digits)
    with pytest.raises(CallError, match="only once"):
        build(["random", "random"], digits)
    with pytest.raises(CallError, match="list of names"):
        build("random", digits)
    with pytest.raises(CallError, match="no split"):
        extractor.of_split(digits, "tset")


@pytest.mark.parametrize(
    "spec",
    [
        DataSpec.of("text", (24,), levels=11),
        DataSpec.of("series", (24,)),
        DataSpec.of("audio", (2, 300)),
        DataSpec.of("video", (3, 1, 8, 8)),
    ],
    ids=lambda spec: spec.modality,
)
def test_samples_of_any_rank_and_tokens_have_features(spec: DataSpec) -> None:
    """Finite, the same for the same seed, different for different samples; tokens are names: what their
    numbers are is nothing, so that no arithmetic on them is done."""
    rng = torch.Generator().manual_seed(0)
    shape = (6, *spec.shape)
    x = (
        torch.randint(0, spec.levels, shape, generator=rng)
        if spec.is_tokens
        else torch.rand(shape, generator=rng)
    )
    features = RandomFeatures(spec, seed=3)(x)
    assert features.shape == (6, 192)
    assert bool(torch.isfinite(features).all())
    torch.testing.assert_close(RandomFeatures(spec, seed=3)(x), features)
    assert float(torch.pdist(features.detach()).min()) > 1e-3
