"""One sweep gives what slow definitions in float64 give."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation import kernel_distance, manifold
from niwaki.evaluation.metrics.cmmd import cmmd
from niwaki.evaluation.metrics.gram import RBF, GramMetrics, Polynomial, gram_metrics
from niwaki.evaluation.pairwise.kernel_sums import KernelSums
from niwaki.evaluation.pairwise.ranks import ALONE
from niwaki.evaluation.pairwise.sweep import Pairs, sweep
from niwaki.evaluation.pairwise.tiles import Tiles, norms
from niwaki.evaluation.pairwise.topk import Smallest
from niwaki.evaluation.pairwise.within import Within


def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All squared distances from float64 differences."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.stack([((a - y) ** 2).sum(1) for a in x])


def plain(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    """Near duplicates far from the origin, closer together than float32 products tell apart there."""
    rng = np.random.default_rng(seed)
    centres = 100 * np.random.default_rng(7).normal(size=(6, d))
    return centres[rng.integers(0, 6, n)] + 1e-4 * rng.normal(size=(n, d))


def tied(n: int, d: int, seed: int) -> np.ndarray:
    """Few whole numbers: many distances are equal to the bit, some are 0."""
    return np.random.default_rng(seed).integers(0, 3, size=(n, min(d, 4))).astype(np.float64)


def outlying(n: int, d: int, seed: int) -> np.ndarray:
    """One sample a million times farther out than the others, in features of size 1e-12."""
    x = 1e-12 * plain(n, d, seed).astype(np.float64)
    x[3] *= 1e6
    return x


MAKERS = [plain, clustered, tied, outlying]


def slow(x: np.ndarray, y: np.ndarray, k: int, strict: bool = True) -> dict[str, np.ndarray]:
    """The counts by their definitions."""
    own, own_y = exact(x, x), exact(y, y)
    np.fill_diagonal(own, np.inf)
    np.fill_diagonal(own_y, np.inf)
    r2, r2_y = np.sort(own, 1)[:, k - 1], np.sort(own_y, 1)[:, k - 1]
    d2 = exact(x, y)
    below = np.less if strict else np.less_equal
    inside = below(d2, r2[:, None])
    half = np.median(np.sqrt(r2))
    kept = (np.sqrt(r2) <= half) & (r2 > 0)
    with np.errstate(divide="ignore"):
        realism = np.sqrt((r2[kept, None] / d2[kept]).max(0))
        least = np.where(inside, np.sqrt(r2)[:, None], np.inf).min(0)
    return {
        "radius": np.sqrt(r2),
        "inside": inside.sum(1),
        "precision": inside.any(0),
        "recall": below(d2, r2_y[None]).any(1),
        "density": inside.sum(0) / k,
        "coverage": inside.any(1),
        "realism": realism,
        "rarity": np.where(np.isfinite(least), least, 0.0),
        "real_distance": np.sqrt(d2.min(0)),
        "generated_distance": np.sqrt(d2.min(1)),
        "clipped": below(d2, np.minimum(r2, half**2)[:, None]).sum(0),
    }


def check(found: GramMetrics, truth: dict[str, np.ndarray]) -> None:
    m = found.manifold
    for name in ("precision", "recall", "density", "coverage", "realism", "rarity"):
        np.testing.assert_allclose(getattr(m, name).per_sample, truth[name], rtol=1e-12, err_msg=name)
    for name in ("radius", "inside", "real_distance", "generated_distance"):
        np.testing.assert_allclose(getattr(m.nearest, name), truth[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("block", [1, 7, 64, None])
def test_every_count_is_that_of_float64(make: Any, block: int | None) -> None:
    n, m = (30, 23) if block == 1 else (150, 131)
    x, y = make(n, 20, 0), make(m, 20, 1)
    check(gram_metrics(x, y, k=3, block=block, kernels=()), slow(x, y, 3))


@pytest.mark.parametrize("make", [plain, clustered, outlying])
def test_many_tiles(make: Any) -> None:
    """Enough samples for first limits from groups, tall slabs and halved diagonals."""
    x, y = make(900, 12, 2), make(1100, 12, 3)
    check(gram_metrics(x, y, k=4, block=128, kernels=()), slow(x, y, 4))


def test_copies_of_real_samples_and_their_radii() -> None:
    """Generated samples on real ones have distances equal to radii, bit for bit: < and ≤ must differ."""
    x = plain(200, 16, 0) + 50
    y = np.concatenate([x[:90], plain(40, 16, 1) + 50])
    for compat, strict in ((None, True), ("kynkaat", False)):
        found, truth = gram_metrics(x, y, k=3, compat=compat, kernels=(), block=32), slow(x, y, 3, strict)
        for name in ("precision", "recall", "density", "coverage", "rarity"):
            np.testing.assert_array_equal(
                getattr(found.manifold, name).per_sample > 0, truth[name] > 0, err_msg=name
            )
        np.testing.assert_array_equal(found.manifold.nearest.inside, truth["inside"])


def test_float32_and_float64_input_agree_and_stay_where_they_are() -> None:
    x, y = plain(120, 30, 0), plain(100, 30, 1)
    single, double = gram_metrics(x, y), gram_metrics(x.astype(np.float64), torch.from_numpy(y).double())
    for name, result in single.results().items():
        assert double.results()[name].value == pytest.approx(result.value, rel=1e-7), name
    tiles = Tiles(torch.from_numpy(x))
    assert tiles.x.dtype == torch.float32
    assert tiles.x.data_ptr() == x.ctypes.data


def test_manifold_is_the_same_object_and_the_kernel_the_same_result() -> None:
    x, y = plain(140, 24, 0), 1.1 * plain(110, 24, 1) + 0.1
    found = gram_metrics(x, y, block=48)
    alone = manifold(x, y)
    for name, result in alone.results().items():
        ours = getattr(found.manifold, name)
        assert ours == result, name
        np.testing.assert_array_equal(ours.per_sample, result.per_sample)
    kernel = kernel_distance(x, y)
    assert found.kernel.signature == kernel.signature
    assert found.kernel.value == pytest.approx(kernel.value, abs=3e-8)
    np.testing.assert_allclose(found.kernel.interval, kernel.interval, rtol=1e-4, atol=3e-8)
    np.testing.assert_allclose(found.kernel.per_sample, kernel.per_sample, atol=3e-7)


@pytest.mark.parametrize(
    "kernel",
    [
        Polynomial(1),
        Polynomial(2, gamma=0.02, coef=0.5),
        Polynomial(),
        Polynomial(4),
        Polynomial(5, coef=0.0),
        RBF(2.0, normalise=False),
        RBF(50.0, normalise=False),
        RBF(),
        RBF(0.5),
    ],
)
@pytest.mark.parametrize("block", [7, 40, None])
def test_kernel_sums_equal_float64(kernel: Any, block: int | None) -> None:
    """Means to 3e-8 of the largest entry, rows to 3e-7, also far from the origin."""
    x, y = plain(90, 10, 0) + 3, 1.2 * plain(70, 10, 1) + 3
    for a, b in ((x, y), (x, None)):
        other = a if b is None else b
        tensors = [torch.from_numpy(v) for v in (a, other)]
        tiles = Tiles(tensors[0], None if b is None else tensors[1], block=block or 1024)
        sums = KernelSums(tiles, kernel, *(norms(t) for t in tensors))
        sweep(tiles, [], sums=[sums])
        found = sums.finish(ALONE).found
        k = entries(a.astype(np.float64), other.astype(np.float64), kernel)
        held = ~np.eye(len(a), dtype=bool) if b is None else np.ones(k.shape, dtype=bool)
        size = np.abs(k).max()
        assert found.mean == pytest.approx(k[held].mean(), abs=3e-8 * size)
        assert found.variance == pytest.approx(k[held].var(), rel=1e-5, abs=1e-9 * size**2)
        rows = (k * held).sum(1) / held.sum(1)
        np.testing.assert_allclose(found.rows.numpy(), rows, atol=3e-7 * size)
        np.testing.assert_allclose(found.columns.numpy(), (k * held).sum(0) / held.sum(0), atol=3e-7 * size)


def entries(x: np.ndarray, y: np.ndarray, kernel: Any) -> np.ndarray:
    if isinstance(kernel, Polynomial):
        gamma = 1 / x.shape[1] if kernel.gamma is None else kernel.gamma
        return (gamma * x @ y.T + kernel.coef) ** kernel.degree
    if kernel.normalise:
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return np.exp(-exact(x, y) / (2 * kernel.sigma**2))


def test_several_kernels_at_once() -> None:
    x, y = plain(80, 12, 0), plain(90, 12, 1) + 0.3
    found = gram_metrics(x, y, kernels=(Polynomial(), RBF(10.0), Polynomial(2)))
    assert found.kernel == found.kernels[Polynomial()]
    assert found.kernels[RBF(10.0)].value * 1000 == pytest.approx(cmmd(x, y).value, rel=1e-5)
    assert found.kernels[Polynomial(2)].value == pytest.approx(
        kernel_distance(x, y, degree=2).value, abs=3e-8
    )
    assert len(found.results()) == 11
    with pytest.raises(CallError, match="twice"):
        gram_metrics(x, y, kernels=(RBF(), RBF()))
    with pytest.raises(CallError, match="all 0"):
        gram_metrics(np.vstack([x, np.zeros(12, dtype=np.float32)]), y, kernels=(RBF(),))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("k", [1, 5, 40])
def test_nearest_of_both_sides_equal_a_sort(make: Any, k: int) -> None:
    x, y = make(130, 15, 4), make(97, 15, 5)
    tiles = Tiles(torch.from_numpy(x), torch.from_numpy(y), block=33)
    of_x, of_y = Smallest(tiles, k), Smallest(tiles, k, of_y=True)
    sweep(tiles, [of_x], [of_y])
    d2 = exact(x, y)
    np.testing.assert_allclose(of_x.kth().numpy(), np.sort(d2, 1)[:, k - 1], rtol=1e-12)
    for found, truth in ((of_x.finish(), d2), (of_y.finish(), d2.T)):
        np.testing.assert_allclose(found.d2.numpy(), np.sort(truth, 1)[:, :k], rtol=1e-12)
        np.testing.assert_array_equal(
            np.take_along_axis(truth, found.index.numpy(), 1), np.sort(truth, 1)[:, :k]
        )
        assert all(len(set(row)) == k for row in found.index.tolist())


def test_nearest_by_weight() -> None:
    rng = np.random.default_rng(0)
    x, y = plain(300, 9, 0), plain(80, 9, 1)
    weight = rng.uniform(0.1, 10, 300) * (rng.random(300) < 0.6)
    tiles = Tiles(torch.from_numpy(x), torch.from_numpy(y), block=50)
    found = Smallest(tiles, 2, of_y=True, weight=torch.from_numpy(weight), eps=0.3)
    sweep(tiles, [], [found])
    value = np.where(weight[:, None] > 0, (exact(x, y) + 0.3) * weight[:, None], np.inf).T
    np.testing.assert_allclose(found.finish().d2.numpy(), np.sort(value, 1)[:, :2], rtol=1e-12)


def test_most_rows_done_again_are_right() -> None:
    """Clusters of more near duplicates than candidates are kept: float64 products take over."""
    rng = np.random.default_rng(0)
    x = np.repeat(300 * rng.normal(size=(3, 40)), 60, 0) + 1e-5 * rng.normal(size=(180, 40))
    found = Pairs(torch.from_numpy(x), block=50).nearest(4)
    d2 = exact(x, x)
    np.fill_diagonal(d2, np.inf)
    np.testing.assert_array_equal(found.index.numpy(), np.argsort(d2, 1)[:, :4])


def test_everything_inside_a_ball_is_counted() -> None:
    """Not a few candidates but all: the mean of a cloud lies in every ball of it."""
    x = plain(300, 200, 0)
    y = np.float32(0.01) * plain(150, 200, 1)
    found = gram_metrics(x, y, kernels=(), block=64).manifold
    assert (found.nearest.inside == 150).all()
    assert found.density.value == pytest.approx(300 / 5)


def test_the_bound_holds_and_is_not_vacuous() -> None:
    for make in (plain, clustered):
        x, y = (torch.from_numpy(make(200, 64, seed)) for seed in (0, 1))
        tiles = Tiles(x, y, block=90)
        last = None
        for slab in tiles.slabs():
            tiles.strips(slab, last)
            last = slab
            for tile in slab.tiles:
                truth = exact(x[tile.rows].numpy(), y[tile.columns].numpy()) * tiles.unit
                lower = tiles.lower(tile).double().numpy()
                width = 2 * (tiles.x_error[tile.rows, None] + tiles.y_error[tile.columns]).numpy()
                assert (lower <= truth).all()
                assert (truth <= lower + width).all()
                assert width.max() < 1e-4


def test_each_pair_once() -> None:
    for n, m, block in ((57, None, 8), (57, 31, 8), (900, None, 400)):
        x = torch.zeros(n, 2)
        tiles = Tiles(x, None if m is None else torch.zeros(m, 2), block=block)
        seen = np.zeros((n, m or n), dtype=int)
        for slab in tiles.slabs():
            for tile in slab.tiles:
                seen[tile.rows, tile.columns] += 1
        if m is None:
            seen = np.triu(seen, 1)[np.triu_indices(n, 1)]
        assert (seen == 1).all()


@pytest.mark.parametrize("strict", [True, False])
def test_within_the_balls_of_either_side(strict: bool) -> None:
    x, y = tied(60, 4, 0), tied(70, 4, 1)
    tiles = Tiles(torch.from_numpy(x), torch.from_numpy(y), block=16)
    d2 = exact(x, y)
    r2, r2_y = np.sort(d2, 1)[:, 9], np.sort(d2, 0)[9]
    of_x = Within(tiles, torch.from_numpy(r2), strict=strict, smaller2=torch.from_numpy(r2 / 2))
    of_y = Within(tiles, torch.from_numpy(r2_y), strict=strict, of_y=True)
    sweep(tiles, [of_x], [of_y])
    below = np.less if strict else np.less_equal
    np.testing.assert_array_equal(of_x.inside.numpy(), below(d2, r2[:, None]).sum(1))
    np.testing.assert_array_equal(of_x.around.numpy(), below(d2, r2[:, None]).sum(0))
    np.testing.assert_array_equal(of_x.around_smaller.numpy(), below(d2, r2[:, None] / 2).sum(0))
    np.testing.assert_array_equal(of_y.inside.numpy(), below(d2, r2_y[None]).sum(0))
    np.testing.assert_array_equal(of_y.around.numpy(), below(d2, r2_y[None]).sum(1))


def test_progress_ends_at_its_total() -> None:
    seen: list[tuple[int, int]] = []
    gram_metrics(plain(90, 5, 0), plain(70, 5, 1), block=20, progress=lambda *step: seen.append(step))
    done, total = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == total[0] >= 90 * 70 + 90 * 89 // 2 + 70 * 69 // 2


def test_bad_input_gets_one_sentence() -> None:
    x, y = plain(30, 3, 0), plain(30, 3, 1)
    with pytest.raises(CallError, match="at least 6 generated"):
        gram_metrics(x, y[:5])
    with pytest.raises(CallError, match="at least 4"):
        gram_metrics(x[:3], y, k=1)
    with pytest.raises(CallError, match="did you mean 'prdc'"):
        gram_metrics(x, y, compat="prcd")
    with pytest.raises(CallError, match="real has 3 features and generated 2"):
        gram_metrics(x, y[:, :2])
    with pytest.raises(CallError, match="copies of itself"):
        gram_metrics(np.ones((20, 3)), y)
    with pytest.raises(CallError, match="at least one row"):
        gram_metrics(x, y, block=0)
    with pytest.raises(CallError, match="too large"):
        gram_metrics(1e200 * x.astype(np.float64), y)
    x[7, 1] = np.nan
    with pytest.raises(CallError, match="the first in row 7"):
        gram_metrics(x, y)


def _rank(rank: int, size: int, path: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path}/join", rank=rank, world_size=size
    )
    try:
        x, y = clustered(150, 10, 0), clustered(140, 10, 1)
        found = gram_metrics(x, y, k=3, block=16, kernels=(Polynomial(), RBF()))
        numbers = {k: v.value for k, v in found.results().items()}
        torch.save(
            {
                "numbers": numbers,
                "nearest": {k: torch.from_numpy(v) for k, v in vars(found.manifold.nearest).items()},
            },
            f"{path}/{rank}.pt",
        )
        with pytest.raises(CallError, match="differ between them"):
            gram_metrics(x + rank, y)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_rank, args=(rank, 2, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    alone = gram_metrics(
        clustered(150, 10, 0), clustered(140, 10, 1), k=3, block=16, kernels=(Polynomial(), RBF())
    )
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, result in alone.results().items():
            assert theirs["numbers"][name] == pytest.approx(result.value, rel=1e-9, abs=1e-12), name
        for name, array in vars(alone.manifold.nearest).items():
            np.testing.assert_array_equal(theirs["nearest"][name].numpy(), array, err_msg=name)
