"""The frozen files of tests/vectors, read by both readers, in each way there is to read."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key

import envelope
from envelope import errors, resolvers
from envelope.jose import b64u_decode
from envelope.keys import KeyResolver, MasterKey, PublicHalf, SigningKey, WrappedKey
from envelope.secret import Secret
from tests.independent_reader import Refused, read, read_pipe
from tests.vectors import generate, scene

FOLDER = Path(generate.FOLDER)
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
VECTORS: list[dict[str, Any]] = MANIFEST["vectors"]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))


def data_of(vector: Mapping[str, Any]) -> bytes:
    return Path(FOLDER, vector["file"]).read_bytes()


def public_key(name: str) -> Any:
    return load_der_public_key(b64u_decode(MANIFEST["signers"][name]["spki"], "spki"))


def answer(run: Callable[[], bytes]) -> dict[str, Any]:
    """What a reader says, as the manifest would have it; the step where it tells."""
    try:
        plaintext = run()
    except Refused as refused:
        return {"error": refused.error, "step": refused.step}
    except errors.EnvelopeError as error:
        return {"error": type(error).__name__}
    digest = hashlib.sha256(plaintext).hexdigest()
    return {"plaintext": {"size": len(plaintext), "sha256": digest}}


def expected(vector: Mapping[str, Any], *, pipe: bool, step: bool) -> dict[str, Any]:
    names = {"plaintext", "error", "step"} if step else {"plaintext", "error"}
    told = {**vector, **vector.get("pipe", {})} if pipe else vector
    return {name: value for name, value in told.items() if name in names}


# --- The independent reader ---------------------------------------------------------------------


@each_vector
@pytest.mark.parametrize("pipe", [False, True], ids=["file", "pipe"])
def test_the_independent_reader_does_as_the_manifest_says(
    vector: Mapping[str, Any], pipe: bool
) -> None:
    material = {
        name: scene.rsa_key() if "pem" in key else bytes.fromhex(key["key"])
        for name, key in MANIFEST["keys"].items()
    }
    keys = {MANIFEST["keys"][name]["kid"]: material[name] for name in vector["keys"]}
    keks = [bytes.fromhex(kek) for kek in vector.get("keks", [])]
    how = {name: vector[name] for name in ("context", "required") if name in vector}
    if "signers" in vector:
        how["signers"] = {
            MANIFEST["signers"][name]["kid"]: public_key(name) for name in vector["signers"]
        }

    def run() -> bytes:
        pieces = read_pipe(data_of(vector), keys, keks=keks, **how) if pipe else None
        return b"".join(pieces) if pieces else read(data_of(vector), keys, keks=keks, **how)

    assert answer(run) == expected(vector, pipe=pipe, step=True), vector["what"]


# --- envelope -----------------------------------------------------------------------------------


class FixedKey:
    """A master key of the manifest."""

    def __init__(self, kid: str, alg: str, key: bytes | RSAPrivateKey) -> None:
        self.kid, self.alg, self._key = kid, alg, key

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:
        raise NotImplementedError("these tests only read")

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:
        try:
            if self.alg == "A256GCM":
                return self._unwrap_gcm(wrapped, aad)
            if self.alg == "CKM_AES_KEY_WRAP_PAD":
                assert isinstance(self._key, bytes)
                return Secret(aes_key_unwrap_with_padding(self._key, wrapped.encrypted_key))
            if isinstance(self._key, bytes):
                return Secret(aes_key_unwrap(self._key, wrapped.encrypted_key))
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
            return Secret(self._key.decrypt(wrapped.encrypted_key, oaep))
        except (InvalidUnwrap, InvalidTag, KeyError, ValueError):
            raise errors.KeyMismatch("no wrapped key of this key", kid=self.kid) from None

    def _unwrap_gcm(self, wrapped: WrappedKey, aad: bytes) -> Secret:
        assert isinstance(self._key, bytes)
        iv, tag = (b64u_decode(wrapped.params[name], name) for name in ("iv", "tag"))
        if (len(iv), len(tag)) != (12, 16):
            raise ValueError("lengths of A256GCM")
        return Secret(AESGCM(self._key).decrypt(iv, wrapped.encrypted_key + tag, aad))


class FixedKeys:
    """Driver and resolver of the keys in the manifest, under the names that they have there."""

    metered = False

    def __init__(self) -> None:
        self._keys = {
            key["kid"]: FixedKey(
                key["kid"],
                key["alg"],
                scene.rsa_key() if "pem" in key else bytes.fromhex(key["key"]),
            )
            for key in MANIFEST["keys"].values()
        }

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    def resolver(self, settings: Mapping[str, Any]) -> KeyResolver:
        return self

    def signer(self, kid: str) -> SigningKey:
        raise NotImplementedError("these tests only read")

    def public_half(self, kid: str) -> PublicHalf:
        for signer in MANIFEST["signers"].values():
            if signer["kid"] == kid:
                return PublicHalf(kid, b64u_decode(signer["spki"], "spki"))
        raise errors.KeyNotFound("no such signer", kid=kid)

    def resolve(self, kid: str) -> MasterKey:
        if kid not in self._keys:
            raise errors.KeyNotFound("no such key", kid=kid)
        return self._keys[kid]


@pytest.fixture(autouse=True)
def _fixed_keys() -> Iterator[None]:
    undo = resolvers.register("local", FixedKeys())
    yield
    undo()


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces, without size and position."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._rest.readinto(memoryview(buffer)[:1000])


def with_decrypt(vector: Mapping[str, Any], ring: Any, context: Any, folder: Path) -> bytes:
    return envelope.decrypt(data_of(vector), keys=ring, context=context)


def with_open(vector: Mapping[str, Any], ring: Any, context: Any, folder: Path) -> bytes:
    with envelope.open(FOLDER / vector["file"], keys=ring, context=context) as stream:
        return bytes(stream.read())


def with_open_pipe(vector: Mapping[str, Any], ring: Any, context: Any, folder: Path) -> bytes:
    pipe = cast(BinaryIO, Pipe(data_of(vector)))
    with envelope.open(pipe, keys=ring, context=context) as stream:
        return bytes(stream.read())


def with_decrypt_file(vector: Mapping[str, Any], ring: Any, context: Any, folder: Path) -> bytes:
    target = folder / "plaintext"
    try:
        envelope.decrypt_file(FOLDER / vector["file"], target, keys=ring, context=context)
    except BaseException:
        assert list(folder.iterdir()) == [], "a refused file leaves something behind"
        raise
    return target.read_bytes()


@each_vector
@pytest.mark.parametrize("way", [with_decrypt, with_open, with_open_pipe, with_decrypt_file])
def test_envelope_does_as_the_manifest_says(
    vector: Mapping[str, Any], way: Callable[..., bytes], tmp_path: Path
) -> None:
    names = vector["keys"] or ["lake"]  # a key ring has one at least
    kids = [MANIFEST["keys"][name]["kid"] for name in names]
    ring = envelope.KeyRing(
        decrypt_with=kids,
        required_context=vector.get("required", ()),
        require_signed=[MANIFEST["signers"][name]["kid"] for name in vector.get("signers", ())]
        or None,
        # A configuration of its own, or the files' common KEK would be in the cache already.
        settings={"local": {"about": f"{way.__name__} {vector['name']}"}},
    )
    wanted = expected(vector, pipe=way is with_open_pipe, step=False)
    if "without_keyset" in vector:  # this release has no keysets
        wanted = {"error": vector["without_keyset"]}

    def run() -> bytes:
        return way(vector, ring, vector.get("context"), tmp_path)

    assert answer(run) == wanted, vector["what"]


# --- The files themselves -----------------------------------------------------------------------


def test_the_frozen_files_are_those_that_the_generator_writes() -> None:
    stored = {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in [*FOLDER.glob("*/*.env1"), FOLDER / "manifest.json"]
    }
    made = generate.generate()
    assert sorted(stored) == sorted(made)
    assert [name for name in stored if stored[name] != made[name]] == []


def test_every_check_of_a_reader_has_a_bad_file() -> None:
    assert {vector["step"] for vector in VECTORS if "step" in vector} == set(range(1, 13))


def test_every_error_has_its_code() -> None:
    for vector in VECTORS:
        if "error" in vector:
            assert getattr(errors, vector["error"]).code == vector["code"]


def test_good_and_bad_files_differ_from_each_other() -> None:
    digests = [hashlib.sha256(data_of(vector)).digest() for vector in VECTORS]
    same = {d for d in digests if digests.count(d) > 1}
    twice = {v["name"] for v, digest in zip(VECTORS, digests, strict=True) if digest in same}
    assert {name for name in twice if not name.startswith("context-")} == set()
