"""Watermarks: false alarms at their rate, power, what a file may go through, and each sample by itself."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from niwaki_runtime import load
from niwaki_runtime.batches import run_batch
from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import Real, Tokens, ValueSpec
from niwaki_runtime.watermark import Key, Watermark, detect, new_key, read_key
from niwaki_runtime.watermark.chances import combined, gamma_tail, normal_tail
from niwaki_runtime.watermark.tokens import CONTEXT, Races

KEY = Key(bytes(range(32)))
PICTURE = ValueSpec("image", (3, 96, 96))
SOUND = ValueSpec("audio", (16000,), values=Real(-1.0, 1.0), rate=16000.0)
TEXT = ValueSpec("text", (300,), values=Tokens(50))


def photographs(n: int = 16) -> np.ndarray:
    whole = [image.transpose(2, 0, 1) / 127.5 - 1 for image in load_sample_images().images]
    parts = [
        w[:, a : a + 96, b : b + 96] for w in whole for a in range(0, 300, 96) for b in range(0, 500, 96)
    ]
    return np.array(parts[:n], dtype=np.float32)


def sounds(n: int = 4) -> np.ndarray:
    rng, t = np.random.default_rng(0), np.arange(16000) / 16000
    tones = [
        sum(np.sin(2 * np.pi * f * k * t) / k for k in range(1, 9)) * np.exp(-3 * t)
        for f in rng.uniform(80, 400, n)
    ]
    return np.array([0.3 * tone + 0.002 * rng.standard_normal(16000) for tone in tones], dtype=np.float32)


def texts(n: int, key: Key | None, seed: int = 0) -> np.ndarray:
    """Of a chain whose next token depends on the last."""
    rng = np.random.default_rng(1)
    chain = rng.dirichlet(np.full(50, 0.2), 50)
    draws = np.random.default_rng(seed)
    nonces, made = draws.random(n), np.zeros((n, 0), np.int64)
    for _ in range(300):
        p = chain[made[:, -1]] if made.shape[1] else np.full((n, 50), 0.02)
        u = draws.random((n, 1))
        mark = Races(key or Key(b"nobody's"))
        before = made.tolist() if key else [[]] * n
        made = np.concatenate([made, mark.choose(p, u, before, nonces)[:, None]], axis=1)
    return made


def jpeg(x: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    out = []
    for one in PICTURE.to_uint8(x):
        file = io.BytesIO()
        Image.fromarray(one.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file), np.float32).transpose(2, 0, 1) / 127.5 - 1)
    return np.array(out)


@pytest.mark.parametrize(
    ("samples", "spec"),
    [(photographs(4), PICTURE), (sounds(3), SOUND), (texts(3, None), TEXT)],
    ids=["pictures", "sounds", "texts"],
)
def test_chance_raises_no_more_false_alarms_than_it_says(samples: np.ndarray, spec: ValueSpec) -> None:
    """Exact over keys: the files are fixed, the keys are drawn."""
    n = 60 if spec is TEXT else 200
    found = [detect(samples, spec, Key(i.to_bytes(32, "big")), decoys=0) for i in range(n)]
    for ps in ([f.together.p for f in found], [f.each[0].p for f in found]):
        assert np.mean(np.array(ps) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / n)
        assert min(ps) > 1e-4 / n


@pytest.mark.parametrize(
    "hurt",
    [
        lambda x: x,
        lambda x: jpeg(x, 90),
        lambda x: jpeg(x, 70),
        lambda x: x + np.random.default_rng(0).normal(0, 0.04, x.shape).astype(np.float32),
        lambda x: np.round((x + 1) * 15.5) / 15.5 - 1,
    ],
    ids=["clean", "jpeg 90", "jpeg 70", "noise", "32 levels"],
)
def test_marked_pictures_are_detected(hurt: Callable[[np.ndarray], np.ndarray]) -> None:
    marked = hurt(Watermark(KEY).embed(photographs(), PICTURE))
    assert detect(marked, PICTURE, KEY).together.p < 1e-6
    assert detect(marked, PICTURE, Key(b"another"), decoys=0).together.p > 1e-4


def test_a_part_of_a_picture_is_detected() -> None:
    whole = load_sample_images().images[0].transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1
    marked = Watermark(KEY).embed(whole, ValueSpec("image", whole.shape[1:]))
    assert detect(list(marked[:, :, 37:293, 51:307]), PICTURE, KEY).together.p < 1e-6


@pytest.mark.parametrize(
    "hurt",
    [
        lambda x: x,
        lambda x: np.round(x * 32767) / 32767,
        lambda x: x[:, 3001:12001],
        lambda x: x + np.random.default_rng(0).normal(0, 0.002, x.shape).astype(np.float32),
        lambda x: np.fft.irfft(np.fft.rfft(x) * (np.arange(x.shape[-1] // 2 + 1) < 5000)),
    ],
    ids=["clean", "16 bits", "cut", "noise", "without what is above 5 kHz"],
)
def test_marked_sounds_are_detected(hurt: Callable[[np.ndarray], np.ndarray]) -> None:
    marked = hurt(Watermark(KEY).embed(sounds(), SOUND))
    assert detect(marked, SOUND, KEY).together.p < 1e-6


def test_marked_texts_are_detected_also_in_part_and_their_tokens_come_as_often() -> None:
    marked, free = texts(40, KEY), texts(40, None, seed=5)
    assert detect(marked[:3], TEXT, KEY).together.p < 1e-6
    assert detect([marked[0, 40:240]], TEXT, KEY, decoys=0).together.p < 1e-3
    assert detect(free[:3], TEXT, KEY, decoys=0).together.p > 1e-4
    shares = [np.bincount(x.ravel(), minlength=50) / x.size for x in (marked, free)]
    assert 0.5 * np.abs(shares[0] - shares[1]).sum() < 0.05  # total variation; two free draws differ by 0.02
    assert len({tuple(row) for row in marked.tolist()}) == 40


def test_a_race_is_won_as_often_as_a_token_is_probable() -> None:
    p = np.array([[0.5, 0.3, 0.2]])
    before = [[[i, 1, 2, 3]] for i in range(4000)]
    won = [int(Races(KEY).choose(p, np.zeros((1, 1)), b, np.zeros(1))[0]) for b in before]
    assert len(before[0][0]) == CONTEXT
    np.testing.assert_allclose(np.bincount(won) / len(won), p[0], atol=0.03)  # four deviations


@pytest.mark.parametrize("kind", ["one_shot", "autoregressive"])
def test_a_marked_sample_is_the_same_in_every_batch(bundle: Callable[[str], Path], kind: str) -> None:
    model = load(bundle(kind), precision="exact")
    mark = Watermark(KEY)
    spec = model.program("sample").output
    if spec.modality not in ("image", "text"):
        with pytest.raises(CallError, match="carry no watermark"):
            model.run("sample", 4, seed=3, watermark=mark)
        return
    whole = model.run("sample", 6, seed=3, watermark=mark)
    parts = [model.run("sample", 1, seed=3, start=i, watermark=mark) for i in range(6)]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=0, atol=1e-6)
    rows = {
        name: np.concatenate([s.default(i, 1) for i in range(6)])
        for name, s in model.program("sample").inputs.items()
    }
    mixed = run_batch(model, "sample", [(3, i) for i in range(6)], rows, size=8, watermark=mark)
    np.testing.assert_allclose(whole, mixed, rtol=0, atol=1e-6)
    assert np.abs(whole - model.run("sample", 6, seed=3)).max() > 0


def test_beams_and_greedy_texts_are_refused(bundle: Callable[[str], Path]) -> None:
    model = load(bundle("autoregressive"))
    if model.spec.modality == "text":
        with pytest.raises(CallError, match="does not draw token after token"):
            model.run("sample", 1, temperature=0.0, watermark=Watermark(KEY))


@pytest.mark.parametrize("modality", ["vector", "series", "label", "mask"])
def test_other_samples_carry_none(modality: str) -> None:
    shape = {"vector": (3,), "series": (9,), "label": (), "mask": (4, 4)}[modality]
    with pytest.raises(CallError, match="carry no watermark"):
        detect(np.zeros((2, *shape)), ValueSpec(modality, shape), KEY)


def test_a_key_is_private_and_written_once(tmp_path: Path) -> None:
    path = tmp_path / "my.key"
    key = new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == key
    assert key.secret.hex() not in repr(Watermark(key)) + repr(key) + key.name()
    with pytest.raises(CallError, match="is there already"):
        new_key(path)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(CallError, match="no watermark key") as said:
        read_key(path)
    assert key.secret.hex()[:8] not in str(said.value)


def test_tails_are_those_of_scipy() -> None:
    from scipy import stats

    assert normal_tail(3.0) == pytest.approx(stats.norm.sf(3.0), rel=1e-9)
    assert gamma_tail(40, 75.0) == pytest.approx(stats.gamma.sf(75.0, 40), rel=1e-9)
    assert combined([0.01, 0.2, 0.7]) == pytest.approx(stats.combine_pvalues([0.01, 0.2, 0.7])[1], rel=1e-9)
