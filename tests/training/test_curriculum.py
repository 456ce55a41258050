"""Easy samples come first, all of them in the end, and which ones follows from the step alone."""

from __future__ import annotations

import math

import pytest
import torch
from training_toys import Adversaries, Regression

from niwaki.core.contract import DataSpec
from niwaki.data import Feeder, Split
from niwaki.training import TrainConfig, fit
from niwaki.training.batch_norms import few_for_batch_norms
from niwaki.training.checks import CHECKS, Subject
from niwaki.training.curriculum import CurriculumConfig, CurriculumFeeder, samples_in
from niwaki.training.difficulties import difficulty_of
from niwaki_runtime.errors import CallError

N, BATCH = 50, 5


def vectors(x):
    x = torch.as_tensor(x, dtype=torch.float32)
    return Split.of(DataSpec.of("vector", tuple(x.shape[1:])), x)


@pytest.fixture
def split():
    """Rows whose distance from their mean, zero, is their number; hard ones first."""
    sizes = torch.arange(N, 0, -1, dtype=torch.float32)
    signs = torch.tensor([1.0, -1.0]).repeat(N // 2)
    rows = torch.zeros(N, 4)
    rows[:, 0] = sizes * signs
    return vectors(rows - rows.mean(0))


def config(**settings):
    return CurriculumConfig.model_validate({"by": "novelty", **settings})


@pytest.mark.parametrize("pace", ["linear", "root"])
def test_the_share_rises_from_its_start_to_all(pace):
    course = config(start=0.25, until=0.5, pace=pace)
    assert course.share(0.0) == pytest.approx(0.25)
    assert [course.share(t) for t in (0.5, 0.7, 1.0)] == [1.0, 1.0, 1.0]
    half = 0.625 if pace == "linear" else math.sqrt((0.25**2 + 1.0) / 2)
    assert course.share(0.25) == pytest.approx(half)


def test_batches_hold_only_what_is_easy_enough_and_all_of_it(split):
    course = config(start=0.2, until=0.5, pace="linear")
    feeder = CurriculumFeeder(split, BATCH, course, 400 * BATCH, seed=3)
    order = difficulty_of(split, "novelty").argsort(kind="stable")
    rank = {int(row): i for i, row in enumerate(order)}
    for k in range(200):
        most = math.ceil((0.2 + 0.8 * k / 200) * N - 1e-9)
        assert feeder.eligible(k) == most
        assert max(rank[int(row)] for row in feeder.index(k)) < most
    early = {rank[int(row)] for k in range(20) for row in feeder.index(k)}
    assert early >= set(range(10))  # none of the easy ones is left out


def test_from_then_on_it_is_the_feeder_that_it_would_be_without(split):
    feeder = CurriculumFeeder(split, BATCH, config(until=0.5), 100 * BATCH, seed=3)
    whole = Feeder(split, BATCH, seed=3)
    assert all(torch.equal(feeder.index(k), whole.index(k)) for k in range(50, 100))
    assert not torch.equal(feeder.index(10), whole.index(10))


def test_processes_share_one_batch(split):
    course = config(until=1.0)
    one = CurriculumFeeder(split, 6, course, 600, seed=1)
    ranks = [CurriculumFeeder(split, 2, course, 600, seed=1, rank=r, world=3) for r in range(3)]
    for k in (0, 7, 50):
        assert torch.equal(torch.cat([r.index(k) for r in ranks]), one.index(k))


def test_a_resumed_training_sees_the_same_samples(split, tmp_path):
    settings = {"steps": 8, "batch": 4, "curriculum": {"by": "novelty", "until": 1.0}, "lr": 1e-2}
    whole, part = Regression(), Regression()
    part.load_state_dict(whole.state_dict())
    fit(whole, split, TrainConfig.model_validate(settings), seed=0)
    short = TrainConfig.model_validate({**settings, "checkpoint_every": 3})

    class Stopped(Exception):
        pass

    def stop(done, total, last):
        if done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        fit(
            part,
            split,
            short,
            seed=0,
            directory=tmp_path,
            progress=lambda d, t, m: stop(4 if d >= 4 else 0, t, m),
        )
    again = Regression()
    fit(again, split, short, seed=0, directory=tmp_path, resume=True)
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_samples_of_a_training_are_those_that_its_phases_draw(split):
    seen = Adversaries(repeats=2, every=3)
    fit(seen, split, TrainConfig(steps=6, batch=4, watch=None), seed=0)
    drawn = {(step, tuple(rows)) for phase, step, rows in seen.seen if phase == "critic"}
    assert samples_in(seen, [("main", 6, 4)]) == 4 * len(drawn) == 48


def test_difficulties_order_as_they_say():
    padded = vectors([[1, 2, 3, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]])
    assert difficulty_of(padded, "length").tolist() == [3, 1, 5, 0]
    waves = vectors([[0, 1, 0, 1], [0, 0, 1, 1], [2, 2, 2, 2]])
    assert difficulty_of(waves, "detail").argsort().tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("lenght", "there is no 'lenght'; did you mean 'length'"),
        ("column:size", "the data have no column 'size'"),
        ("no_such_module:f", "cannot be imported"),
    ],
)
def test_what_cannot_order_the_data_is_refused(split, by, said):
    with pytest.raises(CallError, match=said):
        difficulty_of(split, by)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"batch": 8}, 8),
        ({"batch": 64, "accumulate": 8}, 8),
        ({"batch": 64}, None),
        ({"batch": 8, "freeze": ["generator"]}, None),
    ],
)
def test_batch_normalization_over_few_samples_is_told(split, settings, size):
    said = few_for_batch_norms(Adversaries(), TrainConfig.model_validate(settings))
    looked = CHECKS["batch_norms"]().look(Subject(Adversaries, split, TrainConfig.model_validate(settings)))
    assert looked.findings[0].level == ("warning" if size else "note")
    assert (f"generator.1: batch normalization sees {size} samples" in said) if size else said == ""
