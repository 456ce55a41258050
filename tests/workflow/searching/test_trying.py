"""Plans that are only priced spend nothing on the values of weights, and change no shape and no type."""

from __future__ import annotations

from niwaki.compression.config import FinetuneConfig, PruneConfig, QuantizeConfig
from niwaki.compression.search.choices import Choices, Template, steps_of
from niwaki.workflow.searching.trying import shapes_alone

BETTER = {"refit", "method", "correct", "calibration"}
"""Settings on which values depend alone."""


def test_a_priced_plan_is_the_same_but_for_what_makes_values_better() -> None:
    base = QuantizeConfig(backend="niwaki", correct=True)
    template = Template(PruneConfig(refit=True), FinetuneConfig(), base, matched=True)
    choices = Choices({"a": 0.5}, {"a": 4, "b": 4, "c": 8}, inputs=True)
    whole = steps_of(choices, template)
    quick = shapes_alone(whole)
    assert [s.kind for s in quick] == ["prune", "quantize", "pack"]
    without = [step for step in whole if step.kind != "sampling"]
    assert len(without) < len(whole)
    for one, other in zip(without, quick, strict=True):
        assert one.model_dump(exclude=BETTER) == other.model_dump(exclude=BETTER)
        type(other).model_validate(other.model_dump())  # still a plan that can be said
    prune, quantize, _ = quick
    assert isinstance(prune, PruneConfig)
    assert not prune.refit
    assert isinstance(quantize, QuantizeConfig)
    assert (quantize.method, quantize.correct) == ("nearest", False)
    assert quantize.calibration < base.calibration
