"""Choices become the plan that they name."""

from __future__ import annotations

from dataclasses import replace

from niwaki.compression.config import (
    CompressConfig,
    DistillConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
)
from niwaki.compression.search.choices import FLOAT, HALF, Choices, Template, steps_of
from niwaki.core.store import jsonable

TEMPLATE = Template(PruneConfig(), FinetuneConfig(), QuantizeConfig(), matched=True)


def test_each_choice_is_a_step_in_an_order_that_makes_sense() -> None:
    choices = Choices({"a": 0.5, "b": 0.0}, {"a": 8, "b": 8, "c": 4, "d": FLOAT}, evaluations=8)
    plan = CompressConfig(steps=steps_of(choices, TEMPLATE, (20, 40)))
    assert [s.kind for s in plan.steps] == [
        "sampling", "prune", "finetune", "finetune", "sampling", "quantize", "pack",
    ]  # fmt: skip
    prune, first, second, quantize = (plan.steps[i] for i in (1, 2, 3, 5))
    assert isinstance(prune, PruneConfig)
    assert prune.ratios == {"a": 0.5, "b": 0.0}
    assert isinstance(first, FinetuneConfig)
    assert isinstance(second, FinetuneConfig)
    assert (first.steps, second.steps) == (20, 40)
    assert isinstance(quantize, QuantizeConfig)
    assert quantize.bits == 8
    assert {n: quantize.of(n) for n in ("d",)} == {"d": None}
    found = quantize.of("c")
    assert found is not None
    assert found.bits == 4


def test_what_changes_nothing_is_no_step() -> None:
    assert [s.kind for s in steps_of(Choices({"a": 0.0}, {}), TEMPLATE)] == ["pack"]
    assert steps_of(Choices({"a": 0.0}, {}, packed=False), TEMPLATE) == ()


def test_evaluations_are_learnt_first_by_halvings_that_fewer_of_them_begin_with() -> None:
    template = replace(TEMPLATE, matched=False, distill=DistillConfig(evaluations=4, lr=5e-4))
    four = Choices({"a": 0.5}, {}, evaluations=4, distilled=(60, 30), packed=False)
    two = Choices({"a": 0.5}, {}, evaluations=2, distilled=(60, 30, 20), packed=False)
    plans = [CompressConfig(steps=steps_of(c, template, (10,))).steps for c in (four, two)]
    assert [s.kind for s in plans[0]] == ["distill", "distill", "prune", "finetune"]
    learnt = [s for s in plans[1] if isinstance(s, DistillConfig)]
    assert [(s.evaluations, s.steps, s.lr) for s in learnt] == [(8, 60, 5e-4), (4, 30, 5e-4), (2, 20, 5e-4)]
    assert plans[0][:2] == plans[1][:2]
    assert four.key != four.without(distilled=()).key
    assert Choices.from_json(jsonable(two.to_json())) == two


def test_weights_alone_are_rounded_where_inputs_are_not_asked_for() -> None:
    quantize = steps_of(Choices({}, {"a": 8}, inputs=False), TEMPLATE)[0]
    assert isinstance(quantize, QuantizeConfig)
    assert quantize.mode == "weights"


def test_choices_are_equal_where_their_plans_are() -> None:
    one = Choices({"a": 0.5, "b": 0.0}, {"x": 8, "y": FLOAT}, origin="one")
    other = Choices({"a": 0.5}, {"x": 8}, origin="other")
    assert one.key == other.key
    assert one.key != other.without(packed=False).key
    assert Choices.from_json(jsonable(one.to_json())) == one


def test_a_block_that_is_left_out_takes_its_layers_along() -> None:
    choices = Choices(
        {"b.0.up": 0.5, "b.1.up": 0.5}, {"b.0.up": 4, "b.1.up": 8, "b.10.up": 8}, dropped=("b.1",)
    )
    drop, prune, *_, quantize, _ = steps_of(choices, TEMPLATE)
    assert isinstance(drop, PruneConfig)
    assert isinstance(prune, PruneConfig)
    assert isinstance(quantize, QuantizeConfig)
    assert (drop.what, drop.blocks) == ("blocks", ("b.1",))
    assert prune.ratios == {"b.0.up": 0.5}
    assert quantize.of("b.1.up") == quantize.of("nothing")  # nothing is said of it
    other = choices.without(ratios={**choices.ratios, "b.1.up": 0.0})
    assert other.key == choices.key != choices.without(dropped=()).key
    assert Choices.from_json(jsonable(choices.to_json())) == choices


def test_sixteen_bits_are_floats_in_a_plan_of_integers() -> None:
    quantize = steps_of(Choices({}, {"a": 8, "b": 8, "c": HALF}), TEMPLATE)[0]
    assert isinstance(quantize, QuantizeConfig)
    found = quantize.of("c")
    assert found is not None
    assert (found.bits, found.activations) == (HALF, "float")
