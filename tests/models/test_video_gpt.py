"""Clips as codes of their frames: frame by frame, free or after a past, by a prior that looks back alone."""

from __future__ import annotations

import pytest
import torch
from model_cases import CLIPS, LATER, batch, context, make
from torch import Tensor

from niwaki.core.contract import CallError, Context, DataSpec, ValueSpec
from niwaki.models.video.clip_prior import ClipPrior

SHAPES = [(1, 1, 8, 8), (2, 3, 8, 8), (3, 1, 12, 8), (5, 2, 8, 16), (8, 1, 16, 16)]
PRIORS = ["causal", "masked"]
LABELLED = DataSpec({**LATER.columns, "class": ValueSpec.label(3)})


def after(n: int = 3, spec: DataSpec = LATER) -> Tensor:
    return batch(spec, n)["past"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_frame_is_coded_as_it_would_be_alone(shape: tuple[int, ...]) -> None:
    """Codes of a clip are those of its frames, in their order; and each is drawn by its own codes."""
    model = make("video-gpt", DataSpec.of("video", shape)).eval()
    x = batch(model.spec, 3).x
    codes = model.encode(x)
    assert codes.shape == (3, shape[0] * model.each)
    for t in range(shape[0]):
        alone = model.encode(x[:, t : t + 1])
        assert torch.equal(codes[:, t * model.each : (t + 1) * model.each], alone)
    drawn = model.decode(codes)
    assert drawn.shape == x.shape
    other = codes.clone()
    other[:, : model.each] = (other[:, : model.each] + 1) % model.config.codes
    moved = (model.decode(other) - drawn).abs().amax((0, 2, 3, 4)) > 0
    assert moved[0]
    assert not moved[1:].any()


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("spec", [LATER, LABELLED], ids=["free", "labelled"])
def test_what_follows_begins_with_the_codes_of_the_past(prior: str, spec: DataSpec) -> None:
    model = make("video-gpt", spec, prior=prior).eval()
    past = after(spec=spec)
    assert set(model.programs()) == {"sample", "continue", "encode"}
    codes = model.run("encode", 3, inputs={"x": batch(spec, 3).x.numpy()})
    assert torch.equal(codes, model.encode(batch(spec, 3).x))
    assert "past" not in model.program("sample").inputs
    made = model.run("continue", 3, seed=4, inputs={"past": past.numpy()})
    again = model.run("continue", 3, seed=4, inputs={"past": past.numpy()})
    other = model.run("continue", 3, seed=4, inputs={"past": -past.numpy()})
    assert tuple(made.shape) == (3, *spec.shape)
    assert torch.equal(made, again)
    assert not torch.equal(made, other)
    prompt = model.prompt(past)
    own = past.shape[1] * model.each
    assert torch.equal(prompt[:, :own], model.encode(past))
    assert (prompt[:, own:] == -1).all()


def test_the_past_is_learned_as_part_of_the_clip() -> None:
    model, rows = make("video-gpt", LATER).eval(), batch(LATER, 4)
    whole = model.whole(rows)
    assert torch.equal(whole[:, :2], rows["past"])
    assert torch.equal(whole[:, 2:], rows.x)
    assert model.length == 6 * model.each
    codes = model.encode(whole)
    wanted = model.prior.loss(codes, (), torch.Generator())["nll"]
    torch.testing.assert_close(model.loss("prior", rows, context())["nll"], wanted)


def test_places_share_what_is_the_same_in_every_frame() -> None:
    torch.manual_seed(0)
    prior = ClipPrior(7, 4, 6, 0, width=8, heads=2, layers=1, dropout=0.0)
    told = prior.place(torch.arange(24)).unflatten(0, (4, 6))
    step = told[:, 1:] - told[:, :1]
    torch.testing.assert_close(step, step[:1].expand_as(step))
    assert float((told[1:] - told[:-1]).detach().abs().amax((1, 2)).min()) > 0.1


def test_writing_code_by_code_equals_reading_all_at_once() -> None:
    model = make("video-gpt", CLIPS).eval()
    numbers, y = torch.randint(0, 16, (3, model.length)), torch.tensor([0, 1, 2])
    graph = model.graphs()["prior"]
    state = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    token, rows = torch.full((3,), model.config.codes), []
    for i in range(model.length):
        logits, *new = graph(token, torch.tensor([i]), y, *state)
        for held, row in zip(state, new, strict=True):
            held[:, i : i + 1] = row
        rows.append(logits)
        token = numbers[:, i]
    torch.testing.assert_close(torch.stack(rows, 1), model.prior(numbers, y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mean", [-0.99, -0.8, -0.3, 0.0, 0.6])
def test_the_decoder_begins_near_the_mean_of_the_data(mean: float) -> None:
    """From a bias of zero the first steps over dark ground put the output where its bound has no slope."""
    model = make("video-gpt", CLIPS)
    rows = batch(CLIPS, 4)
    rows = type(rows)({**rows, "x": torch.full_like(rows.x, mean)})
    with torch.no_grad():
        ctx = Context(0, 0.0, "codes", {}, torch.Generator().manual_seed(0))
        model.begin_stage(ctx, lambda k: rows)
        drawn = model.decode(model.encode(rows.x))
    assert abs(float(drawn.mean()) - max(-0.9, mean)) < 0.15


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (DataSpec.of("image", (1, 8, 8)), r"makes clips \(T, C, H, W\)"),
        (DataSpec.of("video", (3, 1, 3, 8)), "at least 4×4 pixels"),
        (
            DataSpec({"x": LATER.x, "past": ValueSpec("video", (2, 2, 8, 8))}),
            "must be frames like those of the clips",
        ),
    ],
)
def test_data_that_it_is_not_for(spec: DataSpec, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        make("video-gpt", spec)
