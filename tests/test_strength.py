"""How strong master keys are, and which recipient is the weakest."""

from __future__ import annotations

import pytest

from envelope import strength
from envelope.keys import WrappedKey


@pytest.mark.parametrize(
    ("alg", "bits", "expected"),
    [
        ("RSA-OAEP-256", 1024, 80),
        ("RSA-OAEP-256", 2048, 112),
        ("RSA-OAEP-256", 3071, 112),
        ("RSA-OAEP-256", 3072, 128),
        ("RSA-OAEP-256", 4096, 152),
        ("RSA-OAEP-256", 7680, 192),
        ("PS256", 3072, 128),
        ("ES256", 256, 128),
        ("A256KW", 256, 256),
        ("A256GCM", 256, 256),
        ("CKM_AES_KEY_WRAP", 0, None),
        ("none", 256, None),
    ],
)
def test_a_key_has_the_strength_that_nist_gives_it(
    alg: str, bits: int, expected: int | None
) -> None:
    assert strength.of_key(alg, bits) == expected


@pytest.mark.parametrize(
    ("alg", "length", "expected"),
    [
        ("RSA-OAEP-256", 256, 112),
        ("RSA-OAEP-256", 384, 128),
        ("A256KW", 40, 256),
        ("A256GCM", 32, 256),
        ("CKM_AES_KEY_WRAP_PAD", 40, None),
        ("later", 40, None),
    ],
)
def test_a_recipient_tells_its_keys_strength(alg: str, length: int, expected: int | None) -> None:
    assert strength.of_recipient(WrappedKey("local:lake/1", alg, bytes(length))) == expected


def test_the_weakest_is_named_only_among_unlike_ones() -> None:
    assert strength.least([]) is None
    assert strength.least([("a", 112)]) is None
    assert strength.least([("a", 128), ("b", 128)]) is None
    assert strength.least([("a", 128), ("b", None)]) is None
    assert strength.least([("a", 256), ("b", 112), ("c", None), ("d", 128)]) == ("b", 112)
