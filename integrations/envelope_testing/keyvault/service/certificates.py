"""Certificates in a vault: issued by themselves, requested from others, imported, and their parts.

A certificate is three objects of one name and version: itself, a key and a secret. Follows the
vendor's "About Azure Key Vault certificates" and "Certificate creation methods".
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ..objects import Attributes, Item, Version, new_version
from . import shelving, x509
from .errors import bad_parameter, conflict, deleted_but_recoverable
from .keys import KeyContent, key_ops_of
from .material import Spec, checked, spec_of
from .requests import Asked, Json, encode, object_of, text_of
from .secretvalues import SecretContent
from .x509 import Identity, Private

_SELF, _UNKNOWN = "Self", "Unknown"
_IN_PROGRESS = "Pending certificate created. Certificate request is in progress."
_TO_MERGE = "Pending certificate created. Please Perform Merge to complete the request."
_RENEWAL = {"trigger": {"lifetime_percentage": 80}, "action": {"action_type": "AutoRenew"}}


@dataclass
class CertificateContent:
    """What a version of a certificate is."""

    identity: Identity


def policy_of(asked: Asked, wanted: Json) -> Json:
    """A whole policy from what a body says.

    :raises VaultError: 400, it names no issuer, or one that the vault does not know.
    """
    key: Json = {"exportable": True, "kty": "RSA", "reuse_key": False}
    key |= _given(wanted, "key_props")
    kty = text_of(key, "kty")
    if kty.startswith("RSA"):
        key.setdefault("key_size", 2048)
    elif kty.startswith("EC"):
        key.setdefault("crv", "P-256")
    secret = {"contentType": x509.PFX} | _given(wanted, "secret_props")
    if secret["contentType"] not in (x509.PFX, x509.PEM):
        raise bad_parameter("Property policy has invalid value: 'contentType'")
    issuer = _given(wanted, "issuer")
    name = issuer.get("name") or _SELF
    known = {_SELF.lower(), _UNKNOWN.lower(), *asked.vault.issuers}
    if str(name).lower() not in known:
        raise bad_parameter(f"The issuer {name} was not found in this vault.")
    properties = {
        "ekus": ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
        "key_usage": ["digitalSignature", "keyEncipherment"],
        "validity_months": 12,
        "basic_constraints": {"ca": False},
    } | _given(wanted, "x509_props")
    managed = _given(wanted, "platformManaged")
    return {
        **({"platformManaged": managed} if managed else {}),
        "key_props": key,
        "secret_props": secret,
        "x509_props": properties,
        "lifetime_actions": wanted.get("lifetime_actions") or [copy.deepcopy(_RENEWAL)],
        "issuer": issuer | {"name": name},
        "attributes": {"enabled": True, "created": asked.now, "updated": asked.now},
    }


def _given(body: Json, member: str) -> Json:
    return {name: value for name, value in object_of(body, member).items() if value is not None}


def bundle(
    asked: Asked, item: Item[CertificateContent], version: Version[CertificateContent]
) -> Json:
    """A certificate as calls on one answer it."""
    certificate = version.content.identity.certificate
    tail = f"{item.name}/{version.version}"
    return {
        "id": shelving.identifier(asked, item.name, version.version),
        "kid": f"{asked.vault.url}/keys/{tail}",
        "sid": f"{asked.vault.url}/secrets/{tail}",
        "x5t": _thumbprint(version),
        "cer": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode(),
        "policy": policy_json(asked, item),
        "preserveCertOrder": version.extra["preserveCertOrder"],
        **shelving.common_json(asked, version),
    }


def summary(
    asked: Asked, item: Item[CertificateContent], version: Version[CertificateContent]
) -> Json:
    """A certificate as lists have it."""
    exact = version.version if asked.operation.name == "list_certificate_versions" else None
    return {
        "id": shelving.identifier(asked, item.name, exact),
        "x5t": _thumbprint(version),
        **shelving.common_json(asked, version),
    }


def _thumbprint(version: Version[CertificateContent]) -> str:
    return encode(version.content.identity.certificate.fingerprint(hashes.SHA1()))  # noqa: S303


def policy_json(asked: Asked, item: Item[CertificateContent]) -> Json:
    """The policy for the next version."""
    return {"id": f"{asked.vault.url}/certificates/{item.name}/policy", **item.settings["policy"]}


def prepare_create(asked: Asked) -> Callable[[], Any]:
    """What makes the key of the new version; the one before, where the policy reuses it."""
    properties = policy_of(asked, object_of(asked.body, "policy"))["key_props"]
    item = asked.vault.certificates.live.get(asked.name.lower())
    if properties["reuse_key"] is True and item is not None and item.versions:
        private = item.current.content.identity.private
        return lambda: private
    if properties["kty"].startswith("oct"):
        raise bad_parameter("Property policy has invalid value: 'kty'")
    return Spec.read(properties, hsm=False).make


def create(asked: Asked) -> Json:
    """Ask for a new certificate or version: the vault's own is there when the caller looks."""
    policy = policy_of(asked, object_of(asked.body, "policy"))
    private: Private = asked.prepared
    request = x509.request(private, policy["x509_props"])
    own = policy["issuer"]["name"].lower() == _SELF.lower()
    certificate = x509.self_signed(private, policy["x509_props"], asked.now) if own else None
    item = _claim(asked)
    item.settings["policy"] = policy
    item.settings["preserve"] = asked.body.get("preserveCertOrder") is True
    pending = {
        "issuer": policy["issuer"],
        "csr": base64.b64encode(request).decode(),
        "cancellation_requested": False,
        "status": "inProgress",
        "status_details": (
            _TO_MERGE if policy["issuer"]["name"].lower() == _UNKNOWN.lower() else _IN_PROGRESS
        ),
        "request_id": new_version(),
        "preserveCertOrder": item.settings["preserve"],
    }
    item.settings["pending"], item.settings["private"] = pending, private
    item.settings["asked"] = {name: asked.body.get(name) for name in ("attributes", "tags")}
    answer = pending_json(asked, item)
    if certificate is not None:
        add(asked, item, Identity(private, certificate))
    return answer


def pending_json(asked: Asked, item: Item[CertificateContent]) -> Json:
    """The state of a request for a certificate."""
    return {
        "id": f"{asked.vault.url}/certificates/{item.name}/pending",
        **item.settings["pending"],
    }


def _claim(asked: Asked) -> Item[CertificateContent]:
    """The certificate to add to, with a name that its key and its secret can have as well."""
    lower = asked.name.lower()
    for kind in ("keys", "secrets"):
        place = shelving.shelf(asked, kind)
        taken = place.live.get(lower)
        if taken is not None and not taken.current.managed:
            raise conflict(f"A {kind[:-1]} of the name {asked.name} already exists.")
        if lower in place.deleted:
            raise deleted_but_recoverable(kind, asked.name)
    return shelving.claim(asked)


def add(
    asked: Asked, item: Item[CertificateContent], identity: Identity
) -> Version[CertificateContent]:
    """Make this the certificate's newest version, with a key and a secret of the same version."""
    policy, wanted = item.settings["policy"], item.settings.pop("asked", asked.body)
    name = new_version()
    attributes = Attributes(
        created=asked.now,
        updated=asked.now,
        not_before=int(identity.certificate.not_valid_before_utc.timestamp()),
        expires=int(identity.certificate.not_valid_after_utc.timestamp()),
    )
    enabled = object_of(wanted, "attributes").get("enabled")
    attributes.enabled = enabled is not False
    tags = shelving.tags_of(wanted)
    kty, content_type = policy["key_props"]["kty"], policy["secret_props"]["contentType"]
    key = KeyContent(kty, identity.private, key_ops_of(None, kty.removesuffix("-HSM")))
    exportable = policy["key_props"]["exportable"] is not False
    value = x509.secret_value(identity, content_type, exportable=exportable)
    parts: list[tuple[str, Any]] = [
        ("keys", key),
        ("secrets", SecretContent(value, content_type)),
    ]
    for kind, content in parts:
        part = shelving.shelf(asked, kind).live.setdefault(item.name.lower(), Item(item.name))
        part.add(Version(name, content, copy.copy(attributes), tags, managed=True))
    version = item.add(Version(name, CertificateContent(identity), attributes, tags))
    version.extra["preserveCertOrder"] = item.settings.get("preserve", False)
    if "pending" in item.settings:
        item.settings["pending"] |= {
            "status": "completed",
            "status_details": None,
            "target": f"{asked.vault.url}/certificates/{item.name}",
        }
    return version


def import_certificate(asked: Asked) -> Json:
    """A certificate with its key, made elsewhere."""
    identity, content_type = x509.read(text_of(asked.body, "value"), asked.body.get("pwd"))
    checked(identity.private)
    family = "RSA" if isinstance(identity.private, rsa.RSAPrivateKey) else "EC"
    wanted = object_of(asked.body, "policy")
    spec = spec_of(_given(wanted, "key_props").get("kty") or family, identity.private)
    shape = (
        {"kty": spec.kty, "key_size": spec.size}
        if family == "RSA"
        else {"kty": spec.kty, "crv": spec.crv}
    )
    properties = {"subject": identity.certificate.subject.rfc4514_string()}
    policy = policy_of(
        asked,
        wanted
        | {
            "key_props": _given(wanted, "key_props") | shape,
            "secret_props": {"contentType": content_type},
            "x509_props": _given(wanted, "x509_props") | properties,
            "issuer": _given(wanted, "issuer") or {"name": _UNKNOWN},
        },
    )
    item = _claim(asked)
    item.settings["policy"] = policy
    item.settings["preserve"] = asked.body.get("preserveCertOrder") is True
    return bundle(asked, item, add(asked, item, identity))


def get(asked: Asked) -> Json:
    """One version of a certificate."""
    item = shelving.live(asked)
    return bundle(asked, item, shelving.version_of(asked, item))


def update(asked: Asked) -> Json:
    """Change a version's attributes and tags; and with them, its key's and its secret's."""
    item = shelving.live(asked)
    version = shelving.version_of(asked, item)
    shelving.update(asked, version)
    for kind in ("keys", "secrets"):
        part = shelving.shelf(asked, kind).live[item.name.lower()].versions[version.version]
        part.attributes.enabled = version.attributes.enabled
    return bundle(asked, item, version)


def get_policy(asked: Asked) -> Json:
    """The policy for the next version."""
    return policy_json(asked, shelving.live(asked))


def update_policy(asked: Asked) -> Json:
    """Change the policy for the next version; what is not named stays."""
    item = shelving.live(asked)
    before = item.settings["policy"]
    merged = {**before, **{name: value for name, value in asked.body.items() if value is not None}}
    for member in ("key_props", "secret_props", "x509_props", "issuer"):
        merged[member] = before[member] | _given(asked.body, member)
    policy = policy_of(asked, merged)
    policy["attributes"]["created"] = before["attributes"]["created"]
    item.settings["policy"] = policy
    return policy_json(asked, item)
