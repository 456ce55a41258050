"""Uses through the call that people make: on small models, a saved one and a bundle alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import niwaki
from niwaki import models
from niwaki.core.contract import DataSpec
from niwaki.data import DataConfig
from niwaki.data.load import load
from niwaki.uses import Outcome, find_use, names_of_uses
from niwaki.uses.interpolate import BlendedNoise, slerp
from niwaki.uses.reconstruct import psnr
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Noise, NumpyBackend

DIGITS = DataSpec.of("image", (1, 8, 8), levels=17, classes=10)
SMALL: dict[str, dict[str, Any]] = {
    "vae": {"latent": 6, "width": 4, "hidden": 16},
    "dcgan": {"width": 4},
}


def small(name: str) -> Any:
    torch.manual_seed(0)
    return models.build(name, SMALL.get(name, {}), DIGITS).eval()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five digits as files."""
    place = tmp_path_factory.mktemp("pictures")
    x = load(DataConfig(source="digits")).test.x[:5, 0].numpy()
    for i, one in enumerate(x):
        Image.fromarray((one * 255.0 / 16 + 0.5).astype(np.uint8)).save(place / f"{i}.png")
    return place


def test_every_use_says_what_it_does() -> None:
    assert {"interpolate", "reconstruct", "anomalies", "swap", "encode", "decode"} <= set(names_of_uses())
    for name in names_of_uses():
        use = find_use(name)
        assert use.summary
        assert use.example
        assert type(use).__doc__


# --------------------------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_stays_on_the_sphere(t: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 30))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    way = slerp(a, b, np.full(9, t))
    assert np.allclose(np.linalg.norm(way, axis=1), 1.0)
    whole = np.arccos((a * b).sum(1))
    assert np.allclose(np.arccos(np.clip((a * way).sum(1), -1, 1)), t * whole, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0])
def test_slerp_of_parallel_vectors_is_finite(factor: float) -> None:
    a = np.ones((1, 4))
    assert np.isfinite(slerp(a, factor * a, np.array([0.3]))).all()


def test_blended_noise_is_standard_normal_and_meets_its_ends() -> None:
    t = np.linspace(0, 1, 5)
    noise = BlendedNoise(NumpyBackend(), 3, 0, 5, pairs=np.tile([[4, 9]], (5, 1)), t=t)
    x = noise.normal((20000,))
    own = [Noise(NumpyBackend(), 3, i, 1).normal((20000,))[0] for i in (4, 9)]
    assert np.allclose(x[0], own[0])
    assert np.allclose(x[-1], own[1], atol=1e-6)
    assert np.abs(x.std(1) - 1).max() < 0.03
    assert np.allclose(x[2], (own[0] + own[1]) / np.sqrt(2), atol=1e-5)


@pytest.mark.parametrize("name", ["vae", "dcgan", "realnvp", "ddpm", "mlp-gan"])
def test_the_ends_of_a_way_are_the_samples_themselves(name: str) -> None:
    model = small(name)
    made = niwaki.use("interpolate", model, condition=3, steps=4, between=[2, 5, 7])
    assert made.x is not None
    want = [np.asarray(model.sample(1, start=i, condition=3))[0] for i in (2, 5, 5, 7)]
    got = made.x[[0, 3, 4, 7]]
    assert np.allclose(got, want, atol=2e-4)


def test_a_way_between_files_ends_at_their_reconstructions(pictures: Path) -> None:
    model = small("vae")
    files = [pictures / "0.png", pictures / "1.png"]
    way = niwaki.use("interpolate", model, files, condition=[3, 4], steps=5)
    back = niwaki.use("reconstruct", model, files, condition=[3, 4])
    assert way.x is not None
    assert back.x is not None
    assert np.allclose(way.x[[0, -1]], back.x, atol=1e-5)
    straight = niwaki.use("interpolate", model, files, condition=[3, 4], steps=5, path="linear")
    assert straight.x is not None
    assert np.allclose(straight.x[[0, -1]], back.x, atol=1e-5)
    assert not np.allclose(straight.x, way.x, atol=1e-5)


# -------------------------------------------------------------------------------------------- reconstruction


@pytest.mark.parametrize(("error", "want"), [(0.0, np.inf), (2.0, 0.0), (0.2, 20.0), (0.02, 40.0)])
def test_psnr(error: float, want: float) -> None:
    x = np.zeros((3, 4))
    assert np.allclose(psnr(x, x + error, 2.0), want)


def test_a_flow_keeps_all(pictures: Path, tmp_path: Path) -> None:
    there = tmp_path / "back"
    made = niwaki.use("reconstruct", small("realnvp"), pictures, condition=[0, 1, 2, 3, 4], out=there)
    assert [row["name"] for row in made.rows] == [f"{i}.png" for i in range(5)]
    assert min(np.inf if r["psnr"] == "inf" else float(r["psnr"]) for r in made.rows) > 60
    for i in range(5):
        before, after = (np.asarray(Image.open(p / f"{i}.png")) for p in (pictures, there))
        assert np.array_equal(before, after)


# ------------------------------------------------------------------------------------------------- anomalies


def test_scores_are_bits_per_dimension(pictures: Path, tmp_path: Path) -> None:
    made = niwaki.use("anomalies", small("realnvp"), pictures, out=tmp_path / "ranking.csv")
    scores = [row["score"] for row in made.rows]
    assert scores == sorted(scores, reverse=True)
    assert made.record["score"] == "bits per dimension"
    assert (tmp_path / "ranking.csv").read_text().splitlines()[0] == "rank,name,score"


def test_odd_samples_are_told_apart(tmp_path: Path) -> None:
    model = small("vae")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "usual.npy", 0.01 * rng.normal(size=(30, 1, 8, 8)))
    np.save(tmp_path / "odd.npy", rng.choice([-1.0, 1.0], (30, 1, 8, 8)))
    for by in ("likelihood", "reconstruction"):
        made = niwaki.use(
            "anomalies", model, tmp_path / "odd.npy", by=by, against=str(tmp_path / "usual.npy")
        )
        assert made.record["auroc"] > 0.95


def test_held_out_classes_are_a_split_of_their_own() -> None:
    whole, held = (load(DataConfig(source="digits", unseen_classes=out)) for out in ((), (9, "3")))
    assert set(held.train.y.tolist()) == set(held.test.y.tolist()) == {0, 1, 2, 4, 5, 6, 7, 8}
    assert set(held.extra["ood"].y.tolist()) == {3, 9}
    assert sum(map(len, held.splits.values())) == sum(map(len, whole.splits.values()))
    assert held.fingerprint != whole.fingerprint
    with pytest.raises(CallError, match="no class 'x'"):
        load(DataConfig(source="digits", unseen_classes=("x",)))
    with pytest.raises(CallError, match="have none"):
        load(DataConfig(source="digits", labels=False, unseen_classes=(1,)))


# ------------------------------------------------------------------------------------------------------ swap


def test_swapping_nothing_and_all(pictures: Path) -> None:
    model = small("vae")
    files = [pictures / "0.png", pictures / "1.png"]
    back = niwaki.use("reconstruct", model, files, condition=2).x
    assert back is not None
    all_kept = niwaki.use("swap", model, files, condition=2, keep=1.0).x
    none_kept = niwaki.use("swap", model, files, condition=2, keep=0.0).x
    assert np.allclose(all_kept, back[:1], atol=1e-5)
    assert np.allclose(none_kept, back[1:], atol=1e-5)
    other = niwaki.use("swap", model, files, condition=2, keep=0.0, to=5).x
    assert not np.allclose(other, none_kept, atol=1e-5)


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "model", "given", "text"),
    [
        ("interpolat", "vae", {}, "did you mean 'interpolate'"),
        ("interpolate", "vae", {"step": 3}, "no setting 'step'; did you mean 'steps'"),
        ("interpolate", "vae", {"steps": 1}, "steps"),
        ("interpolate", "vae", {"between": [1]}, "two numbers"),
        ("interpolate", "vae", {"path": "linear"}, "too weak"),
        ("interpolate", "dcgan", {"files": "0.png"}, "lacks encode and decode"),
        ("interpolate", "vae", {"files": "0.png", "condition": 1}, "two samples"),
        ("interpolate", "vae", {"files": "missing.png", "condition": 1}, "does not exist"),
        ("reconstruct", "vae", {"files": "0.png"}, "--class"),
        ("reconstruct", "vae", {}, "name the files"),
        ("swap", "vae", {"condition": 1}, "name the files"),
        ("swap", "vae", {"files": ["0.png", "1.png"], "condition": 1, "to": 10}, "0 … 9"),
        ("anomalies", "dcgan", {"files": "0.png"}, "has neither"),
        ("anomalies", "dcgan", {"files": "0.png", "by": "likelihood"}, "cannot score"),
    ],
)
def test_wrong_calls(name: str, model: str, given: dict[str, Any], text: str, pictures: Path) -> None:
    files = given.pop("files", ())
    places = [pictures / f for f in ([files] if isinstance(files, str) else files)]
    with pytest.raises(CallError, match=text):
        niwaki.use(name, small(model), places, **given)


@pytest.mark.parametrize("held", [b"", b"no picture", b"\x93NUMPY"])
@pytest.mark.parametrize("ending", [".png", ".npy", ".npz", ".txt"])
def test_broken_files(held: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_bytes(held)
    with pytest.raises(CallError, match=f"a{ending}"):
        niwaki.use("reconstruct", small("vae"), tmp_path / f"a{ending}", condition=1)


@pytest.mark.parametrize("ending", [".csv", ".json"])
def test_tables(ending: str, tmp_path: Path) -> None:
    outcome = Outcome(rows=[{"a": 1, "b": "x"}, {"a": 2, "b": "y, z"}])
    (place,) = outcome.write(tmp_path / f"t{ending}")
    text = place.read_text()
    assert json.loads(text) == outcome.rows if ending == ".json" else text.splitlines()[2] == '2,"y, z"'
    with pytest.raises(CallError, match="a table"):
        outcome.write(tmp_path / "t.png")


# ------------------------------------------------------------------------------------------------ provenance


def test_files_of_uses_say_that_a_model_made_or_changed_them(pictures: Path, tmp_path: Path) -> None:
    model, files = small("vae"), sorted(pictures.iterdir())
    drawn = niwaki.use("interpolate", model, condition=3, steps=3, out=tmp_path / "drawn.png")
    changed = niwaki.use("reconstruct", model, files, condition=[0, 1, 2, 3, 4], out=tmp_path / "changed")
    found = niwaki.use("anomalies", model, files, condition=[0, 1, 2, 3, 4], out=tmp_path / "found.png")
    assert drawn.source is not None
    assert not drawn.source.edited
    assert changed.source is not None
    assert changed.source.edited
    assert found.source is None  # pictures that were given, in an order
    for path in (tmp_path / "drawn.png", next((tmp_path / "changed").glob("*.png"))):
        said = json.loads(Image.open(path).text["Comment"])  # type: ignore[attr-defined]
        assert said["program"] in ("interpolate", "reconstruct")
    assert "Comment" not in Image.open(tmp_path / "found.png").text  # type: ignore[attr-defined]
