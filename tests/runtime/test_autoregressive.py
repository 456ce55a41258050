"""Prompts, strides, caches by rows and the end of a sample, on a network whose every step is plain."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Autoregressive, Noise, NumpyBackend, State
from niwaki_runtime.samplers.base import sampler_from_json
from niwaki_runtime.samplers.reading import carry, teacher_forced

LEVELS, LENGTH = 7, 12
STATE = (State("seen", "seen_new", (1, LENGTH)),)


def logits_of(history: list[int]) -> np.ndarray:
    """A function of all tokens fed so far and of their places: no cache that is wrong gets away with it."""
    total = sum((i + 1) * (t + 1) for i, t in enumerate(history))
    return np.sin(np.arange(1, LEVELS + 1) * total).astype(np.float32) * 3


class Rows:
    """Remembers the tokens in its state, and returns only the rows that are new."""

    state = STATE

    def __init__(self, stride: int | None = None) -> None:
        self.stride, self.calls = stride, 0

    def __call__(self, tokens: np.ndarray, position: np.ndarray, seen: np.ndarray) -> Any:
        self.calls += 1
        at = int(position[0])
        tokens = tokens.reshape(len(tokens), -1)
        assert tokens.shape[1] == (self.stride or 1)
        out = []
        for row, kept in zip(tokens, seen, strict=True):
            history = [int(v) for v in kept[:at]]
            out.append([logits_of(history + [int(t) for t in row[: j + 1]]) for j in range(len(row))])
        logits = np.array(out)
        return (logits if self.stride else logits[:, 0]), tokens.astype(np.float32)


class Whole(Rows):
    """The same, but returns its state whole."""

    def __call__(self, tokens: np.ndarray, position: np.ndarray, seen: np.ndarray) -> Any:
        logits, rows = super().__call__(tokens, position, seen)
        after = seen.copy()
        after[:, int(position[0]) : int(position[0]) + rows.shape[1]] = rows
        return logits, after


def noise(n: int = 3, start: int = 0) -> Noise:
    return Noise(NumpyBackend(), 5, start, n)


def prompts(*rows: list[int]) -> np.ndarray:
    out = np.full((len(rows), 9), -1)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def plain(prompt: list[int], sample: int, first: int = 0) -> list[int]:
    """Greedy continuation without state, slowly."""
    fed, made = [first], []
    for i in range(LENGTH):
        made.append(prompt[i] if i < len(prompt) else int(logits_of(fed).argmax()))
        fed.append(made[-1])
    return made


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("kind", [Rows, Whole])
def test_prompts_are_kept_and_continued(stride: int, kind: Any) -> None:
    sampler = Autoregressive(LENGTH, prompt="p", prefill="read", stride=stride, temperature=0.0)
    rows = [[1, 2, 3, 4, 5], [], [6, 6, 1]]
    made = sampler({"decode": kind(), "read": kind(stride)}, noise(), {"p": prompts(*rows)})
    assert made.tolist() == [plain(row, i) for i, row in enumerate(rows)]


def test_strides_save_calls_and_change_nothing() -> None:
    prompt = {"p": prompts([1, 2, 3, 4, 5, 6, 0, 1], [3, 2, 1, 0, 1, 2, 3, 4])}
    slow = Rows()
    alone = Autoregressive(LENGTH, prompt="p")({"decode": slow}, noise(2), prompt)
    fast, read = Rows(), Rows(4)
    graphs = {"decode": fast, "read": read}
    made = Autoregressive(LENGTH, prompt="p", prefill="read", stride=4)(graphs, noise(2), prompt)
    np.testing.assert_array_equal(made, alone)
    assert (slow.calls, read.calls, fast.calls) == (12, 3, 3)  # nine tokens fed by three strides


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    sampler = Autoregressive(LENGTH, prompt="p", prefill="read", stride=4)
    graphs = {"decode": Rows(), "read": Rows(4)}
    rows = prompts([1, 2, 3, 4, 5], [2, 2], [6])
    together = sampler(graphs, noise(3), {"p": rows})
    for i in range(3):
        np.testing.assert_array_equal(
            sampler(graphs, noise(1, i), {"p": rows[i : i + 1]}), together[i : i + 1]
        )


def test_a_prompt_as_long_as_the_sample_is_the_sample() -> None:
    sampler = Autoregressive(4, prompt="p", prefill="read", stride=2)
    graphs = {"decode": Rows(), "read": Rows(2)}
    assert sampler(graphs, noise(1), {"p": np.array([[3, 1, 2, 4, 5]])}).tolist() == [[3, 1, 2, 4]]


def test_after_the_end_there_is_only_the_end() -> None:
    sampler = Autoregressive(LENGTH, prompt="p", temperature=0.0)
    graph = Rows()
    free = sampler({"decode": graph}, noise(2), {"p": prompts([1], [2])})
    stop = int(free[0, 4])
    ended = sampler.override(stop=stop)({"decode": graph}, noise(2), {"p": prompts([1], [2])})
    for row, whole in zip(ended.tolist(), free.tolist(), strict=True):
        at = next((i for i in range(1, LENGTH) if whole[i] == stop), LENGTH)
        assert row == whole[: at + 1] + [stop] * (LENGTH - at - 1)


def test_all_samples_over_is_the_end_of_the_work() -> None:
    graph = Rows()
    free = Autoregressive(LENGTH, temperature=0.0)({"decode": graph}, noise(1), {})
    graph.calls = 0
    Autoregressive(LENGTH, temperature=0.0, stop=int(free[0, 2]))({"decode": graph}, noise(1), {})
    assert graph.calls <= 3


def test_the_end_inside_a_prompt_ends_nothing() -> None:
    sampler = Autoregressive(LENGTH, prompt="p", temperature=0.0, stop=3)
    made = sampler({"decode": Rows()}, noise(1), {"p": prompts([1, 3, 2, 3, 4])})
    assert made[0, :5].tolist() == [1, 3, 2, 3, 4]
    assert made[0, 5] == plain([1, 3, 2, 3, 4], 0)[5]


def test_a_prompt_that_ends_with_the_end_goes_on() -> None:
    """Only what was made ends a sample (as in chats, whose turns end with it), read at once or not."""
    rows = prompts([1, 3], [2, 4, 3])
    graphs = {"decode": Rows(), "read": Rows(4)}
    for prefill in ("", "read"):
        sampler = Autoregressive(LENGTH, prompt="p", temperature=0.0, stop=3, stride=4, prefill=prefill)
        made = sampler(graphs, noise(2), {"p": rows})
        assert made[0, 2] == plain([1, 3], 0)[2]
        assert made[1, 3] == plain([2, 4, 3], 0)[3]


def test_every_one_of_several_ends_ends_a_sample() -> None:
    sampler = Autoregressive(LENGTH, temperature=1.5)
    free = sampler({"decode": Rows()}, noise(40), {})
    ended = sampler.override(stop=6, stops=(2, 5))({"decode": Rows()}, noise(40), {})
    for row, whole in zip(ended.tolist(), free.tolist(), strict=True):
        at = next((i for i, token in enumerate(whole) if token in (2, 5, 6)), LENGTH)
        assert row == (whole[: at + 1] + whole[at : at + 1] * LENGTH)[:LENGTH]
    never = sampler.override(stop=-1, stops=(2, 5))({"decode": Rows()}, noise(40), {})
    assert (never == free).all()


@pytest.mark.parametrize("prefill", ["", "read"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prompt_may_stand_alone(prefill: str, temperature: float) -> None:
    """Without a first token before prompts: what is made is what the network says of the prompt itself."""
    shared = {"prompt": "p", "prefill": prefill, "stride": 4, "temperature": temperature}
    alone = Autoregressive(LENGTH, first=5, alone=True, **shared)  # type: ignore[arg-type]
    graphs = {"decode": Rows(), "read": Rows(4)}
    rows = prompts([1, 2, 3, 4, 5], [2], [], [6, 1, 2, 3, 4, 5, 6, 0, 1])
    made = alone(graphs, noise(4), {"p": rows})
    for i, row in enumerate(made.tolist()):
        if temperature == 0.0:
            fed = [] if i != 2 else [5]
            for at in range((rows[i] != -1).sum(), LENGTH):
                assert row[at] == logits_of(fed + row[:at]).argmax()
        single = alone(graphs, noise(1, i), {"p": rows[i : i + 1]})
        np.testing.assert_array_equal(single, made[i : i + 1])
    led = Autoregressive(LENGTH, first=5, **shared)(graphs, noise(1, 2), {"p": rows[2:3]})  # type: ignore[arg-type]
    np.testing.assert_array_equal(led, made[2:3])  # nothing asked: the first token begins


def test_new_fields_are_written_only_where_they_say_something() -> None:
    old = Autoregressive(LENGTH, stop=3)
    assert not {"stops", "alone"} & old.to_json().keys()
    new = old.override(stops=(4,), alone=True)
    for sampler in (old, new):
        assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler


def test_a_gap_is_refused() -> None:
    with pytest.raises(CallError, match="after its end"):
        Autoregressive(LENGTH, prompt="p")({"decode": Rows()}, noise(1), {"p": np.array([[1, -1, 2]])})


@pytest.mark.parametrize("stride", [1, 4, 5])
def test_teacher_forced_logits_are_those_of_every_prefix(stride: int) -> None:
    x = np.random.default_rng(0).integers(0, LEVELS, (2, LENGTH))
    sampler = Autoregressive(LENGTH, first=2, prefill="read" if stride > 1 else "", stride=stride)
    found = teacher_forced({"decode": Rows(), "read": Rows(stride)}, sampler, x, NumpyBackend())
    wanted = [[logits_of([2, *row[:i]]) for i in range(LENGTH)] for row in x.tolist()]
    np.testing.assert_array_equal(found, wanted)


def test_rows_are_written_where_they_belong() -> None:
    state = (State("a", "a_new", (1, 2, 5, 3)), State("b", "b_new", (1, 4)))
    old = [np.zeros((2, 2, 5, 3), np.float32), np.zeros((2, 4), np.float32)]
    new = [np.ones((2, 2, 2, 3), np.float32), np.full((2, 4), 7, np.float32)]
    a, b = carry(old, new, state, 4)
    assert a.sum() == a[:, :, 4].sum() == 12  # the row beyond the end is dropped
    assert b is new[1]


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"length": 0}])
def test_impossible_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallError, match="at least 1"):
        Autoregressive(4).override(**wrong)
