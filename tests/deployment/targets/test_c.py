"""The C target: what is written compiles without a warning and makes what the bundle makes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from niwaki.api.export import export
from niwaki.core.contract import CallError, NiwakiError
from niwaki.deployment import package
from niwaki.deployment.c.compiling import FLAGS, build, compiler, run_samples
from niwaki.deployment.targets import c as target

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


def written(exported: Callable, name: str, path: Path, **options: object) -> dict:
    bundle = package(*exported(name), path / "a.niwaki")
    found: dict = export(bundle, out=path / "c", target="c", options=options, progress=False)
    return found


@needs_compiler
@pytest.mark.parametrize(("name", "n"), [("conv", 64), ("transposed", 64), ("denoiser", 8), ("flow", 64)])
def test_the_file_makes_what_the_bundle_makes(name: str, n: int, exported: Callable, tmp_path: Path) -> None:
    """Float32: 1e-4 of the largest value, in all engines; the flow has no condition, the denoiser is guided
    and takes six steps."""
    found = written(exported, name, tmp_path, n=n)
    assert found["check"]["passed"] is True
    assert found["check"]["n"] == n
    assert set(found["check"]["engines"]) == {"openvino", "onnxruntime"}
    assert found["check"]["worst"] <= 1e-4
    assert found["least_arena_bytes"] <= found["arena_bytes"] < 100_000
    record = json.loads((tmp_path / "c" / "export.json").read_text())
    assert record["check"] == found["check"]


@needs_compiler
def test_it_stays_inside_its_arena_under_the_sanitizers(exported: Callable, tmp_path: Path) -> None:
    """Samples of 64 seeds, the example program, and labels that are none."""
    found = written(exported, "conv", tmp_path, prefix="toy")
    place = tmp_path / "c"
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
    made = build(place, "toy", "toy_sample", [("int32_t", "", 1)], *flags)
    seeds = [(17 * k - 300, k) for k in range(64)]
    labels = np.arange(64, dtype=np.int32).reshape(64, 1) % 10
    samples, _ = run_samples(made, seeds, [labels], 64)
    model, _ = exported("conv")
    wanted = [
        model.sample(1, seed=seed, start=k, condition=int(label)).numpy().reshape(-1)
        for (seed, k), label in zip(seeds, labels[:, 0], strict=True)
    ]
    np.testing.assert_allclose(samples, wanted, atol=1e-4)
    with pytest.raises(NiwakiError, match="status 2"):
        run_samples(made, [(0, 0)], [np.full((1, 1), 10, np.int32)], 64)
    command = [compiler(), *FLAGS, *flags, "main.c", "toy.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=place, check=True)
    shown = subprocess.run([place / "main"], capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) == 10 * 9
    assert f"bytes[{found['arena_bytes']}]" in (place / "toy.c").read_text()


@needs_compiler
def test_a_file_that_differs_is_refused_and_nothing_is_written(
    exported: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*of: object) -> object:
        source = right(*of)
        return replace(source, text=source.text.replace("tanhf(", "sinf("))

    right = target.write_source
    monkeypatch.setattr(target, "write_source", wrong)
    with pytest.raises(NiwakiError, match="differs from the bundle by"):
        written(exported, "conv", tmp_path)
    assert not (tmp_path / "c").exists()


def test_what_was_not_compared_is_said(
    exported: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    found = written(exported, "flow", tmp_path)
    assert found["check"]["passed"] is None
    assert "not compared" in " ".join(target.CTarget().lines(found))
    assert (tmp_path / "c" / "niwaki.c").is_file()


def test_a_sampler_that_decides_by_values_is_refused(exported: Callable, tmp_path: Path) -> None:
    with pytest.raises(NiwakiError, match=r"the sampler 'autoregressive' .* has no form in C"):
        written(exported, "cache", tmp_path)


def test_programs_and_prefixes_are_checked(exported: Callable, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="no program 'smaple'; did you mean 'sample'"):
        written(exported, "flow", tmp_path, program="smaple")
    with pytest.raises(CallError, match="no prefix of names in C"):
        written(exported, "flow", tmp_path, prefix="a-b")
    with pytest.raises(CallError, match="'n' of the target 'c' is of type int"):
        written(exported, "flow", tmp_path, n="x")
