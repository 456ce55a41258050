"""The watch for collapse names each planted failure rightly, is silent where nothing fails, and leaves no
trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_toys import Adversaries, Regression

from niwaki.core.contract import DataSpec
from niwaki.core.store import read_json, read_jsonl
from niwaki.data import DataConfig, Split, load
from niwaki.models import build
from niwaki.training import TrainConfig, fit
from niwaki.training.failures import FAILURES, SAMPLES, failures_of, kind_of, lasting, told
from niwaki.training.identity import identity
from niwaki.training.reached import apart, kinds_reached, nearest_kind, rows_of
from niwaki.training.stages import build_stage
from niwaki.training.state import State
from niwaki.training.watcher import Watcher

CLASSES, WIDTH = 10, 6
SPEC = DataSpec.of("vector", (WIDTH,), low=-float("inf"), high=float("inf"), classes=CLASSES)
CENTRES = 4 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(1))


def blobs(n: int, seed: int) -> Split:
    """Ten well-parted clouds, equally frequent, in random order."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.randperm(n, generator=rng) % CLASSES
    return Split.of(SPEC, CENTRES[y] + 0.5 * torch.randn(n, WIDTH, generator=rng), y)


TRAIN, HELD_OUT = blobs(600, 2), blobs(300, 3)


class Planted(nn.Module):
    """A function in the place of a network, which the trainer may move as it likes."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.call, self.idle = call, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.call(x, torch.zeros(len(x), dtype=torch.int64) if y is None else y) + 0 * self.idle


def cloud(z: Tensor, y: Tensor) -> Tensor:
    """What a perfect generator makes."""
    return CENTRES[y] + 0.5 * z[:, :WIDTH]


def any_cloud(z: Tensor, y: Tensor) -> Tensor:
    """A perfect one that is not told the class: z[:, 6] chooses it."""
    return cloud(z, (torch.special.ndtr(z[:, WIDTH]) * CLASSES).long().clamp(0, CLASSES - 1))


def by_heart(x: Tensor, y: Tensor) -> Tensor:
    known = torch.cdist(x.float(), TRAIN.values()).amin(1) < 1e-3
    return torch.where(known, 3.0, -3.0) + 0.01 * x[:, 0]


def fair(x: Tensor, y: Tensor) -> Tensor:
    return 0.1 * x.sum(1)


PLANTED: dict[str, tuple[Any, Any, set[str], str]] = {
    "healthy": (cloud, fair, set(), ""),
    "ignores z and class": (
        lambda z, y: CENTRES[:1].expand(len(z), -1) + 0.0,
        fair,
        {"few_classes", "few_clusters", "alike"},
        "all samples look alike",
    ),
    "ignores z": (
        lambda z, y: CENTRES[y],
        fair,
        {"repeated"},
        "the generator repeats a few samples: most have a near copy among the others",
    ),
    "three of ten classes": (
        lambda z, y: cloud(z, y % 3),
        fair,
        {"few_classes", "few_clusters"},
        "the generator reaches 3 of 10 classes",
    ),
    "learnt by heart": (
        cloud,
        by_heart,
        {"memorized"},
        "the discriminator has learnt the training samples by heart",
    ),
    "all at once": (
        lambda z, y: CENTRES[y % 3],
        by_heart,
        {"few_classes", "few_clusters", "repeated", "memorized"},
        "the generator reaches 3 of 10 classes",
    ),
}


def planted(generator: Any, discriminator: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = build("mlp-gan", {"latent": WIDTH + 1, "width": 8, "depth": 1, "r1": 0, **settings}, SPEC)
    model.generator, model.discriminator = Planted(generator), Planted(discriminator)
    return model


def config(steps: int = 20, **watch: Any) -> TrainConfig:
    watch = {"share": 0.0, "every": 5, **watch}
    return TrainConfig.model_validate({"steps": steps, "batch": 8, "precision": "fp32", "watch": watch})


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_is_named_rightly_and_nothing_else(name: str) -> None:
    generator, discriminator, failures, sentence = PLANTED[name]
    heard: list[str] = []
    result = fit(
        planted(generator, discriminator),
        TRAIN,
        config(),
        seed=0,
        validation=HELD_OUT,
        note=heard.append,
    )
    assert {of["failure"] for of in result.told} == failures
    assert all(of["lasting"] for of in result.told)
    assert len(heard) == len(failures)
    if sentence:
        assert any(sentence in line for line in heard)
        assert any(of["text"] == sentence for of in result.told)
        assert "step 10: " in heard[0], "the second look in a row after the first quarter"


def test_without_labels_clusters_are_reached_or_not() -> None:
    alone = [Split.of(SPEC, split.x, split.y).columns for split in (TRAIN, HELD_OUT)]
    train, held_out = (Split({"x": columns["x"]}) for columns in alone)
    for generator, failures in (
        (any_cloud, set()),
        (lambda z, y: cloud(z, (z[:, WIDTH] > 0).long()), {"few_clusters"}),
    ):
        model = planted(generator, fair, conditional=False)
        result = fit(model, train, config(), seed=0, validation=held_out)
        assert {of["failure"] for of in result.told} == failures
        assert all("classes" not in look for look in result.looks)


def test_without_held_out_samples_the_discriminator_is_not_judged() -> None:
    result = fit(planted(cloud, by_heart), TRAIN, config(), seed=0)
    assert result.told == ()
    assert len(result.looks) == 4
    assert all("overfit" not in look for look in result.looks)


def test_it_can_stop_and_else_does_not() -> None:
    generator, discriminator, _, sentence = PLANTED["three of ten classes"]
    heard: list[str] = []
    stopped = fit(planted(generator, discriminator), TRAIN, config(40, stop=True), seed=0, note=heard.append)
    assert stopped.completed
    assert stopped.steps == 15, "looks at 10 and 15 are the first two after a quarter"
    assert heard[0] == f"step 15: {sentence}; the training is stopped"
    assert fit(planted(generator, discriminator), TRAIN, config(40), seed=0).steps == 40
    healthy = fit(planted(cloud, fair), TRAIN, config(40, stop=True), seed=0, validation=HELD_OUT)
    assert (healthy.steps, healthy.told) == (40, ())


def test_a_failure_that_passes_is_told_as_passed() -> None:
    class Late(nn.Module):
        """Collapsed at first; `idle` is moved by every step."""

        def __init__(self) -> None:
            super().__init__()
            self.count = nn.Parameter(torch.zeros(()))

        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return torch.where(self.count > 25, cloud(z, y), cloud(z, y % 3)) + 0 * self.count

    model = planted(cloud, fair)
    model.generator = Late()
    after = model.after_step
    model.after_step = lambda ctx: (after(ctx), model.generator.count.add_(1))  # type: ignore[method-assign]
    train = config(40).model_copy(update={"ema": 0.0})
    result = fit(model, TRAIN, train, seed=0)
    assert {of["failure"]: of["lasting"] for of in result.told} == {
        "few_classes": False,
        "few_clusters": False,
    }


def test_looks_leave_no_trace_in_the_weights() -> None:
    def trained(**watch: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = build("mlp-gan", {"latent": 7, "width": 8, "depth": 1, "spectral": True}, SPEC)
        train = config(12, **watch) if watch else config(12).model_copy(update={"watch": None})
        fit(model, TRAIN, train, seed=0, validation=HELD_OUT)
        return model.state_dict()

    watched, plain = trained(every=2), trained()
    assert all(torch.equal(watched[name], value) for name, value in plain.items())


def test_a_resumed_training_goes_on_with_its_looks(tmp_path: Any) -> None:
    train = config(20, every=4).model_copy(update={"checkpoint_every": 8})
    whole = fit(planted(*PLANTED["ignores z"][:2]), TRAIN, train, seed=0, validation=HELD_OUT)

    class Stop(Exception):
        pass

    def stop(step: int, total: int, last: Any) -> None:
        if step >= 18:
            raise Stop

    with pytest.raises(Stop):
        fit(
            planted(*PLANTED["ignores z"][:2]),
            TRAIN,
            train.model_copy(update={"log_every": 1}),
            seed=0,
            validation=HELD_OUT,
            directory=tmp_path,
            progress=stop,
        )
    heard: list[str] = []
    model = planted(*PLANTED["ignores z"][:2])
    resumed = fit(
        model, TRAIN, train, seed=0, validation=HELD_OUT, directory=tmp_path, resume=True, note=heard.append
    )
    assert resumed.looks == whole.looks
    assert resumed.told == whole.told
    assert heard == [], "it was told before the stop"
    steps = [line["step"] for line in read_jsonl(tmp_path / "metrics.jsonl") if "watch/nearest" in line]
    assert steps == [4, 8, 12, 16, 20]
    record = read_json(max((tmp_path / "checkpoints").iterdir()) / "state.json")
    assert record["looks"] == [dict(look) for look in whole.looks]


def test_looks_take_no_more_than_their_share_of_the_time() -> None:
    model = planted(cloud, fair)
    result = fit(model, TRAIN, config(40, every=1, share=1e-9), seed=0, validation=HELD_OUT)
    assert [look["step"] for look in result.looks] == [1, 40], "the first and the last"
    # Several processes have to look at the same steps, whatever their clocks say.
    state = State(model, config(40, every=1, share=1e-9), 0, torch.device("cpu"))
    state.counters.step = 3
    stage = build_stage(model, state.config, 0, 0)
    for alone, looks in ((True, False), (False, True)):
        watcher = Watcher(state, TRAIN, HELD_OUT, alone=alone)
        watcher.seconds = 1.0
        assert watcher.due(stage) == looks


@pytest.mark.parametrize(("steps", "looks"), [(100, 20), (99, 0)])
def test_where_nothing_is_said_short_stages_are_not_looked_at(steps: int, looks: int) -> None:
    train = TrainConfig.model_validate({"steps": steps, "batch": 4, "watch": {"share": 0}})
    found = fit(planted(cloud, fair), TRAIN, train, seed=0).looks
    assert sum(kind_of(look) == SAMPLES for look in found) == looks


@pytest.mark.parametrize("kind", [Regression, Adversaries])
def test_who_has_no_adversary_that_says_so_is_not_looked_at(kind: Any, vectors: Split) -> None:
    torch.manual_seed(0)
    result = fit(kind(), vectors, config(8, every=2), seed=0)
    assert (result.looks, result.told) == ((), ())


def test_it_is_no_part_of_what_the_weights_follow_from_unless_it_stops() -> None:
    usual = identity(TrainConfig())
    assert "watch" not in usual
    for watch in (None, {"every": 7}, {"patience": 3}):
        assert identity(TrainConfig.model_validate({"watch": watch})) == usual
    assert identity(TrainConfig.model_validate({"watch": {"stop": True}}))["watch"]["stop"]


def test_how_many_kinds_are_reached_in_closed_form() -> None:
    shares = torch.full((4,), 0.25)
    real = torch.arange(80) % 4
    found = kinds_reached(torch.tensor([0] * 71 + [1] * 8 + [2]), real, shares)
    assert (found.count, found.of, found.missing) == (2, 4, (2, 3)), "one stray of 80 is not a class"
    assert found.share == 0.5
    rare = kinds_reached(
        real, torch.zeros(80, dtype=torch.int64), torch.tensor([0.9997, 0.0001, 0.0001, 0.0001])
    )
    assert (rare.count, rare.of) == (1, 1), "only what real samples reach is asked for"


def test_distances_and_votes_in_closed_form() -> None:
    square = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [3.0, 4.0]])
    found = apart(square)
    assert found["nearest"] == pytest.approx(3.0)
    assert found["spread"] == pytest.approx(((9 + 16 + 25) / 3) ** 0.5)
    known = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    kinds = torch.tensor([0, 0, 0, 1, 1, 1])
    assert nearest_kind(torch.tensor([[0.3], [4.0]]), known, kinds).tolist() == [0, 1]
    assert nearest_kind(known[:1], known[:2], torch.tensor([1, 0]), itself=False).tolist() == [0]


def test_projected_rows_keep_their_distances() -> None:
    x = torch.randn(40, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    rows = rows_of(x)
    assert rows.shape == (40, 256)
    ratio = torch.pdist(rows) / torch.pdist(x.flatten(1))
    assert (ratio - 1).abs().mean() < 0.06
    assert torch.equal(rows_of(x[:, :, :4, :4]), x[:, :, :4, :4].flatten(1))


def test_failures_need_patience_and_are_named_by_one_sentence_each() -> None:
    bad = {"stage": "main", "classes": [3, 10], "nearest": 1.0, "spread": 1.0}
    good = {**bad, "classes": [9, 10]}
    assert failures_of(good) == {}
    assert told([good, bad], 2) == {}
    assert told([{**bad, "young": True}, bad], 2) == {}
    bad_text = "the generator reaches 3 of 10 classes"
    assert told([bad, bad], 2) == {"few_classes": bad_text}
    assert told([bad], 2) == {}
    assert told([{**bad, "young": True}, bad], 2, ended=True) == {"few_classes": bad_text}
    assert told([good, bad], 2, ended=True) == {}
    assert told([{**bad, "young": True}], 2, ended=True) == {}
    assert lasting([bad, bad], {"stage": "main", "failure": "few_classes"})
    assert not lasting([bad, good], {"stage": "main", "failure": "few_classes"})
    assert set(FAILURES) == {
        "few_classes",
        "few_clusters",
        "alike",
        "repeated",
        "memorized",
        "less_diverse",
        "dead",
        "vanishing",
        "exploding",
        "fast",
    }


@pytest.mark.slow
@pytest.mark.parametrize("collapsed", [False, True])
def test_a_real_training_on_digits_is_told_apart_from_one_that_collapses(collapsed: bool) -> None:
    """The collapsed generator is not given its noise: it can make one picture of each class."""
    data = load(DataConfig(source="digits"))
    torch.manual_seed(0)
    model: Any = build("mlp-gan", {"width": 128}, data.spec)
    if collapsed:
        whole = model.generator.forward
        model.generator.forward = lambda z, y: whole(torch.zeros_like(z), y)
    train = TrainConfig(steps=400, lr=1e-3, betas=(0.0, 0.99), ema=0.99, precision="fp32")
    told_ = {of["failure"] for of in fit(model, data.train, train, seed=0, validation=data.validation).told}
    assert ("repeated" in told_) == collapsed
    assert collapsed or not told_
