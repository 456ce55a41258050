"""Certificates to try signing with: nobody vouches for them but whoever made them."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from niwaki.core.errors import CallError, NiwakiError
from niwaki.core.store import write_bytes
from niwaki.modalities.signing import CHAIN, KEY

__all__ = ["new_certificate"]

_DAYS = 365


def new_certificate(folder: str | Path, name: str = "niwaki") -> Path:
    """Write `chain.pem` (a signer's certificate, and that of an authority that is made for it), `key.pem` and
    `authority.pem`, valid for a year.

    For trying: a picture that is to be trusted elsewhere wants a certificate of an authority on C2PA's list.
    Raises CallError where the folder holds one already.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ModuleNotFoundError:
        raise NiwakiError("making certificates needs cryptography; pip install 'niwaki[sign]'") from None
    place = Path(folder)
    if (place / KEY).exists():
        raise CallError(f"{place} holds a key already, which is not written over; name another folder")
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)

    def named(common: str) -> x509.Name:
        attributes = [(NameOID.ORGANIZATION_NAME, name), (NameOID.COMMON_NAME, common)]
        return x509.Name([x509.NameAttribute(*one) for one in attributes])

    def certificate(
        common: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, authority: bool
    ) -> str:
        usage = x509.KeyUsage(
            digital_signature=not authority, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = (
            x509.CertificateBuilder()
            .subject_name(named(common))
            .issuer_name(named(f"{name} authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=_DAYS))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
            )
        )
        if not authority:
            usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            made = made.add_extension(usages, critical=False)
        return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = certificate(f"{name} authority", root, root, True)
    secret = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_bytes(place / KEY, secret)
    os.chmod(place / KEY, 0o600)
    write_bytes(place / CHAIN, (certificate(name, own, root, False) + authority).encode())
    write_bytes(place / "authority.pem", authority.encode())
    return place
