"""Recordings of any length: cut into windows, coded, and put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from runtime.codec.direct_cases import Network

from niwaki_runtime.codec import Codec, CodecError, RecordingCodec
from niwaki_runtime.codec.container import unpack
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import BITS, Program
from niwaki_runtime.samplers import DirectCoding
from niwaki_runtime.specs import ConditionSpec, Real, Tokens, ValueSpec

pytest.importorskip("constriction")

LEVELS, LENGTH = 33, 12
SPECS = {
    "mono": ValueSpec("audio", (LENGTH,), "T", Real(), 8000.0),
    "one channel": ValueSpec("audio", (1, LENGTH), "CT", Real(), 8000.0),
    "stereo": ValueSpec("audio", (2, LENGTH), "CT", Real(), 8000.0),
    "unsigned": ValueSpec("audio", (LENGTH,), "T", Real(0.0, 4.0), 8000.0),
}
each = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def codec(spec: ValueSpec, classes: int = 0) -> Codec:
    """Codes are the nearest of 33 levels."""
    network, width = Network(LEVELS, classes), spec.high - spec.low

    def read(x: np.ndarray) -> tuple[np.ndarray]:
        return (np.rint((x.reshape(len(x), -1) - spec.low) / width * (LEVELS - 1)).astype(np.int64),)

    def draw(codes: np.ndarray) -> tuple[np.ndarray]:
        return ((spec.low + width * codes / (LEVELS - 1)).reshape(len(codes), *spec.shape),)

    graphs: dict[str, Any] = {"decode": network, "read": read, "draw": draw}
    asked = ("x", "class") if classes else ("x",)
    plan = DirectCoding(spec.size, LEVELS, "decode", asked, "read", "draw")
    labels = {"class": ConditionSpec.label(classes)} if classes else {}
    return Codec(Program(plan, {"x": ConditionSpec(spec), **labels}, BITS), graphs, "model-1")


def sounds(spec: ValueSpec, *lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    channels = spec.size // LENGTH
    return [rng.uniform(spec.low, spec.high, (channels, n)).astype(np.float32) for n in lengths]


@each
@pytest.mark.parametrize("lengths", [(12,), (24, 12), (5, 0, 31, 1), (100,), ()])
def test_recordings_there_and_back(spec: ValueSpec, lengths: tuple[int, ...]) -> None:
    made, given = RecordingCodec(codec(spec)), sounds(spec, *lengths)
    names = [f"{i}.wav" for i in range(len(given))]
    coded = made.encode(given, names=names, lossy=True, block=2)
    assert coded.n == len(given)
    back = made.decode(coded.data)
    assert back.names == tuple(names)
    assert back.lost == ()
    step = (spec.high - spec.low) / (LEVELS - 1)
    for one, other in zip(given, back.sounds, strict=True):
        assert other.shape == one.shape
        np.testing.assert_allclose(other, one, atol=step / 2 + 1e-5)


def test_a_bad_byte_costs_its_block_and_says_which() -> None:
    spec = SPECS["mono"]
    made = RecordingCodec(codec(spec))
    data = bytearray(made.encode(sounds(spec, 24, 24, 24), lossy=True, block=2).data)
    header, _ = unpack(bytes(data))
    data[12 + int.from_bytes(data[4:8], "little") + sum(header.sizes) - 1] ^= 255
    back = made.decode(bytes(data))
    assert back.lost == (2,)
    assert not back.sounds[2].any()
    assert all(sound.any() for sound in back.sounds[:2])


def test_labels_are_chosen_for_every_window() -> None:
    spec = SPECS["mono"]
    made, given = RecordingCodec(codec(spec, classes=3)), sounds(spec, 30)
    chosen = made.encode(given, lossy=True)
    sizes = [made.encode(given, lossy=True, labels={"class": np.array(y)}).payload for y in range(3)]
    assert chosen.payload <= min(sizes)
    assert made.decode(chosen.data).sounds[0].shape == (1, 30)


def test_what_does_not_fit_is_refused() -> None:
    made = RecordingCodec(codec(SPECS["stereo"]))
    with pytest.raises(CallError, match="shape"):
        made.encode([np.zeros((1, 5), np.float32)], lossy=True)
    samples = codec(SPECS["mono"])
    data = samples.encode(np.zeros((2, LENGTH), np.float32), lossy=True).data
    with pytest.raises(CodecError, match="recordings"):
        RecordingCodec(samples).decode(data)
    tokens = ValueSpec("text", (LENGTH,), "T", Tokens(LEVELS))
    program = Program(DirectCoding(LENGTH, LEVELS, "decode", ("x",)), {"x": ConditionSpec(tokens)}, BITS)
    with pytest.raises(CallError, match="sound"):
        RecordingCodec(Codec(program, {"decode": Network(LEVELS)}, "model-1"))
