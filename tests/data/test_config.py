"""The `data:` section: what it refuses, in which words, and that it round-trips."""

from __future__ import annotations

import pkgutil
from typing import Any

import pytest
from pydantic import Field, ValidationError

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Options, Pool, load, register, source_names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "glyfs"}, "there is no data source 'glyfs'; did you mean 'glyphs'?"),
        ({"source": "glyphs", "varients": 9}, "has no setting 'varients'; did you mean 'variants'?"),
        ({"source": "glyphs", "sede": 1}, "has no setting 'sede'; did you mean 'seed'?"),
        ({"source": "digits", "size": 16}, "the data source 'digits' has no setting 'size'"),
        ({"source": "digits", "path": "x"}, "the data source 'digits' has no setting 'path'"),
        ({"source": "folder"}, "the data source 'folder' needs 'data.path'"),
        (
            {"source": "patches", "stride": 0},
            "'data.stride' of the data source 'patches' must be at least 1, not 0",
        ),
        ({"source": "arrays", "path": "x", "layout": "NHCW"}, "'data.layout' of the data source 'arrays'"),
        ({"source": "digits", "seed": "x"}, "'seed' of DataConfig must be a whole number, not 'x'"),
        ({}, "DataConfig needs 'source'"),
        ({"source": "digits", "fractions": (0.5, 0.5, 0.5)}, "three positive shares that add up to 1"),
        ({"source": "digits", "fractions": (0.8, 0.2, 0.0)}, "three positive shares that add up to 1"),
    ],
)
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError) as caught:
        DataConfig(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"source": "digits", "labels": False},
        {"source": "glyphs", "variants": 4, "seed": 3},
        {"source": "patches", "size": 16},
        {"source": "arrays", "path": "a.npz", "value_range": (0, 2)},
    ],
)
def test_a_dumped_config_is_the_same_config(settings: dict[str, Any]) -> None:
    config = DataConfig(**settings)
    again = DataConfig.model_validate_json(config.model_dump_json())
    assert again.model_dump(mode="json") == config.model_dump(mode="json")
    assert again.options() == config.options()


def test_defaults_are_written_out() -> None:
    dumped = DataConfig(source="glyphs").model_dump()
    assert dumped["size"] == 32
    assert dumped["held_out"] == "STIX"


def test_a_config_is_frozen() -> None:
    config = DataConfig(source="digits")
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_a_source_of_ones_own() -> None:
    """One decorated function is all that a new source takes."""
    import torch

    class Mine(Options):
        n: int = Field(default=30, ge=3)

    @register("counting", Mine)
    def counting(config: DataConfig, options: Mine, progress: Any) -> Pool:
        x = torch.arange(options.n, dtype=torch.uint8).unsqueeze(1)
        return Pool("counting", DataSpec.of("vector", (1,)), x)

    try:
        assert "counting" in source_names()
        dataset = load(DataConfig(source="counting", n=200))
        assert sum(len(s) for s in dataset.splits.values()) == 200
        with pytest.raises(CallError, match=r"'m_n'.*valid names"):
            DataConfig(source="counting", m_n=3)
    finally:
        from niwaki.data import config as room

        room._SOURCES.pop("counting")


def test_every_file_among_the_sources_is_one() -> None:
    """What they read with lies in `data.reading`, so that a new source's file cannot take a helper's name."""
    import niwaki.data.sources as home
    from niwaki.data import config as room

    names = {module.name for module in pkgutil.iter_modules(home.__path__)}
    source_names()  # loads them
    held = {source.read.__module__.rpartition(".")[2] for source in room._SOURCES.values()}
    assert names - {"pictures"} <= held  # `pictures` only leads on to `data.reading`
