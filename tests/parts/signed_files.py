"""Files with content credentials (C2PA), signed by certificates of an authority made here."""

import datetime as dt
import io
import json
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MANIFEST: dict[str, Any] = {
    "claim_generator_info": [{"name": "Studio<b>", "version": "7"}],
    "title": "a title",
    "assertions": [
        {
            "label": "c2pa.actions",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": GENERATED,
                        "softwareAgent": {"name": "Painter<i>", "version": "2"},
                    }
                ]
            },
        }
    ],
}


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Newsroom<script>"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, signs_files: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs_files, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=not signs_files,
        crl_sign=not signs_files, encipher_only=False, decipher_only=False,
    )  # fmt: skip


class Authority:
    """A root certificate, and signers below it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._certify(self._key, "Root", dt.timedelta(days=9))

    @property
    def pem(self) -> bytes:
        """Return the root's certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    def _certify(
        self,
        key: Any,
        name: str,
        lasts: dt.timedelta,
        usages: Any = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    ) -> x509.Certificate:
        now, is_root = dt.datetime.now(dt.UTC), key is self._key
        builder = (
            x509.CertificateBuilder(_name("Root"), _name(name), key.public_key(), 2)
            .not_valid_before(now - dt.timedelta(days=3))
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(_usage(signs_files=not is_root), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if not is_root:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            usage = x509.ExtendedKeyUsage(usages)
            builder = builder.add_extension(issuer, False).add_extension(usage, False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(
        self,
        key: Any = None,
        *,
        lasts: dt.timedelta = dt.timedelta(days=1),
        encryption: Any = None,
        usages: Any = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    ) -> tuple[bytes, bytes]:
        """Return a certificate with the root behind it, and its private key, both in PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        own = self._certify(key, "Ann<b> Signer", lasts, usages).public_bytes(Encoding.PEM)
        private = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
        )  # fmt: skip
        return own + self.pem, private

    def sign(
        self,
        content: bytes,
        kind: str,
        *,
        lasts: dt.timedelta = dt.timedelta(days=1),
        manifest: dict[str, Any] = MANIFEST,
        made_of: bytes | None = None,
    ) -> bytes:
        """Return a file with credentials; kind is its media type, made_of a parent's content."""
        chain, private = self.issue(lasts=lasts)
        info = c2pa.C2paSignerInfo(b"es256", chain, private, None)
        settings = {
            "verify": {"verify_trust": False, "verify_after_sign": False},
            "builder": {"thumbnail": {"enabled": False}},
        }
        signed = io.BytesIO()
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Builder.from_json(json.dumps(manifest), context=context) as builder,
            c2pa.Signer.from_info(info) as signer,
        ):
            if made_of is not None:
                parent = {"title": "parent<b>.mp4", "relationship": "parentOf"}
                builder.add_ingredient(json.dumps(parent), kind, io.BytesIO(made_of))
            builder.sign(signer, kind, io.BytesIO(content), signed)
        return signed.getvalue()
