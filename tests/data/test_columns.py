"""Columns: stored values as a model sees them, rows that stay together, and those that have nothing to do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec, Levels, Real, Tokens, ValueSpec
from niwaki.data import Column, DataConfig, Pool, Split, config, load, register
from niwaki.data.columns import seen

INFINITE = Real(-np.inf, np.inf)
PICTURE = ValueSpec("image", (1, 4, 4), values=Levels(17))


@pytest.mark.parametrize("n", [2, 3, 10, 17, 100, 256, 1000, 65536])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0), (-0.1, 0.3)])
def test_levels_end_exactly_at_low_and_high(n: int, low: float, high: float) -> None:
    values = seen(ValueSpec("vector", (1,), values=Levels(n, low, high)), torch.arange(n).unsqueeze(1))
    exact = low + (high - low) * np.arange(n) / (n - 1)
    assert values.dtype == torch.float32
    assert float(values[0]) == np.float32(low)
    assert float(values[-1]) == np.float32(high)
    assert bool((values.diff(dim=0) > 0).all())
    assert float((values.ravel() - torch.from_numpy(exact)).abs().max()) <= 4e-7 * max(abs(low), abs(high))


def test_levels_are_read_without_being_changed() -> None:
    stored = torch.tensor([[0], [1]], dtype=torch.uint8)
    assert seen(ValueSpec("vector", (1,), values=Levels(2)), stored).ravel().tolist() == [-1.0, 1.0]
    assert stored.ravel().tolist() == [0, 1]
    rounded_never = torch.tensor([[0.25]])
    assert seen(ValueSpec("vector", (1,), values=Levels(2)), rounded_never).tolist() == [[0.25]]


def test_amounts_pass_and_tokens_stay_names() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    amounts = seen(ValueSpec("vector", (3,), values=INFINITE), x)
    assert amounts.dtype == torch.float32
    assert torch.equal(amounts, x.float())
    tokens = seen(ValueSpec("text", (3,), values=Tokens(300)), torch.tensor([[0, 7, 255]], dtype=torch.uint8))
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[0, 7, 255]]


def test_a_column_holds_what_its_spec_says() -> None:
    with pytest.raises(CallError, match=r"image \(1, 4, 4\) cannot hold \(1, 4, 5\)"):
        Column(PICTURE, torch.zeros(3, 1, 4, 5, dtype=torch.uint8))
    column = Column(PICTURE, torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 4, 4))
    assert len(column) == 3
    assert column.values(torch.tensor([2]))[0, 0, 0, 0] == -1 + 2 * 2 / 16
    assert column.take(torch.tensor([False, True, True])).data[:, 0, 0, 0].tolist() == [1, 2]


def split() -> Split:
    """Five numbered samples, three rows of another domain."""
    spec = DataSpec({"x": ValueSpec("vector", (1,), values=Real(0, 99)), "class": ValueSpec.label(5)})
    made = Split.of(
        spec, torch.arange(5.0).unsqueeze(1), torch.arange(5), attributes={"twice": 2 * torch.arange(5)}
    )
    other = Column(ValueSpec("vector", (2,)), torch.arange(6.0).reshape(3, 2), paired=False)
    made.columns["other"] = other
    return made


def test_a_split_says_what_it_is_of() -> None:
    spec = split().spec
    assert list(spec) == ["x", "class", "other"]
    assert spec.unpaired == ("other",)
    assert (spec.classes, spec.shape) == (5, (1,))
    again = Split.of(spec, split().x, split().y, other=split().column("other").data)
    assert [c.paired for c in again.columns.values()] == [True, True, False]
    with pytest.raises(CallError, match="no column 'othr'; did you mean 'other'"):
        split().column("othr")
    with pytest.raises(CallError, match="no column 'caption'"):
        Split.of(spec, split().x, caption=split().x)


def test_selecting_keeps_pairs_together_and_the_other_domain_whole() -> None:
    part = split().select(torch.tensor([3, 1]))
    assert part.x.flatten().tolist() == [3, 1]
    assert part.y is not None
    assert part.y.tolist() == [3, 1]
    assert part.attributes["twice"].tolist() == [6, 2]
    assert torch.equal(part.columns["other"].data, split().columns["other"].data)


def test_a_batch_wraps_round_the_rows_of_the_other_domain() -> None:
    index = torch.tensor([4, 0, 3])
    batch = split().batch(index)
    assert batch["other"].tolist() == [[2, 3], [0, 1], [0, 1]]
    assert batch.index is not None
    assert batch.index.tolist() == [4, 0, 3]
    told = split().batch(index, {"other": torch.tensor([2, 2, 1])})
    assert told["other"].tolist() == [[4, 5], [4, 5], [2, 3]]
    assert torch.equal(told.x, batch.x)


def test_all_that_a_split_holds_goes_into_its_fingerprint() -> None:
    assert list(split().tensors()) == ["x", "class", "other", "attributes.twice"]


@pytest.fixture
def two_domains() -> Iterator[dict[str, int]]:
    """A source of 300 numbered samples with captions, and 200 rows of a second domain."""
    changes = {"caption": 0, "other": 0}

    @register("test-two-domains")
    def read(_: DataConfig, options: object, progress: object) -> Pool:
        spec = DataSpec.of("vector", (1,), low=0, high=1000, classes=3)
        x = torch.arange(300.0).unsqueeze(1)
        captions = torch.arange(600).reshape(300, 2)
        captions[0, 0] += changes["caption"]
        other = 500 + torch.arange(200.0).unsqueeze(1)
        other[0] += changes["other"]
        return Pool(
            "two domains",
            spec,
            x,
            torch.arange(300) % 3,
            columns={
                "caption": Column(ValueSpec("text", (2,), values=Tokens(1000)), captions),
                "other": Column(spec.x, other, paired=False),
            },
        )

    yield changes
    config._SOURCES.pop("test-two-domains")


def test_every_column_is_divided(two_domains: dict[str, int]) -> None:
    data = load(DataConfig(source="test-two-domains"))
    assert data.spec.unpaired == ("other",)
    rows: dict[str, list[float]] = {"x": [], "other": []}
    for part in data.splits.values():
        numbers = part.x.flatten().long()
        assert torch.equal(part.columns["caption"].data, torch.stack([2 * numbers, 2 * numbers + 1], 1))
        assert part.y is not None
        assert torch.equal(part.y, numbers % 3)
        rows["x"] += part.x.flatten().tolist()
        rows["other"] += part.columns["other"].data.flatten().tolist()
    assert sorted(rows["x"]) == list(range(300)), "every sample in exactly one split"
    assert sorted(rows["other"]) == [500 + i for i in range(200)], "and every row of the other domain"
    shares = [len(part.columns["other"]) / 200 for part in data.splits.values()]
    np.testing.assert_allclose(shares, (0.7, 0.1, 0.2), atol=0.12)


def test_a_change_in_any_column_changes_the_fingerprint(two_domains: dict[str, int]) -> None:
    asked = DataConfig(source="test-two-domains")
    first = load(asked).fingerprint
    assert load(asked).fingerprint == first
    two_domains["caption"] = 1
    second = load(asked).fingerprint
    two_domains.update(caption=0, other=1)
    assert len({first, second, load(asked).fingerprint}) == 3


@pytest.mark.usefixtures("two_domains")
def test_columns_get_the_names_that_a_model_knows() -> None:
    plain = load(DataConfig(source="test-two-domains"))
    data = load(DataConfig(source="test-two-domains", columns={"prompt": "caption", "target": "other"}))
    assert list(data.spec) == ["x", "class", "prompt", "target"]
    assert data.spec.unpaired == ("target",)
    assert torch.equal(data.train.columns["prompt"].data, plain.train.columns["caption"].data)
    assert torch.equal(data.train.columns["target"].data, plain.train.columns["other"].data)
    assert data.fingerprint != plain.fingerprint
    with pytest.raises(CallError, match=r"data\.columns\.prompt: .* no column 'captoin'; .* 'caption'"):
        load(DataConfig(source="test-two-domains", columns={"prompt": "captoin"}))


@pytest.mark.usefixtures("two_domains")
def test_labels_can_be_left_out() -> None:
    assert list(load(DataConfig(source="test-two-domains", labels=False)).spec) == ["x", "caption", "other"]


@pytest.mark.usefixtures("two_domains")
def test_two_columns_cannot_take_one_name() -> None:
    """`{x: caption}` would leave two columns `x`, of which one is lost."""
    with pytest.raises(CallError, match=r"data\.columns\.class: .* already"):
        load(DataConfig(source="test-two-domains", columns={"class": "caption"}))


@pytest.mark.usefixtures("two_domains")
def test_two_columns_can_change_places() -> None:
    data = load(DataConfig(source="test-two-domains", columns={"caption": "class", "class": "caption"}))
    assert data.spec["class"].shape == (2,)
    assert data.spec["caption"] == ValueSpec.label(3)
    assert data.spec.classes == 0, "what is called class is no label"


@pytest.mark.usefixtures("two_domains")
def test_a_column_can_have_two_names() -> None:
    data = load(DataConfig(source="test-two-domains", columns={"low": "caption", "high": "caption"}))
    assert list(data.spec) == ["x", "class", "low", "high", "other"]
    assert torch.equal(data.train.columns["low"].data, data.train.columns["high"].data)
