from __future__ import annotations

from collections.abc import Iterator

import pytest

from niwaki.data import DataConfig, Dataset, load


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIWAKI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load(DataConfig(source="digits"))


@pytest.fixture(scope="session")
def glyphs() -> Dataset:
    """Every character and font, but only one drawing of each per split."""
    return load(DataConfig(source="glyphs", variants=3))


@pytest.fixture(scope="session")
def patches() -> Dataset:
    return load(DataConfig(source="patches", stride=8))
