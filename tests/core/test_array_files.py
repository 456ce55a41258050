"""Arrays of any origin: what was written is read, everything else is one sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from niwaki.core.array_files import read_array_file
from niwaki_runtime.errors import CallError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(3, 4), np.arange(3)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
    found = read_array_file(tmp_path / "a.npz")
    assert set(found) == {"x", "y"}
    np.testing.assert_array_equal(found["x"], x)
    assert set(read_array_file(tmp_path / "a.npz", wanted=lambda names: ["y"])) == {"y"}
    np.save(tmp_path / "a.npy", x)
    np.testing.assert_array_equal(read_array_file(tmp_path / "a.npy", single="made")["made"], x)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save], ids=lambda f: f.__name__)
def test_damaged_bytes_are_one_sentence(save: object, tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / ("x.npy" if save is np.save else "x.npz")
    values = (rng.integers(0, 4, (60, 3, 8, 8)) * 60).astype(np.uint8)
    save(file, **({"arr": values} if save is np.save else {"x": values}))  # type: ignore[operator]
    whole, told = file.read_bytes(), []
    for trial in range(150):
        data = bytearray(whole)
        at = rng.integers(len(data)) if trial % 2 else rng.integers(min(200, len(data)))
        data[at] ^= int(rng.integers(1, 256))
        file.write_bytes(data if trial % 3 else data[: rng.integers(len(data))])
        try:
            read_array_file(file)
        except CallError as error:
            told.append(str(error))
    assert len(told) > 40
    assert not any("\n" in sentence for sentence in told)


def npy(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def test_more_than_the_memory_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy("(1000000, 1000000, 1000)"))
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy("(4000000000000,)", "<f8"))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(CallError, match=r"promises 1e\+06 GB|promises 3.2e\+04 GB"):
            read_array_file(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no npy or npz file|not a whole npy"),
        (b"hello", "no npy or npz file"),
        (b"PK\x03\x04broken", "not a whole npy|no npy"),
        (npy("(3,)", "|O") + b"xxx", "holds Python objects"),
        (npy("(-3,)"), "not a whole npy"),
        (npy("(3,), 'x': 1"), "not a whole npy"),
        (npy("(3,)", "|V9999999999999"), "not a whole npy|promises"),
    ],
)
def test_what_is_no_array_is_told(data: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(CallError, match=sentence):
        read_array_file(tmp_path / "x.npz")
    with pytest.raises(CallError, match=r"missing\.npz does not exist"):
        read_array_file(tmp_path / "missing.npz")
