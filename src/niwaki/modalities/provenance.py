"""Where a file comes from, written into the file: that a trained model made it, which one, and how to make it
again. IPTC's `DigitalSourceType` in XMP for whoever sorts files, the rest as JSON.

No time is written, so that the same samples are the same bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from niwaki.core.store import hash_unchanged
from niwaki.core.version import __version__
from niwaki.modalities.signing import Certificate

__all__ = ["EDITED_TYPE", "SOURCE_TYPE", "Provenance", "files_of_model", "provenance_of", "stamped"]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's name for media that a trained model has made."""
EDITED_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's name for media that a trained model has changed."""
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""Names XMP's box in MP4 (XMP specification, part 3)."""


@dataclass(frozen=True)
class Provenance:
    """
    model:       its name
    sha256:      of its files; empty for one in memory
    files:       where these are, if `sha256` is to be worked out when the statement is written
    program:     what it did
    seed, start: sample `start` of `seed` is the first in the file; n: how many are
    watermarked: whether they carry a mark; whose is not said
    edited:      whether the model changed what it was given, and did not make all of it
    certificate: by which files are signed (C2PA), where they have a place for that
    """

    model: str
    sha256: str = ""
    program: str = "sample"
    seed: int = 0
    start: int = 0
    n: int = 1
    watermarked: bool = False
    edited: bool = False
    files: Path | None = field(default=None, repr=False)
    certificate: Certificate | None = field(default=None, repr=False)

    @property
    def source_type(self) -> str:
        """IPTC's name for what this is."""
        return EDITED_TYPE if self.edited else SOURCE_TYPE

    def record(self) -> dict[str, Any]:
        """As JSON."""
        digest = self.sha256 or ("" if self.files is None else hash_unchanged(self.files))
        return {
            "digital_source_type": self.source_type,
            "software": f"niwaki {__version__}",
            "model": self.model,
            **({"model_sha256": digest} if digest else {}),
            "program": self.program,
            "seed": self.seed,
            "index": self.start,
            "samples": self.n,
            "watermarked": self.watermarked,
        }

    def text(self) -> str:
        """The record in one line of ASCII."""
        return json.dumps(self.record())

    def xmp(self) -> str:
        """The XMP packet."""
        return (
            '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
            'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
            'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<Iptc4xmpExt:DigitalSourceType>{self.source_type}</Iptc4xmpExt:DigitalSourceType>"
            f"<xmp:CreatorTool>niwaki {__version__}</xmp:CreatorTool><dc:description><rdf:Alt>"
            f'<rdf:li xml:lang="x-default">{escape(self.text())}</rdf:li></rdf:Alt></dc:description>'
            '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        )


def provenance_of(what: Any, program: str, **said: Any) -> Provenance:
    """Of what a model at a path, or one in memory, has made; of a run, its weights are its files.

    said: further fields
    """
    if not isinstance(what, str | Path) or not Path(what).exists():
        name = str(what) if isinstance(what, str | Path) else type(what).__name__
        return Provenance(name, program=program, **said)
    place = Path(what)
    name = place.stem if place.is_file() else place.name
    return Provenance(name, program=program, files=files_of_model(place), **said)


def files_of_model(place: Path) -> Path:
    """By which a model is known: of a run, those of its weights alone."""
    return place / "model" if (place / "model").is_dir() else place


def stamped(ending: str, data: bytes, source: Provenance) -> bytes | None:
    """The bytes of a file with the statement; None for endings that have no place for one."""
    stamp = _STAMPS.get(ending)
    if stamp is None:
        return None
    made = stamp(data, source)
    signed = None if source.certificate is None else source.certificate.sign(ending, made, source.record())
    return made if signed is None else signed


def _png(data: bytes, source: Provenance) -> bytes:
    """Text chunks after the head (ISO/IEC 15948, 11.3.4)."""
    head = 8 + 12 + struct.unpack(">I", data[8:12])[0]
    texts = {
        "Software": f"niwaki {__version__}",
        "Source": source.source_type,
        "Comment": source.text(),
        "XML:com.adobe.xmp": source.xmp(),
    }
    chunks = b"".join(
        _chunk(b"iTXt", key.encode() + b"\0\0\0\0\0" + text.encode()) for key, text in texts.items()
    )
    return data[:head] + chunks + data[head:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _wav(data: bytes, source: Provenance) -> bytes:
    """A LIST of INFO at the end (RIFF 1.0): software, title, comment."""
    fields = {b"ISFT": f"niwaki {__version__}", b"INAM": source.model, b"ICMT": source.text()}
    body = b"INFO"
    for key, text in fields.items():
        value = text.encode() + b"\0"
        body += key + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2)
    whole = data + b"\0" * (len(data) % 2) + b"LIST" + struct.pack("<I", len(body)) + body
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def _gif(data: bytes, source: Provenance) -> bytes:
    """A comment after the common palette (GIF89a, 24)."""
    palette = 3 * (2 << (data[10] & 7)) if data[10] & 128 else 0
    text = source.text().encode()
    blocks = b"".join(bytes([len(part)]) + part for part in _parts(text, 255))
    at = 13 + palette
    return b"GIF89a" + data[6:at] + b"\x21\xfe" + blocks + b"\0" + data[at:]


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def _mp4(data: bytes, source: Provenance) -> bytes:
    """XMP's box at the end, which players pass over."""
    body = _XMP_BOX + source.xmp().encode()
    return data + struct.pack(">I", 8 + len(body)) + b"uuid" + body


_STAMPS: dict[str, Callable[[bytes, Provenance], bytes]] = {
    ".png": _png,
    ".wav": _wav,
    ".gif": _gif,
    ".mp4": _mp4,
}
