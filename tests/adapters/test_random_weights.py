"""Weights that chance has drawn are not taken for trained ones, in no verb."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import numpy as np
import outside
import pytest
import torch
from safetensors.torch import save_file

import niwaki
from niwaki.adapters.random_weights import random_weights
from niwaki.cli.main import status
from niwaki.core.contract import CallError

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with trained weights of `outside.tiny`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIWAKI_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(7)
    save_file(outside.tiny().state_dict(), tmp_path / factories.FILE)
    return tmp_path


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def called(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = status([str(w) for w in words])
        said = capsys.readouterr()
        return code, said.err.strip().splitlines()[-1] if said.err.strip() else ""

    return called


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("fresh", "0.weight"),
        ("seeded", "0.weight"),
        ("of_a_generator", "0.weight"),
        ("scaled", "weight"),
        ("orthogonal", "weight"),
        ("last_is_zero", "0.weight"),
        ("new_head", "6.weight"),
        ("ours", "generator."),
    ],
)
def test_chance_is_found_out_whatever_the_seed(name: str, first: str, place: Path) -> None:
    make = getattr(factories, name)
    module = make()
    torch.manual_seed(5)
    expected = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert random_weights(make, module)[0].startswith(first)
    found = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    assert torch.equal(found[0], expected[0]), "nobody else's numbers change"
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert found[1:] == (random.random(), np.random.rand())  # noqa: NPY002


@pytest.mark.parametrize(
    "make",
    [
        factories.loaded,
        factories.assigned,
        factories.copied_by_hand,
        factories.norm_alone,
        factories.constants,
        factories.without_weights,
        factories.Projected,
        factories.once,
    ],
)
def test_what_is_read_and_what_is_constant_passes(make: Any, place: Path) -> None:
    assert random_weights(make, make()) == ()


def test_weights_that_are_zero_at_first_are_none_of_chance(place: Path) -> None:
    names = random_weights(factories.last_is_zero, factories.last_is_zero())
    assert names == ("0.weight", "3.weight")


VERBS = [
    (("sample", "{}", "-n", 2, "--out", "s.npy"), "weights"),
    (("export", "{}", "--out", "m.niwaki"), "weights"),
    (("evaluate", "{}", "--data", "digits"), "weights"),
    (("compress", "{}", "--data", "digits"), "weights"),
    (("compare", "{}", "factories:loaded", "--data", "digits"), "before-weights"),
    (("compare", "factories:loaded", "{}", "--data", "digits"), "after-weights"),
]


@pytest.mark.parametrize("factory", ["factories:seeded", "factories:ours"])
@pytest.mark.parametrize(("words", "option"), VERBS)
def test_every_verb_asks_for_the_weights_that_were_forgotten(
    words: tuple[object, ...], option: str, factory: str, call: Call, place: Path
) -> None:
    code, error = call(*(str(w).format(factory) for w in words))
    assert code == 2
    assert f"niwaki: '{factory}' makes weights that are drawn by chance ('" in error
    assert f"(--{option} FILE), or go on with random ones (--{option} random)" in error


@pytest.mark.parametrize(
    "given",
    [
        ("factories:loaded",),
        ("outside:tiny", "--weights", factories.FILE),
        ("outside:tiny", "--weights", "random"),
    ],
)
@pytest.mark.parametrize("verb", ["sample", "export"])
def test_what_is_named_is_taken(verb: str, given: tuple[object, ...], call: Call, place: Path) -> None:
    code, error = call(verb, *given, "--out", "made.npy" if verb == "sample" else "made.niwaki")
    assert code == 0, error


def test_in_python_as_on_the_command_line(place: Path) -> None:
    with pytest.raises(CallError, match="drawn by chance"):
        niwaki.sample("factories:seeded", 2)
    with pytest.raises(CallError, match="drawn by chance"):
        niwaki.load("factories:seeded")
    with pytest.raises(CallError, match="as before_weights"):
        niwaki.compare("factories:seeded", "factories:loaded", data="digits")
    made = niwaki.sample("factories:loaded", 2, seed=1).x
    np.testing.assert_allclose(niwaki.sample("outside:tiny", 2, seed=1, weights=factories.FILE).x, made)
    random_ones = niwaki.load("factories:seeded", weights="random").sample(2, seed=1)
    assert not np.allclose(random_ones, made)


@pytest.mark.slow
def test_compare_takes_weights_for_each_side(place: Path) -> None:
    torch.manual_seed(8)
    save_file(outside.tiny().state_dict(), place / "other.safetensors")
    asked: dict[str, Any] = {"data": "digits", "features": ["random"], "metrics": ["frechet"], "n": 64}
    same = niwaki.compare("outside:tiny", "factories:loaded", before_weights=factories.FILE, **asked)
    assert same["paired"]
    assert same["comparison"]["fidelity"]["delta"] == 0
    other = niwaki.compare(
        "outside:tiny",
        "outside:tiny",
        before_weights=factories.FILE,
        after_weights="other.safetensors",
        **asked,
    )
    assert other["comparison"]["fidelity"]["delta"] != 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("compare", "pictures", "factories:loaded", "--before-weights", "x"),
            "--before-weights is for package",
        ),
        (("compare", "factories:loaded", "a.npy", "--after-weights", "x"), "--after-weights is for package"),
        (("compare", "factories:loaded", "factories:loaded", "--engine", "onnxruntime"), "is no bundle"),
        (("compare", "factories:loaded", "a.npy", "--memory", "32MB"), "is no bundle"),
        (("evaluate", "factories:loaded", "--memory", "32MB"), "is no bundle"),
        (("evaluate", "pictures", "--weights", "x"), "--weights is for package"),
        (
            ("evaluate", "factories:loaded", "--against", "a.npy"),
            "compare factories by `niwaki compare a.npy",
        ),
    ],
)
def test_options_of_something_else_are_refused(
    words: tuple[object, ...], message: str, call: Call, place: Path
) -> None:
    (place / "pictures").mkdir()
    np.save(place / "a.npy", np.zeros((60, 1, 8, 8), np.float32))
    code, error = call(*words, "--data", "digits")
    assert code == 2
    assert message in error
