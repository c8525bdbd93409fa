"""Wycheproof's tests of the primitives, called as the sources call them.

What is tested is that this build of ``cryptography`` gives the right answers and refuses what it
must, through the very calls that the sources make: into separate buffers, with these arguments.
Files: C2SP/wycheproof, ``testvectors_v1``.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from envelope import hierarchy
from envelope.errors import Tampered
from envelope.secret import Secret
from tests.public_vectors import wycheproof


def data(test: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(test[name]) for name in names]


def name(test: dict[str, Any]) -> str:
    return f"tcId {test['tcId']}: {test['comment']}"


def test_aes_gcm_seals_into_another_buffer() -> None:
    for _, test in wycheproof("aes_gcm_test.json", keySize=256, ivSize=96, tagSize=128):
        if test["result"] != "valid":
            continue
        key, iv, aad, msg, ct, tag = data(test, "key", "iv", "aad", "msg", "ct", "tag")
        out = bytearray(16 + len(msg) + 16)  # as a segment: what is before it stays untouched
        count = AESGCM(key).encrypt_into(iv, memoryview(msg), aad, memoryview(out)[16:])
        assert count == len(msg) + 16
        assert bytes(out) == bytes(16) + ct + tag, name(test)


def test_aes_gcm_opens_into_another_buffer() -> None:
    refused = 0
    for _, test in wycheproof("aes_gcm_test.json", keySize=256, ivSize=96, tagSize=128):
        key, iv, aad, msg, ct, tag = data(test, "key", "iv", "aad", "msg", "ct", "tag")
        stored, out = memoryview(ct + tag), bytearray(len(ct) + 1)
        plain = memoryview(out)[: len(ct)]
        if test["result"] == "valid":
            assert AESGCM(key).decrypt_into(iv, stored, aad, plain) == len(msg)
            assert bytes(out) == msg + b"\0", name(test)
        else:
            refused += 1
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt_into(iv, stored, aad, plain)
    assert refused > 10


def test_aes_key_wrap_wraps_and_refuses() -> None:
    refused = 0
    for _, test in wycheproof("aes_wrap_test.json", keySize=256):
        key, msg, ct = data(test, "key", "msg", "ct")
        if test["result"] == "valid":
            assert aes_key_wrap(key, msg) == ct, name(test)
            assert aes_key_unwrap(key, ct) == msg, name(test)
        elif test["result"] == "invalid":
            refused += 1
            with pytest.raises(InvalidUnwrap):
                aes_key_unwrap(key, ct)
            with pytest.raises(Tampered):  # and our own call, whatever the length
                hierarchy.unwrap_dek(Secret(key), ct)
    assert refused > 20


def test_keys_of_32_bytes_wrap_as_wycheproof_has_it() -> None:
    done = 0
    for _, test in wycheproof("aes_wrap_test.json", keySize=256):
        key, msg, ct = data(test, "key", "msg", "ct")
        if test["result"] == "valid" and len(msg) == hierarchy.KEY_BYTES:
            done += 1
            assert hierarchy.wrap_dek(Secret(key), Secret(msg)) == ct, name(test)
            assert hierarchy.unwrap_dek(Secret(key), ct) == Secret(msg), name(test)
    assert done > 0


def test_hkdf_sha_384_expands() -> None:
    """We expand only. Wycheproof has both steps, so the extraction is done here, with HMAC."""
    done = 0
    for _, test in wycheproof("hkdf_sha384_test.json"):
        ikm, salt, info, okm = data(test, "ikm", "salt", "info", "okm")
        extract = HMAC(salt or bytes(48), SHA384())
        extract.update(ikm)
        prk = extract.finalize()
        if test["result"] == "valid":
            done += 1
            assert HKDFExpand(SHA384(), test["size"], info).derive(prk) == okm, name(test)
        else:
            with pytest.raises(ValueError, match="larger"):
                HKDFExpand(SHA384(), test["size"], info).derive(prk)
    assert done > 50


def test_expansion_from_32_bytes_is_one_block_of_hmac() -> None:
    """Wycheproof's PRK have 48 bytes and our keys 32: RFC 5869's formula, written out."""
    for _, test in wycheproof("hkdf_sha384_test.json"):
        [ikm] = data(test, "ikm")
        key = ikm[:32].ljust(32, b"\x5a")
        block = HMAC(key, SHA384())
        block.update(b"envelope/1 KEK id\x01")
        assert hierarchy.kek_id(Secret(key)) == block.finalize()[:32], name(test)


def test_hmac_sha_256_verifies_and_refuses() -> None:
    refused = 0
    for _, test in wycheproof("hmac_sha256_test.json", keySize=256, tagSize=256):
        key, msg, tag = data(test, "key", "msg", "tag")
        mac = HMAC(key, SHA256())
        mac.update(msg)
        if test["result"] == "valid":
            mac.copy().verify(tag)
            assert mac.finalize() == tag, name(test)
        else:
            refused += 1
            with pytest.raises(InvalidSignature):
                mac.verify(tag)
    assert refused > 10


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_oaep_256_unwraps_and_refuses(bits: int) -> None:
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
    tests = wycheproof(f"rsa_oaep_{bits}_sha256_mgf1sha256_test.json")
    assert len({group["privateKeyPem"] for group, _ in tests}) == 1
    key = load_pem_private_key(tests[0][0]["privateKeyPem"].encode(), None)
    assert isinstance(key, RSAPrivateKey)
    opened, refused = 0, 0
    for _, test in tests:
        msg, ct, label = data(test, "msg", "ct", "label")
        # We call it with an empty label: what was made with one is as good as forged.
        if test["result"] == "valid" and not label:
            opened += 1
            assert key.decrypt(ct, oaep) == msg, name(test)
        else:
            refused += 1
            with pytest.raises(ValueError):  # noqa: PT011 - it says only that it failed, on purpose
                key.decrypt(ct, oaep)
    assert opened > 5
    assert refused > 5
