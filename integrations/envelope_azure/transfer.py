"""Transfer blobs: a key, encrypted so that only an HSM can open it ("bring your own key").

The vendor's "Bring your own key specification" rules: PKCS #11's mechanism
CKM_RSA_AES_KEY_WRAP, in JSON. A fresh AES key is encrypted to the HSM's
transfer key with RSA-OAEP, and wraps the key (RFC 5649). The one is followed by
the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from envelope import __version__, keyurl
from envelope.errors import ConfigurationError, KeyOperationForbidden
from envelope.jose import b64u_encode
from envelope.keyurl import KeyName
from envelope.secret import Secret
from envelope_azure.keys import kid_of, public_half

__all__ = ["TransferKey", "blob_of", "named_in"]

_KID = re.compile(rb"^kid:[ \t]*(\S+)[ \t]*\r?$", re.MULTILINE)
_ENC = "CKM_RSA_AES_KEY_WRAP"
# SHA-1 is what the specification prescribes and the HSM expects; with another hash it refuses the
# blob. OAEP does not rest on the collisions that SHA-1 is broken for. No file is ever wrapped like
# this: files know RSA-OAEP-256 alone (docs/format.md).
_OAEP = padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)  # noqa: S303


@dataclass(frozen=True, slots=True)
class TransferKey:
    """The public half of a key in an HSM that can only import (the vendor's "key exchange key").

    Args:
        name: Its name with the exact version; a blob is for that version.
        public: The public half.
    """

    name: KeyName
    public: rsa.RSAPublicKey

    @classmethod
    def of_bundle(cls, bundle: Mapping[str, Any]) -> TransferKey:
        """The key that a vault told of.

        Raises:
            KeyOperationForbidden: It is not an HSM's RSA key that does nothing but import.
        """
        jwk = bundle["key"]
        name = keyurl.parse(str(jwk["kid"]))
        if jwk.get("kty") != "RSA-HSM" or list(jwk.get("key_ops") or ()) != ["import"]:
            made = "envelope keys create KEY --kty RSA-HSM --bits 4096 --key-op import"
            raise KeyOperationForbidden(
                "a transfer key is an HSM's RSA key that does nothing but import",
                kid=str(name),
                next_step=f"Make one: {made}",
            )
        return cls(name, public_half(bundle))

    @classmethod
    def of_pem(cls, key: str, pem: bytes) -> TransferKey:
        """The key that a PEM file holds, as ``envelope keys public`` wrote it.

        Args:
            key: Its name. The version may be missing where the file says it (``kid: …``).
            pem: The file.

        Raises:
            ConfigurationError: No RSA key, another key's, or no version.
        """
        name = keyurl.parse(key)
        line = _KID.search(pem)
        if line is not None:
            said = keyurl.parse(line[1].decode("ascii", "replace"))
            if said.unversioned != name.unversioned or name.version not in (None, said.version):
                raise ConfigurationError(f"the public half is that of {said}, not of {name}")
            name = said
        if name.version is None:
            raise ConfigurationError(
                "a transfer blob is for one version of its transfer key, and the file does not "
                "say which",
                next_step=f"Name it: {name}/VERSION",
            )
        try:
            public = load_pem_public_key(pem)
        except ValueError:
            public = None
        if not isinstance(public, rsa.RSAPublicKey):
            raise ConfigurationError("the file holds no public RSA key as PEM")
        return cls(name, public)


def blob_of(plain: Secret, to: TransferKey) -> bytes:
    """A transfer blob: the content of a ``.byok`` file.

    Args:
        plain: PKCS #8 DER of an RSA key, or the bytes of a symmetric one.
        to: Which HSM's key can open it.
    """
    fresh = Secret.random(32)
    ciphertext = to.public.encrypt(fresh.reveal(), _OAEP)
    ciphertext += aes_key_wrap_with_padding(fresh.reveal(), plain.reveal())
    return json.dumps(
        {
            "schema_version": "1.0.0",
            "header": {"kid": kid_of(to.name), "alg": "dir", "enc": _ENC},
            "ciphertext": b64u_encode(ciphertext),
            "generator": f"envelope {__version__}",
        }
    ).encode()


def named_in(blob: bytes) -> KeyName | None:
    """The transfer key that a blob names; ``None`` if this is no transfer blob.

    Raises:
        ConfigurationError: It is one, and the name is not that of a key.
    """
    if not blob.lstrip().startswith(b"{"):
        return None
    try:
        header = json.loads(blob)["header"]
        if header["enc"] != _ENC:
            return None
        kid = str(header["kid"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return keyurl.parse(kid)
