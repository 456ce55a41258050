"""Signed files: read back by C2PA's own reader, broken by a change, vouched for where somebody is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving.bundles import pictures
from typer.testing import CliRunner

import niwaki
from niwaki.api.detect import signatures
from niwaki.cli.main import app
from niwaki.core.contract import CallError, NiwakiError
from niwaki.modalities import modality_of
from niwaki.modalities.certificates import new_certificate
from niwaki.modalities.provenance import EDITED_TYPE, Provenance
from niwaki.modalities.signing import Certificate, certificate_for, read_certificate, signature_in
from niwaki_runtime.specs import Real, ValueSpec

pytest.importorskip("c2pa")
KINDS = [
    (".png", ValueSpec("image", (3, 8, 8))),
    (".gif", ValueSpec("video", (3, 1, 8, 8))),
    (".mp4", ValueSpec("video", (3, 1, 16, 16))),
    (".wav", ValueSpec("audio", (801,), values=Real(-1.0, 1.0), rate=8000.0)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_certificate(tmp_path_factory.mktemp("certificate") / "mine", "Mira")


def write(path: Path, spec: ValueSpec, source: Provenance) -> Path:
    if path.suffix == ".mp4":
        pytest.importorskip("av")
    x = np.random.default_rng(0).uniform(-1, 1, (1, *spec.shape)).astype(np.float32)
    return modality_of(spec).write(path, x, spec, source=source)


@pytest.mark.parametrize(("ending", "spec"), KINDS)
def test_a_signed_file_says_who_signed_it_and_what_it_is(
    ending: str, spec: ValueSpec, folder: Path, tmp_path: Path
) -> None:
    source = Provenance("a model", "ab" * 32, seed=7, start=3, certificate=read_certificate(folder))
    path = write(tmp_path / f"a{ending}", spec, source)
    found = signature_in(path)
    assert found is not None
    assert found == {
        "whole": True, "trusted": False, "by": "Mira", "wrong": [], "provenance": source.record(),
    }  # fmt: skip
    vouched = signature_in(path, (folder / "authority.pem").read_text())
    assert vouched is not None
    assert vouched["trusted"]
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    broken = signature_in(path)
    assert broken is not None
    assert not broken["whole"]
    bare = write(tmp_path / f"b{ending}", spec, Provenance("a model"))
    assert signature_in(bare) is None


def test_the_samples_are_not_changed_and_an_edit_is_called_one(folder: Path, tmp_path: Path) -> None:
    spec, bare = KINDS[0][1], Provenance("a", edited=True)
    signed = Provenance("a", edited=True, certificate=read_certificate(folder))
    paths = [write(tmp_path / f"{k}.png", spec, one) for k, one in enumerate((bare, signed))]
    first, second = (np.asarray(Image.open(path)) for path in paths)
    np.testing.assert_array_equal(first, second)
    assert EDITED_TYPE.encode() in paths[1].read_bytes()
    found = signature_in(paths[1])
    assert found is not None
    assert found["whole"]
    assert found["provenance"]["digital_source_type"] == EDITED_TYPE


def test_wrong_certificates_and_files_are_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"holds no chain\.pem"):
        read_certificate(tmp_path)
    with pytest.raises(CallError, match=r"a\.npz cannot be signed"):
        certificate_for(folder, [tmp_path / "a.npz"])
    with pytest.raises(CallError, match="not written over"):
        new_certificate(folder)
    alone = Certificate((folder / "authority.pem").read_text(), (folder / "key.pem").read_text())
    with pytest.raises(NiwakiError, match="does not sign"):
        write(tmp_path / "a.png", KINDS[0][1], Provenance("a", certificate=alone))
    assert (folder / "key.pem").stat().st_mode & 0o077 == 0


def test_signatures_are_told_by_the_command(folder: Path, tmp_path: Path) -> None:
    spec = KINDS[0][1]
    (tmp_path / "p").mkdir()
    write(tmp_path / "p/a.png", spec, Provenance("m", seed=5, certificate=read_certificate(folder)))
    write(tmp_path / "p/b.png", spec, Provenance("m"))
    result = CliRunner().invoke(app, ["detect", str(tmp_path / "p"), "--signatures"])
    assert result.exit_code == 0
    assert "signed by Mira, whom nobody vouches for here: m, seed 5, 0" in " ".join(result.stdout.split())
    assert "not signed" in result.stdout
    trust = folder / "authority.pem"
    answer = CliRunner().invoke(
        app, ["detect", str(tmp_path / "p"), "--signatures", "--trust", str(trust), "--json"]
    )
    assert [one["trusted"] for one in json.loads(answer.stdout)["files"]] == [True, False]
    assert signatures(tmp_path / "p")["files"][1]["signed"] is False


def test_samples_and_uses_are_signed_from_the_call(folder: Path, tmp_path: Path) -> None:
    bundle = pictures(tmp_path / "insects.niwaki")
    niwaki.sample(bundle, 3, seed=2, out=[tmp_path / "one.png", tmp_path / "each"], sign=folder)
    niwaki.use("interpolate", bundle, condition="bee", steps=3, out=tmp_path / "way.png", sign=folder)
    for path in (tmp_path / "one.png", tmp_path / "each" / "00002.png", tmp_path / "way.png"):
        found = signature_in(path)
        assert found is not None
        assert found["whole"]
        assert found["provenance"]["model_sha256"]
    with pytest.raises(CallError, match="cannot be signed"):
        niwaki.sample(bundle, 3, out=tmp_path / "x.npz", sign=folder)
    assert not (tmp_path / "x.npz").exists()
