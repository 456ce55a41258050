"""Crops of the photographs: regions that share no pixel, and crops that are where they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_sample_images
from sklearn.utils import Bunch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.sources.patches import regions
from niwaki.data.splitting import hash_samples

HEIGHT, WIDTH = 427, 640


def numbered_photographs() -> Bunch:
    """Every pixel of both photographs has a colour of its own that tells its place."""
    place = np.arange(2 * HEIGHT * WIDTH).reshape(2, HEIGHT, WIDTH)
    colour = np.stack([place >> 16, place >> 8 & 255, place & 255], -1).astype(np.uint8)
    return Bunch(images=list(colour), filenames=["a/china.jpg", "a/flower.jpg"])


def test_no_pixel_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn.datasets.load_sample_images", numbered_photographs)
    dataset = load(DataConfig(source="patches", stride=7))
    owners = np.full(2 * HEIGHT * WIDTH, -1)
    for k, split in enumerate(dataset.splits.values()):
        red, green, blue = split.x.int().unbind(1)
        place = (red << 16 | green << 8 | blue).numpy()
        taken = np.unique(place)
        assert (owners[taken] == -1).all(), "a pixel lies in two splits"
        owners[taken] = k
        # each crop is one connected square of its photograph
        assert (np.diff(place, axis=2) == 1).all()
        assert (np.diff(place, axis=1) == WIDTH).all()
        assert split.y is not None
        assert np.array_equal(place[:, 0, 0] // (HEIGHT * WIDTH), split.y.numpy())
    assert (owners >= 0).mean() > 0.9  # and hardly any pixel is wasted


def test_the_crops_are_the_photographs(patches: Dataset) -> None:
    assert patches.spec.class_names == ("china", "flower")
    photos = load_sample_images().images
    assert patches.train.y is not None
    for label, photo in enumerate(photos):
        crops = patches.train.x[patches.train.y == label].numpy()
        row = crops[0].transpose(1, 2, 0)[0]  # found again by its first row
        windows = np.lib.stride_tricks.sliding_window_view(photo, (32, 3), axis=(1, 2))[:, :, 0]
        assert (windows == row).all((2, 3)).any()


def test_regions_meet_the_fractions() -> None:
    owner = regions(640, 640, 64, (0.7, 0.1, 0.2), np.random.default_rng(0))
    assert [(owner == k).mean() for k in range(3)] == pytest.approx([0.7, 0.1, 0.2])
    cells = owner.reshape(10, 64, 10, 64)
    assert (cells == cells[:, :1, :, :1]).all()  # cells are whole
    other = regions(640, 640, 64, (0.7, 0.1, 0.2), np.random.default_rng(1))
    assert (owner != other).any()


def test_equal_crops_from_different_regions_are_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat sky repeats itself: what the training split holds must not be tested on."""
    photos = numbered_photographs()
    photos.images[0][:] = 200
    monkeypatch.setattr("sklearn.datasets.load_sample_images", lambda: photos)
    dataset = load(DataConfig(source="patches", stride=8))
    (found,) = dataset.audit.of_kind("set aside")
    assert found.level == "warning"
    assert found.items
    sets = [set(hash_samples(s.x)) for s in dataset.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_nothing_is_shared_between_splits(patches: Dataset) -> None:
    sets = [set(hash_samples(s.x)) for s in patches.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_crops_too_large_for_three_regions() -> None:
    with pytest.raises(CallError, match=r"smaller data\.size or data\.cell"):
        load(DataConfig(source="patches", size=128, cell=8))
    with pytest.raises(CallError, match=r"smaller data\.size or data\.cell"):
        load(DataConfig(source="patches", size=128, cell=4))
