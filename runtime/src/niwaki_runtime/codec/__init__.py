"""Samples, texts and recordings as small files, coded by a bundle's model, the same on every engine, thread
count and machine."""

from niwaki_runtime.codec.bits_back import BitsBackCoder
from niwaki_runtime.codec.codec import CODEC, Codec, Coded, Decoded, open_codec
from niwaki_runtime.codec.direct import DirectCoder
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.local_bits_back import LocalBitsBackCoder
from niwaki_runtime.codec.recordings import DecodedRecordings, RecordingCodec, is_sound
from niwaki_runtime.codec.texts import DecodedTexts, TextCodec

__all__ = [
    "CODEC",
    "BitsBackCoder",
    "Codec",
    "CodecError",
    "Coded",
    "Decoded",
    "DecodedRecordings",
    "DecodedTexts",
    "DirectCoder",
    "LocalBitsBackCoder",
    "RecordingCodec",
    "TextCodec",
    "is_sound",
    "open_codec",
]
