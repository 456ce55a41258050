"""The noise is Philox4x64-10, owned by samples and not by batches, and it is normal."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from scipy import stats

from niwaki.core import device_noise
from niwaki.core.backend import TorchBackend
from niwaki_runtime import noise

WORD = (1 << 64) - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 as in Salmon et al. 2011, in Python's own integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [q >> 64 ^ c[1] ^ k[0], q & WORD, p >> 64 ^ c[3] ^ k[1], p & WORD]
        k = [(k[0] + 0x9E3779B97F4A7C15) & WORD, (k[1] + 0xBB67AE8584CAA73B) & WORD]
    return c


def reference(seed: int, index: int, size: int, stream: str, draw: int) -> list[int]:
    """The 32-bit words of one sample, block by block."""
    out: list[int] = []
    for block in range(index * noise.blocks(size), (index + 1) * noise.blocks(size)):
        counter = [block >> shift & WORD for shift in (0, 64, 128, 192)]
        for word in philox(counter, [seed & WORD, noise.STREAMS[stream] << 32 | draw]):
            out += [word & 0xFFFFFFFF, word >> 32]
    return out[:size]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that come with Random123
        (
            [0, 0, 0, 0],
            [0, 0],
            [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B],
        ),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
        ),
    ],
)
def test_the_reference_gives_the_published_answers(
    counter: list[int], key: list[int], expected: list[int]
) -> None:
    assert philox(counter, key) == expected


CASES = [
    (0, 0, 1, "latent", 0),
    (7, 3, 8, "step", 5),
    (2**64 - 1, 10**12, 13, "token", 2**32 - 1),
    (-1, 2**62, 100, "project", 1 << 24),  # the counter passes 64 bits
]


@pytest.mark.parametrize(("seed", "index", "size", "stream", "draw"), CASES)
def test_words_are_philox(seed: int, index: int, size: int, stream: str, draw: int) -> None:
    words = noise.raw(seed, index, 2, size, stream=stream, draw=draw)
    assert words.tolist() == [reference(seed, index + i, size, stream, draw) for i in range(2)]


@pytest.mark.parametrize(("seed", "index", "size", "stream", "draw"), CASES[:3])
def test_words_are_the_same_on_a_device(seed: int, index: int, size: int, stream: str, draw: int) -> None:
    words = device_noise.words(seed, index, 5, size, stream=stream, draw=draw)
    assert np.array_equal(words.numpy(), noise.raw(seed, index, 5, size, stream=stream, draw=draw))


def test_normals_are_the_same_on_a_device() -> None:
    ours = device_noise.normal(11, 5, 300, (3, 32, 31), stream="latent", draw=2).numpy()
    assert np.abs(ours - noise.normal(11, 5, 300, (3, 32, 31), stream="latent", draw=2)).max() <= 1e-6


def test_a_device_refuses_counters_beyond_its_integers() -> None:
    with pytest.raises(ValueError, match="2⁶³"):
        device_noise.words(0, 2**62, 1, 100, stream="latent", draw=0)


def test_the_backend_takes_the_device_noise_off_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def marked(*args: object, **kwargs: object) -> str:
        return f"made on {kwargs['device']}"

    monkeypatch.setattr(device_noise, "normal", marked)
    backend = TorchBackend("meta")
    assert backend.normal(0, 0, 1, (2,), stream="latent", draw=0) == "made on meta"
    assert isinstance(TorchBackend().normal(0, 0, 1, (2,), stream="latent", draw=0), torch.Tensor)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9, 31, 100, 192, 4097, 40000])
def test_a_sample_does_not_depend_on_its_batch(size: int) -> None:
    n = max(3, min(300, 200_000 // size))
    together = noise.normal(5, 10, n, (size,))
    for at, m in ((0, 1), (1, 2), (n // 2, n - n // 2), (n - 1, 1)):
        alone = noise.normal(5, 10 + at, m, (size,))
        assert np.array_equal(alone, together[at : at + m])


def test_threads_do_not_disturb_each_other() -> None:
    expected = {seed: noise.normal(seed, 0, 4, (500,)) for seed in range(4)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(200):
            if not np.array_equal(noise.normal(seed, 0, 4, (500,)), expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_streams_draws_seeds_and_samples_share_no_word() -> None:
    draws = [
        noise.raw(seed, 0, 50, 40, stream=stream, draw=draw)
        for seed in (0, 1)
        for stream in noise.STREAMS
        for draw in (0, 1)
    ]
    words = (
        np.ascontiguousarray(np.stack(draws)).reshape(-1, 2).view(np.uint64)
    )  # 64 bits: no chance meetings
    assert len(np.unique(words)) == words.size


def test_normals_are_normal() -> None:
    x = noise.normal(3, 0, 2000, (500,)).astype(np.float64)
    n = x.size
    assert abs(x.mean()) < 4 / np.sqrt(n)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / n)
    assert stats.kstest(x.ravel(), "norm").pvalue > 0.01
    assert stats.kurtosis(x.ravel()) == pytest.approx(0, abs=4 * np.sqrt(24 / n))
    rows = np.corrcoef(x[:, :250].ravel(), x[:, 250:].ravel())[0, 1]  # cosines against sines
    assert abs(rows) < 4 / np.sqrt(n / 2)
    assert np.abs(x).max() < 6.8


def test_the_extreme_words_give_finite_normals() -> None:
    words = np.array([[0] * 4 + [0] * 4, [2**32 - 1] * 4 + [2**32 - 1] * 4], np.uint32)
    out = np.empty((2, 8), np.float32)
    noise._box_muller(words, 4, out)
    assert np.isfinite(out).all()
    assert np.abs(out).max() == pytest.approx(np.sqrt(2 * 33 * np.log(2)), rel=1e-6)


def test_uniforms_are_uniform_and_inside() -> None:
    u = noise.uniform(4, 0, 100_000, 1)
    assert u.dtype == np.float64
    assert u.min() > 0.0
    assert u.max() < 1.0
    assert stats.kstest(u.ravel(), "uniform").pvalue > 0.01
