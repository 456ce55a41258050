"""Wrong calls are told in a sentence; "a defect of niwaki" is kept for defects."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niwaki.api.sample import sample
from niwaki.api.use import use
from niwaki.cli.main import _explain
from niwaki.cli.outside import beside_parameters
from niwaki.data.config import DataConfig, registered
from niwaki.recipe import parse_overrides
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import OneShot


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        OSError("Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_no_defect(error: Exception) -> None:
    text, code = _explain(error)
    assert code == 1
    assert "defect" not in text


def _labels(folder: Path, y: np.ndarray) -> tuple[str, ...]:
    np.savez(folder / "d.npz", x=np.zeros((len(y), 4, 4), np.uint8), y=y)
    config = DataConfig.model_validate({"source": "arrays", "path": str(folder / "d.npz")})
    return registered("arrays").read(config, config.options(), None).spec.class_names


def test_labels_that_are_bytes_are_text(tmp_path: Path) -> None:
    y = np.array(["grün".encode(), b"rot"])[np.arange(8) % 2]
    assert _labels(tmp_path, y) == ("grün", "rot")
    with pytest.raises(CallError, match="UTF-8"):
        _labels(tmp_path, np.array(["grün".encode("latin-1"), b"rot"])[np.arange(8) % 2])


@pytest.mark.parametrize("value", ["nan", "warm", None, [1.0], True])
def test_an_option_of_the_wrong_kind_is_named(value: object) -> None:
    with pytest.raises(CallError, match="'temperature'"):
        OneShot().override(temperature=value)


@pytest.mark.parametrize("function", [sample, use])
def test_what_the_command_has_an_option_for_is_no_setting(function: Callable[..., Any]) -> None:
    for name, parameter in inspect.signature(function).parameters.items():
        given = parse_overrides([f"{name}=3"])
        if parameter.kind is parameter.VAR_KEYWORD:
            assert beside_parameters(parse_overrides(["steps=3"]), function) == {"steps": 3}
        with pytest.raises(CallError, match=f"'{name}' is not set"):
            beside_parameters(given, function)
