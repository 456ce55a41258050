"""Samples as small files, coded by a bundle's model, the same on every engine, thread count and machine."""

from niwaki_runtime.codec.codec import CODEC, Codec, Coded, Decoded, open_codec
from niwaki_runtime.codec.errors import CodecError

__all__ = ["CODEC", "Codec", "CodecError", "Coded", "Decoded", "open_codec"]
