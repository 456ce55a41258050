"""C2PA: a signed manifest in a file says who vouches for where it comes from, and breaks with the file.

Files are signed by a certificate of the owner's, after everything else was written into them. The signature
is new every time; what it vouches for is not.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError, NiwakiError
from niwaki.core.version import __version__

__all__ = ["ENDINGS", "Certificate", "certificate_for", "check_signable", "read_certificate", "signature_in"]

CHAIN, KEY = "chain.pem", "key.pem"
"""Files of a certificate's folder: the certificates, the signer's own first, and its private key."""
_TYPES = {".png": "image/png", ".gif": "image/gif", ".wav": "audio/wav", ".mp4": "video/mp4"}
ENDINGS = tuple(_TYPES)
"""Of files that a manifest has a place in."""
_LABEL = "org.niwaki.provenance"
_UNVOUCHED = "signingCredential.untrusted"


def _library() -> Any:
    try:
        import c2pa
    except ModuleNotFoundError:
        raise NiwakiError("signing files needs c2pa; pip install 'niwaki[sign]'") from None
    return c2pa


@dataclass(frozen=True)
class Certificate:
    """chain: PEM, the signer's own certificate first; key: PEM, of an elliptic curve (ES256)"""

    chain: str
    key: str = field(repr=False)

    def sign(self, ending: str, data: bytes, record: dict[str, Any]) -> bytes | None:
        """The bytes of a file with a manifest; None for endings that have no place for one.

        record: what the file says of where it comes from (`Provenance.record`)
        Raises NiwakiError where the certificate does not serve: C2PA takes none that signed itself, and wants
        an extended key usage.
        """
        kind = _TYPES.get(ending)
        if kind is None:
            return None
        c2pa = _library()
        # Also of an edit: one that was opened would have to carry what it was opened from.
        action = {
            "action": "c2pa.created",
            "digitalSourceType": record["digital_source_type"],
            "softwareAgent": {"name": "niwaki", "version": __version__},
        }
        manifest = {
            "claim_generator_info": [{"name": "niwaki", "version": __version__}],
            "title": f"{record['model']}, seed {record['seed']}, {record['index']}",
            "format": kind,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
                {"label": _LABEL, "data": record},
            ],
        }
        out = io.BytesIO()
        try:
            info = c2pa.C2paSignerInfo(
                c2pa.C2paSigningAlg.ES256, self.chain.encode(), self.key.encode(), None
            )
            quiet = c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
            with (
                c2pa.Context(quiet) as context,
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(manifest, context) as builder,
            ):
                builder.sign(signer, kind, io.BytesIO(data), out)
        except c2pa.C2paError as error:
            raise NiwakiError(f"the certificate does not sign: {error}") from None
        return out.getvalue()


def read_certificate(folder: str | Path) -> Certificate:
    """Of a folder that holds `chain.pem` and `key.pem`. Raises CallError for another one."""
    place, found = Path(folder), []
    for name, head in ((CHAIN, "CERTIFICATE"), (KEY, "PRIVATE KEY")):
        try:
            text = (place / name).read_text("ascii")
        except (OSError, ValueError):
            raise CallError(f"{place} holds no {name}; `niwaki detect --new-certificate` makes one") from None
        if f"{head}-----" not in text:
            raise CallError(f"{place / name} holds no {head.lower()} in PEM")
        found.append(text)
    return Certificate(*found)


def certificate_for(sign: str | Path | Certificate | None, places: Sequence[Path]) -> Certificate | None:
    """What is to sign the files `places`; None where nothing is. Raises CallError for files that cannot be
    signed, before anything is made."""
    if sign is None:
        return None
    for place in places:
        if place.suffix:
            check_signable(place)
    _library()
    return sign if isinstance(sign, Certificate) else read_certificate(sign)


def check_signable(path: Path) -> None:
    """Raises CallError for a file that no manifest has a place in."""
    if path.suffix not in ENDINGS:
        raise CallError(f"{path.name} cannot be signed; {', '.join(ENDINGS)} can, and folders of them")


def signature_in(path: Path, trust: str = "") -> dict[str, Any] | None:
    """Who signed a file, whether it is as it was then, and what they said of it; None where it is not signed.

    trust: certificates in PEM of those whose word counts
    Returns `whole` (whether nothing was changed since), `trusted`, `by`, `wrong` (what the check found,
    where it is not whole), and `provenance`, as niwaki wrote it. Raises CallError for other files.
    """
    kind = _TYPES.get(path.suffix.lower())
    if kind is None:
        raise CallError(f"{path.name}: signatures are looked for in {', '.join(ENDINGS)}")
    c2pa = _library()
    anchors = {"trust": {"user_anchors": trust}} if trust else {}
    try:
        with c2pa.Context(c2pa.Settings.from_dict(anchors)) as context, open(path, "rb") as file:
            reader = c2pa.Reader.try_create(kind, file, context=context)
            if reader is None:
                return None
            with reader:
                report = json.loads(reader.json())
    except c2pa.C2paError as error:
        return {"whole": False, "trusted": False, "by": "", "wrong": [str(error)], "provenance": None}
    active = report["manifests"][report["active_manifest"]]
    codes = [one["code"] for one in report.get("validation_status", ())]
    said = [a["data"] for a in active.get("assertions", ()) if a["label"] == _LABEL]
    signer = active.get("signature_info") or {}
    return {
        "whole": report["validation_state"] in ("Valid", "Trusted"),
        "trusted": report["validation_state"] == "Trusted",
        "by": signer.get("common_name") or signer.get("issuer") or "",
        "wrong": [code for code in codes if code != _UNVOUCHED],
        "provenance": said[0] if said else None,
    }
