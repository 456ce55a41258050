"""Files say where they come from: read back by the libraries that read such files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from PIL import Image

from niwaki.core.store import hash_file
from niwaki.modalities import modality_of
from niwaki.modalities.provenance import EDITED_TYPE, SOURCE_TYPE, Provenance, provenance_of
from niwaki_runtime.specs import Real, Tokens, ValueSpec

SOURCE = Provenance("a <model>", "ab" * 32, seed=7, start=3, n=2, watermarked=True)
PICTURE = ValueSpec("image", (3, 8, 8))
SOUND = ValueSpec("audio", (801,), values=Real(-1.0, 1.0), rate=8000.0)
FILM = ValueSpec("video", (3, 1, 8, 8))
RNG = np.random.default_rng(0)


def write(path: Path, x: np.ndarray, spec: ValueSpec) -> Path:
    return modality_of(spec).write(path, x.astype(np.float32), spec, source=SOURCE)


def test_a_picture_says_it_in_texts_and_xmp_and_shows_the_same(tmp_path: Path) -> None:
    x = RNG.uniform(-1, 1, (2, 3, 8, 8))
    path = write(tmp_path / "a.png", x, PICTURE)
    with Image.open(path) as picture:
        picture.load()
        assert json.loads(picture.text["Comment"]) == SOURCE.record()  # type: ignore[attr-defined]
        assert SOURCE_TYPE in picture.info["XML:com.adobe.xmp"]
        packet = ElementTree.fromstring(
            picture.info["XML:com.adobe.xmp"].partition("?>")[2].rpartition("<?")[0]
        )
        found = packet.find(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
        assert found is not None
        assert found.text == SOURCE_TYPE
        bare = modality_of(PICTURE).write(tmp_path / "b.png", x.astype(np.float32), PICTURE)
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(Image.open(bare)))
    assert write(tmp_path / "c.png", x, PICTURE).read_bytes() == path.read_bytes()


def test_a_sound_says_it_in_its_info(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", RNG.uniform(-1, 1, (1, 801)), SOUND)
    with soundfile.SoundFile(path) as sound:
        assert json.loads(sound.comment) == SOURCE.record()
        assert sound.title == SOURCE.model
        assert sound.frames == 801


def test_a_moving_picture_says_it_in_a_comment(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gif", RNG.uniform(-1, 1, (1, 3, 1, 8, 8)), FILM)
    with Image.open(path) as film:
        assert json.loads(film.info["comment"]) == SOURCE.record()
        assert film.n_frames == 3  # type: ignore[attr-defined]


def test_a_film_says_it_in_a_box_and_plays(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = write(tmp_path / "a.mp4", RNG.uniform(-1, 1, (1, 3, 1, 8, 8)), FILM)
    data = path.read_bytes()
    assert SOURCE_TYPE.encode() in data
    with av.open(io.BytesIO(data)) as film:
        assert len(list(film.decode(video=0))) == 3


def test_texts_have_it_beside_them(tmp_path: Path) -> None:
    spec = ValueSpec("text", (4,), values=Tokens(9))
    path = modality_of(spec).write(tmp_path / "a.txt", np.ones((1, 4), np.int64), spec, source=SOURCE)
    assert path.read_text() == "1 1 1 1"
    assert json.loads((tmp_path / "a.txt.provenance.json").read_text()) == SOURCE.record()
    assert "time" not in SOURCE.text()


def test_what_was_changed_is_not_called_made() -> None:
    edited = Provenance("a", edited=True)
    assert edited.record()["digital_source_type"] == EDITED_TYPE
    assert f">{EDITED_TYPE}<" in edited.xmp()
    assert SOURCE_TYPE not in edited.xmp()


def test_files_of_a_model_are_hashed_when_it_is_said_and_anew_once_they_change(tmp_path: Path) -> None:
    path = tmp_path / "one.niwaki"
    path.write_bytes(b"first")
    source = provenance_of(path, "sample", seed=3)
    assert (source.model, source.sha256) == ("one", "")
    assert source.record()["model_sha256"] == hash_file(path)
    path.write_bytes(b"other things")
    assert source.record()["model_sha256"] == hash_file(path)
    assert "model_sha256" not in provenance_of(object(), "sample").record()
