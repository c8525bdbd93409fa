"""docs/keystore.md is enough: a reader written from it alone opens what the keystore writes."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from envelope.keystore import upkeep
from envelope.keystore.driver import LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import PASSPHRASE, Open

ROOT = Path(__file__).resolve().parents[2]


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def joined(*parts: object) -> bytes:
    return "\n".join(map(str, parts)).encode()


def kdf(key: bytes, label: str) -> bytes:
    return HKDFExpand(hashes.SHA384(), 32, label.encode()).derive(key)


def stretched(passphrase: bytes, holder: dict[str, Any]) -> bytes:
    return Argon2id(
        salt=unb64u(holder["salt"]),
        length=32,
        iterations=holder["iterations"],
        lanes=holder["lanes"],
        memory_cost=holder["memory_kib"],
    ).derive(passphrase)


def bound(holder: dict[str, Any]) -> tuple[object, ...]:
    return tuple(holder[name] for name in ("kdf", "memory_kib", "iterations", "lanes", "salt"))


def read_keystore(folder: Path, passphrase: bytes) -> dict[str, bytes]:
    """Material by kid."""
    head = json.loads((folder / "keystore.json").read_bytes())
    slot = head["slots"][0]
    keystore_key = AESGCM(stretched(passphrase, slot)).decrypt(
        unb64u(slot["iv"]),
        unb64u(slot["encrypted_key"]),
        joined("envelope keystore/1 slot", head["id"], *bound(slot)),
    )
    found = {}
    for path in folder.glob("*.json"):
        stored = path.read_bytes()
        document = json.loads(stored)
        before, _, mac = stored.rpartition(b',"mac":"')
        covered = joined("envelope keystore/1 file", head["id"], path.name) + b"\n" + before
        want = hmac.digest(kdf(keystore_key, "envelope keystore/1 mac"), covered, "sha256")
        assert unb64u(mac.decode().removesuffix('"}\n')) == want
        for version in document.get("versions", []):
            kid = f"local:{document['name']}/{version['version']}"
            found[kid] = AESGCM(kdf(keystore_key, "envelope keystore/1 material")).decrypt(
                unb64u(version["material"]["iv"]),
                unb64u(version["material"]["ciphertext"]),
                joined(
                    "envelope keystore/1 material",
                    head["id"],
                    kid,
                    version["kty"],
                    version["alg"],
                    version["bits"],
                    version["use"],
                    ",".join(version["key_ops"]),
                ),
            )
    return found


def test_another_program_opens_a_protected_keystore(protected: LocalKeys) -> None:
    protected.create("local:rsa", kty="RSA", bits=2048)
    upkeep.add_passphrase(protected.contents.settings, Secret(b"second"))
    secret = Secret.random()
    aes = protected.resolve("local:lake").wrap(secret, aad=b"")
    rsa = protected.resolve("local:rsa").wrap(secret, aad=b"")
    material = read_keystore(Path(protected.contents.folder.path), PASSPHRASE.encode())
    assert keywrap.aes_key_unwrap(material[aes.kid], aes.encrypted_key) == secret.reveal()
    private = serialization.load_der_private_key(material[rsa.kid], None)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    assert private.decrypt(rsa.encrypted_key, oaep) == secret.reveal()  # type: ignore[union-attr]


def test_another_program_opens_a_backup(plain: LocalKeys) -> None:
    blob = json.loads(plain.backup(None, Secret(b"phrase")))
    aad = joined("envelope keystore/1 backup", blob["keystore"], blob["created"], *bound(blob))
    key = stretched(b"phrase", blob)
    content = json.loads(AESGCM(key).decrypt(unb64u(blob["iv"]), unb64u(blob["ciphertext"]), aad))
    assert content["protect"] == "permissions"
    (version,) = content["keys"][0]["versions"]
    here = plain.contents.require("lake").versions[0]
    assert f"local:{content['keys'][0]['name']}/{version['version']}" == here.kid
    assert here.material == Secret(unb64u(version["material"]["value"]))


@pytest.mark.parametrize("protect", ["permissions", "passphrase"])
def test_every_member_that_is_written_is_documented(
    open_keystore: Open, monkeypatch: pytest.MonkeyPatch, protect: str
) -> None:
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", PASSPHRASE)
    keys = open_keystore()
    keys.create("local:lake", protect=protect, note="x", expires="2100-01-01T00:00:00Z")
    keys.rotate("local:lake", not_before="2090-01-01T00:00:00Z")
    blob = keys.backup(None, Secret(b"x"))
    keys.delete("local:lake")
    text = (ROOT / "docs" / "keystore.md").read_text()
    folder = Path(keys.contents.folder.path)
    documents = [json.loads(blob), *(json.loads(p.read_text()) for p in folder.glob("*.json"))]

    def members(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(members, value.values()))
        return set().union(*map(members, value)) if isinstance(value, list) else set()

    written = members(documents)
    assert {"before", "backed_up", "expires", "not_before", "note"} <= written
    assert {name for name in written if f'"{name}"' not in text} == set()


def test_the_parameters_and_sizes_in_the_document_are_those_of_the_code() -> None:
    from envelope.keystore import store
    from envelope.keystore.slots import Argon2

    text = (ROOT / "docs" / "keystore.md").read_text()
    default = Argon2()
    mib = default.memory_kib // 1024
    assert f"{mib} MiB, t = {default.iterations}, p = {default.lanes}" in text
    assert f"at most {store._LOCK_SECONDS:.0f} seconds" in text
    Argon2(19 * 1024, 2, 1)  # the floor
    Argon2(2**20, 16, 16)  # the ceiling
