"""Columns computed from the samples: edges that follow shapes and tell no colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki import data
from niwaki.core.contract import CallError, DataSpec
from niwaki.data.config import DataConfig
from niwaki.data.derivations.edges import edges
from niwaki.data.derived import derivation_names, find_derivation

RGB = DataSpec.of("image", (3, 8, 8)).x


def square(*colour: float) -> torch.Tensor:
    """One picture: a square of that colour on black."""
    x = -torch.ones(1, 3, 8, 8)
    x[0, :, 2:6, 2:6] = torch.tensor(colour)[:, None, None]
    return x


def test_edges_are_where_a_square_begins_and_ends() -> None:
    found = edges(square(1.0, 1.0, 1.0), RGB)
    ring = np.zeros((8, 8), int)
    ring[1:7, 1:7] = 1
    ring[3:5, 3:5] = 0
    ring[[1, 1, 6, 6], [1, 6, 1, 6]] = 0  # at corners the slope is less
    assert np.array_equal(found.data[0, 0].numpy(), ring)
    assert set(found.values().unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("colour", [(1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (0.0, 0.2, 0.0), (-0.5, -0.5, 0.1)])
def test_neither_colour_nor_brightness_is_told(colour: tuple[float, float, float]) -> None:
    assert torch.equal(edges(square(*colour), RGB).data, edges(square(1.0, 1.0, 1.0), RGB).data)


def test_what_is_flat_has_none_and_faint_noise_neither() -> None:
    flat = torch.full((2, 3, 8, 8), 0.3)
    flat[1] += 0.02 * torch.randn(3, 8, 8)
    assert not edges(flat, RGB).data.any()


def test_a_row_depends_on_its_sample_alone() -> None:
    x = torch.cat([square(1.0, 1.0, 1.0), torch.rand(3, 3, 8, 8) * 2 - 1])
    together = edges(x, RGB).data
    assert all(torch.equal(together[i : i + 1], edges(x[i : i + 1], RGB).data) for i in range(4))


def test_a_data_set_has_them_in_every_split_beside_the_same_samples() -> None:
    plain, led = (data.load(DataConfig(source="digits", derive=names)) for names in ((), ("edges",)))
    assert set(led.spec) == {*plain.spec, "edges"}
    assert led.fingerprint != plain.fingerprint
    for name, split in led.splits.items():
        assert torch.equal(split.x, plain.split(name).x)
        assert torch.equal(split.columns["edges"].data, edges(split.values(), led.spec.x).data)


def test_a_config_without_them_is_as_it_was() -> None:
    assert "derive" not in DataConfig(source="digits").model_dump()
    assert DataConfig(source="digits", derive=["edges"]).model_dump()["derive"] == ("edges",)


@pytest.mark.parametrize("name", derivation_names())
@pytest.mark.parametrize("source", ["text", "series"])
def test_data_that_are_no_images_are_refused(name: str, source: str) -> None:
    spec = DataSpec.of("text", (4,), levels=9) if source == "text" else DataSpec.of("series", (2, 4))
    with pytest.raises(CallError, match=f"are of images, and these data are {source}"):
        find_derivation(name)(torch.zeros((1, *spec.shape)), spec.x)


def test_wrong_names_are_said() -> None:
    with pytest.raises(CallError, match="there is no derived column 'edge'"):
        data.load(DataConfig(source="digits", derive=("edge",)))
    with pytest.raises(CallError, match="already"):
        data.load(DataConfig(source="digits", derive=("edges", "edges"), columns={"class": "class"}))
