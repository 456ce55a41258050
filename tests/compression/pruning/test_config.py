"""What a pruning step says about itself: combinations that make no sense are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from niwaki.compression import FinetuneConfig, PruneConfig, check_order
from niwaki.compression.pruning.config import nm
from niwaki.core.contract import CallError


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pattern": "2:4"}, "'pattern' means nothing for pruning channels"),
        ({"what": "weights", "pattern": "4:2"}, "a pattern is 'n:m' with 0 < n < m"),
        ({"what": "weights", "pattern": "two:4"}, "a pattern is 'n:m'"),
        ({"what": "weights", "pattern": "2:4", "ratio": 0.7}, "the pattern 2:4 takes 0.5 away"),
        ({"what": "weights", "pattern": "2:4", "ranking": "global"}, "same share of every layer"),
        ({"what": "weights", "round_to": 4}, "'round_to' means nothing .* weights: no width"),
        ({"what": "weights", "importance": "magnitud"}, "of weights; did you mean 'magnitude'"),
        ({"what": "weights", "importance": "activation"}, "no importance 'activation' of weights"),
        ({"importance": "movement"}, "no importance 'movement'"),
        ({"ranking": "lamp"}, "no ranking 'lamp' of channels"),
        ({"what": "weights", "ranking": "adaptive"}, "no ranking 'adaptive' of weights"),
        ({"what": "weights", "importance": "movement"}, "give it 'train' steps"),
        ({"what": "weights", "train": 5}, "'train' means nothing for importance 'magnitude'"),
        ({"what": "weights", "method": "group_lasso", "train": 9}, "groups are of channels"),
        ({"what": "blocks", "method": "l0", "train": 9}, "no method 'l0' for blocks"),
        ({"method": "l0"}, "'l0' learns what goes: give it 'train' steps"),
        ({"method": "l0", "train": 5, "importance": "taylor"}, "'importance' means nothing .*by the method"),
        ({"count": 2}, "blocks alone are counted"),
        ({"what": "blocks", "importance": "taylor"}, "'importance' means nothing for pruning blocks"),
        ({"ratios": {"a": 1.0}}, "the ratio of 'a' must be at least 0 and below 1"),
        ({"ratios": {"a": 0.5}, "ranking": "global"}, "nothing to rank 'global'"),
        ({"recover": 5}, "there is only one"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(CallError, match=text):
        PruneConfig(**settings)


def test_a_pattern_says_its_ratio_and_configs_survive_json() -> None:
    assert PruneConfig(what="weights", pattern="1:4").ratio == 0.75
    assert nm("2:4") == (2, 4)
    for config in (
        PruneConfig(what="weights", pattern="1:4"),
        PruneConfig(what="weights", importance="movement", train=10, rounds=3, schedule="cubic"),
        PruneConfig(method="l0", train=50, ratio=0.3, weight=2.0),
        PruneConfig(what="blocks", count=2, exclude=("a",)),
        PruneConfig(ratios={"generator.conv1": 0.25}),
    ):
        assert PruneConfig.model_validate(config.model_dump(mode="json")) == config


def test_what_would_tear_a_pattern_apart_is_refused_before_anything_is_done() -> None:
    pattern = PruneConfig(what="weights", pattern="2:4")
    with pytest.raises(CallError, match="tear the pattern 2:4 apart"):
        check_order((pattern, PruneConfig()))
    with pytest.raises(CallError, match="have the pattern 2:4 already"):
        check_order((pattern, PruneConfig(what="weights", ratio=0.9)))
    check_order((PruneConfig(), PruneConfig(what="blocks", count=1), pattern, FinetuneConfig()))


def test_only_what_trains_needs_data() -> None:
    assert not PruneConfig(importance="taylor").trains
    assert PruneConfig(rounds=2, recover=5).trains
    assert PruneConfig(method="l0", train=5).trains
