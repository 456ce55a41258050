"""The same seed is the same sample, at any load and in any batch: bit for bit what the bundle gives alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving.bundles import denoised, pictures, texts

import niwaki_runtime
from niwaki.serving.sizes import agreement, powers

SEEDS = 48


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("make", "options"), [(pictures, {}), (denoised, {"steps": 12}), (texts, {"temperature": 0.8})]
)
def test_under_load_every_sample_is_what_it_is_alone(
    serving: Callable[..., Any], tmp_path: Path, make: Any, options: dict[str, Any], engine: str
) -> None:
    place = make(tmp_path / "a.niwaki")
    server = serving([place], engine=engine, batch=8)
    bundle = niwaki_runtime.load(place, engine=engine)
    alone = [bundle.sample(1, seed=seed, **options)[0] for seed in range(SEEDS)]

    def ask(seed: int) -> Any:
        answer = server.post("/v1/run/sample", seed=seed, options=options)
        assert answer.status_code == 200, answer.text
        return np.asarray(answer.json()["data"][0])

    order = random.Random(0).sample(range(SEEDS), SEEDS)
    with ThreadPoolExecutor(16) as pool:
        answers = dict(zip(order, pool.map(ask, order), strict=True))
    for seed in range(SEEDS):  # float32 goes through JSON without loss
        np.testing.assert_array_equal(answers[seed].astype(alone[seed].dtype), alone[seed])
    sizes = server.client.get("/metrics").text
    batches = float(sizes.partition('niwaki_batch_samples_count{model="a"} ')[2].split()[0])
    assert batches < SEEDS, "nothing was made together"


def test_samples_of_one_request_are_those_of_the_bundle(serving: Callable[..., Any], tmp_path: Path) -> None:
    place = pictures(tmp_path / "a.niwaki")
    server = serving([place], batch=4)
    answer = server.post("/v1/run/sample", seed=3, n=7, start=2, inputs={"class": [0, 1, 2, 0, "bee", 1, 1]})
    wanted = niwaki_runtime.load(place).sample(7, seed=3, start=2, condition=[0, 1, 2, 0, 1, 1, 1])
    np.testing.assert_array_equal(np.asarray(answer.json()["data"], np.float32), wanted)


def test_sizes_that_disagree_are_told_apart() -> None:
    """An engine that rounds otherwise in batches of 4 or more, and depends on the place in those of 8."""

    def make(numbers: Any, size: int) -> np.ndarray:
        rows = np.array(numbers, np.float32) + (1e-3 if size >= 4 else 0)
        return rows + (np.arange(len(rows), dtype=np.float32) if size == 8 else 0)

    found = agreement(make, 16, 60.0)
    assert (found.sizes, found.single) == ((1, 2), True)
    assert found.tried == powers(16) == (1, 2, 4, 8, 16)


def test_where_no_size_agrees_with_the_single_sample_the_others_are_used() -> None:
    found = agreement(lambda n, size: np.array(n, np.float32) + (size > 1), 8, 60.0)
    assert (found.sizes, found.single) == ((2, 4, 8), False)
    assert [found.size_for(n) for n in (1, 2, 3, 8)] == [2, 2, 4, 8]


def test_what_takes_longer_than_there_is_time_is_made_one_at_a_time() -> None:
    assert agreement(lambda n, size: np.array(n, np.float32), 8, 0.0).sizes == (1,)
