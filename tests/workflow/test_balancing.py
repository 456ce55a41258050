"""Balance by rejection: every value equally often, each a sample of the seed, none twice."""

import numpy as np
import pytest

from niwaki.core.contract import CallError, NiwakiError
from niwaki.workflow.balancing import balanced


class Reader:
    """The value of a sample is the sample."""

    def __init__(self, values):
        self._values = values

    def value_names(self, by):
        return tuple(f"v{i}" for i in range(self._values))

    def of_samples(self, x):
        return {"class": x.astype(np.int64)}

    def joint(self, found, by):
        return found[by]

    def means(self, part):
        return "itself"


def stream(shares):
    draws = np.random.default_rng(0).choice(len(shares), 20000, p=shares)

    def make(first, count):
        return draws[first : first + count].astype(np.float32), {"row": np.arange(first, first + count)}

    return draws, make


def test_the_first_of_every_value_are_taken_in_the_order_of_the_seed():
    draws, make = stream([0.7, 0.25, 0.05])
    found = balanced(make, Reader(3), "class", 50)
    expected = np.sort(
        np.concatenate([np.flatnonzero(draws == v)[:k] for v, k in ((0, 17), (1, 17), (2, 16))])
    )
    assert np.array_equal(found.index, expected)
    assert np.array_equal(found.x, draws[expected])
    assert np.array_equal(found.rows["row"], expected)
    assert found.record["taken"] == {"v0": 17, "v1": 17, "v2": 16}
    assert sum(found.record["came"].values()) == found.record["candidates"]


def test_a_value_that_never_comes_is_said():
    _, make = stream([0.5, 0.5, 0.0])
    with pytest.raises(NiwakiError, match="'v2' came 0 times"):
        balanced(make, Reader(3), "class", 30, most=3)


def test_fewer_samples_than_values_are_refused():
    _, make = stream([0.5, 0.5])
    with pytest.raises(CallError, match="cannot hold all 2 values"):
        balanced(make, Reader(2), "class", 1)
