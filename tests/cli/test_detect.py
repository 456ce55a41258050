"""`niwaki sample --watermark` and `niwaki detect`: a key's mark from a call to an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from niwaki import detect, sample
from niwaki.api.sample import Samples
from niwaki.core.errors import CallError
from niwaki.modalities.provenance import Provenance
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark import Watermark, new_key, read_key

SPEC = ValueSpec("image", (3, 96, 96))


def marked(key: Path) -> Samples:
    whole = load_sample_images().images[0].transpose(2, 0, 1) / 127.5 - 1
    x = np.array([whole[:, a : a + 96, b : b + 96] for a in (0, 96, 192) for b in (0, 96, 192, 288)])
    x = Watermark(read_key(key)).embed(x.astype(np.float32), SPEC)
    return Samples(x, {}, 0, SPEC, 5, source=Provenance("photographs", start=5, n=len(x), watermarked=True))


def test_a_folder_and_an_array_file_are_found_by_their_key(
    niwaki: Callable[..., Any], tmp_path: Path
) -> None:
    key, other = tmp_path / "my.key", tmp_path / "other.key"
    secret = new_key(key).secret.hex()
    assert niwaki("detect", "--new-key", str(other), "--json").status == 0
    made = marked(key)
    made.write(tmp_path / "pictures")
    made.write(tmp_path / "all.npz")
    for place in ("pictures", "all.npz"):
        said = niwaki("detect", str(tmp_path / place), "--key", str(key), "--json", "--decoys", "9")
        assert said.status == 0
        assert said.json["n"] == 12
        assert said.json["p"] < 1e-6
        assert said.json["p_rank"] == 0.1
        assert niwaki("detect", str(tmp_path / place), "--key", str(other), "--json").json["p"] > 1e-4
        assert secret not in said.out + said.err
    with Image.open(tmp_path / "pictures" / "00005.png") as picture:
        assert json.loads(picture.text["Comment"])["index"] == 5  # type: ignore[attr-defined]
    for file in (tmp_path / "all.npz", *(tmp_path / "pictures").iterdir()):
        assert bytes.fromhex(secret) not in file.read_bytes()
        assert secret.encode() not in file.read_bytes()


def test_what_is_wrong_with_a_call_is_said(niwaki: Callable[..., Any], tmp_path: Path) -> None:
    key = tmp_path / "my.key"
    new_key(key)
    assert niwaki("detect", str(tmp_path)).status == 2
    assert "does not exist" in niwaki("detect", str(tmp_path / "none.png"), "--key", str(key)).err
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert niwaki("detect", str(tmp_path / "broken.png"), "--key", str(key)).status == 2
    (tmp_path / "a.txt").write_text("words")
    assert "--bundle" in niwaki("detect", str(tmp_path / "a.txt"), "--key", str(key)).err
    with pytest.raises(CallError, match="stays in one process"):
        sample(tmp_path, 1, watermark=key, devices=2)
    with pytest.raises(CallError, match="no samples"):
        detect([], key)


def test_a_damaged_array_file_is_one_sentence(niwaki, tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "my.key").unlink(missing_ok=True)
    assert niwaki("detect", "--new-key", tmp_path / "my.key").status == 0
    said = niwaki("detect", tmp_path / "x.npz", "--key", tmp_path / "my.key")
    assert said.status == 2
    assert "x.npz" in said.err
    assert "defect" not in said.err
