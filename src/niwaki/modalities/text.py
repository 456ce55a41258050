"""Text `(T)`: tokens, shown as the text that they stand for where the model ships its tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from niwaki.core.errors import CallError
from niwaki.modalities.base import Media, Modality, register_modality
from niwaki_runtime.chat_template import FILE as CHAT
from niwaki_runtime.chat_template import Chats
from niwaki_runtime.specs import Tokens, ValueSpec
from niwaki_runtime.tokenizer import FILE as TOKENIZER
from niwaki_runtime.tokenizer import Tokenizer

__all__ = ["Text", "decode", "samples_in"]

_BETWEEN = "\n\n" + "─" * 40 + "\n\n"


def decode(x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None) -> str:
    """The text of one sample, of a conversation turn by turn; its numbers where there is no tokenizer."""
    name = spec.values.tokenizer if isinstance(spec.values, Tokens) else ""
    text = (files or {}).get(name or TOKENIZER)
    if text is None:
        return " ".join(map(str, np.asarray(x).tolist()))
    if files is not None and CHAT in files and TOKENIZER in files:
        return Chats.of(files).said(np.asarray(x).tolist())
    return Tokenizer(text).decode(np.asarray(x).tolist())


@register_modality("text")
class Text(Modality):
    """Sequences of tokens."""

    features = ("random",)

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".txt": _all}

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        return Media("text", decode(x, spec, files))

    def say(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> str:
        return decode(x, spec, files)

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Tokens drawn one by one by their frequency in all samples."""
        return rng.choice(np.asarray(x).ravel(), np.shape(x)).astype(np.int64)


def _all(x: np.ndarray, spec: ValueSpec, files: Mapping[str, str]) -> bytes:
    return _BETWEEN.join(decode(sample, spec, files) for sample in x).encode()


def samples_in(text: str, files: Mapping[str, str]) -> list[np.ndarray]:
    """The tokens of each text of a file that was written here. Raises CallError without a tokenizer."""
    if TOKENIZER not in files:
        raise CallError("texts are read by their model's tokenizer; name the run or bundle with --bundle")
    tokenizer = Tokenizer(files[TOKENIZER])
    return [np.array(tokenizer.encode(part), dtype=np.int64) for part in text.split(_BETWEEN)]
