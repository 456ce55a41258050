"""What the course of a stage shows is told at its end, and nothing where all is well."""

from __future__ import annotations

import math

import pytest
from training_toys import Regression

from niwaki.training import TrainConfig, fit
from niwaki.training.course import Course, failures_of_course
from niwaki.training.validation import History


def history(*losses):
    made = History()
    for step, loss in enumerate(losses, 1):
        made.add(loss, 10 * step)
    return made


@pytest.mark.parametrize(
    ("losses", "best", "failures"),
    [
        ((1.0, 0.5, 0.4, 0.39), False, set()),
        ((1.0, 0.2, 0.3), False, set()),  # an eighth of what it fell by: noise
        ((1.0, 0.2, 0.5), False, {"overfitted"}),
        ((1.0, 0.2, 0.5), True, set()),  # it ends with the best weights
        ((-3.0, -5.0, -2.0), False, {"overfitted"}),  # densities are negative
        ((1.0, 1.1, 1.2), False, {"not_converging"}),
        ((1.0, math.nan, math.nan), False, {"not_converging"}),
        ((1.0, 2.0), False, set()),  # two points are no course
        ((), False, set()),
    ],
)
def test_held_out_losses(losses, best, failures):
    assert set(failures_of_course(Course(history(*losses), {}, best))) == failures


@pytest.mark.parametrize(
    ("last", "failures"),
    [
        ({"elbo/nats_of_latent": 0.01}, {"silent_latent"}),
        ({"elbo/nats_of_latent": 12.0}, set()),
        ({"codec/perplexity": 1.3}, {"few_codes"}),
        ({"codec/perplexity_1": 90.0, "codec/perplexity_2": 1.0}, {"few_codes"}),
        ({"prior/expert_perplexity": 1.0}, set()),  # experts have a word of their own
    ],
)
def test_latents_and_codes(last, failures):
    assert set(failures_of_course(Course(History(), last))) == failures


def test_the_history_goes_through_a_checkpoint_and_older_ones_are_read():
    made = history(1.0, 0.5)
    assert History.from_json(made.to_json()) == made
    old = {k: v for k, v in made.to_json().items() if k in ("best", "step", "reference", "waited")}
    assert History.from_json(old).best == 0.5


@pytest.mark.parametrize(
    ("loss", "failure"),
    [(lambda step: abs(step - 100.0), "overfitted"), (lambda step: float(step), "not_converging")],
)
def test_a_training_tells_it_at_its_end_and_keeps_it(loss, failure, vectors, tmp_path):
    notes: list[str] = []
    config = TrainConfig(steps=200, batch=8, validate_every=20)
    more = {"seed": 0, "directory": tmp_path, "note": notes.append}
    result = fit(Regression(), vectors, config, validate=lambda model, step: {"loss": loss(step)}, **more)
    assert [(of["failure"], of["course"], of["lasting"]) for of in result.told] == [(failure, True, True)]
    assert notes[-1].startswith("at the end of the stage 'main', the held-out loss")
    again = fit(Regression(), vectors, config, resume=True, **more)
    assert again.told == result.told


def test_a_training_that_goes_well_tells_nothing(vectors):
    result = fit(
        Regression(), vectors, TrainConfig(steps=60, batch=8, validate_every=10), seed=0, validation=vectors
    )
    assert result.told == ()
