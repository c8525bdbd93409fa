"""sign_with and require_signed in the configuration: they belong to the keys beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from envelope import config
from envelope.errors import ConfigurationError
from envelope.ring import KeyRing
from tests.configuration.places import Places, write
from tests.memory_driver import installed
from tests.memory_signers import SigningDriver

FILE = """
keys = "local:lake"
sign_with = "local:signer"
require_signed = ["local:signer", "public:signer.pem"]
[profile.strict]
decrypt_with = "local:lake"
require_signed = "local:signer/v1"
[profile.loose]
keys = "local:lake"
[profile.quick.limits]
deadline = 1
"""


def test_signers_are_read_with_the_path_of_a_file_made_absolute(places: Places) -> None:
    write(places.user, FILE)
    found = config.resolve()
    assert found["sign_with"] == "local:signer"
    assert found["require_signed"] == ["local:signer", f"public:{places.user.parent}/signer.pem"]


def test_a_ring_of_the_configuration_signs_and_requires(places: Places) -> None:
    write(places.user, 'keys = "local:lake"\nsign_with = "local:s"\nrequire_signed = "local:s"')
    with installed(SigningDriver(), "local"):
        ring = KeyRing.load()
        assert (ring.sign_with, ring.require_signed) == ("local:s", ("local:s",))


@pytest.mark.parametrize(
    ("profile", "sign_with", "count"), [("strict", None, 1), ("loose", None, 0), ("quick", "", 2)]
)
def test_signers_go_with_the_keys_of_their_profile_and_are_never_merged(
    places: Places, profile: str, sign_with: str | None, count: int
) -> None:
    write(places.user, FILE)
    found = config.resolve(profile=profile)
    assert found.get("sign_with") == ("local:signer" if sign_with == "" else None)
    assert len(found.get("require_signed", ())) == count


def test_another_source_of_keys_brings_its_own_signers_or_none(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, FILE)
    monkeypatch.setenv("ENVELOPE_KEYS", "local:lake")
    assert "require_signed" not in config.resolve()
    given: dict[str, Any] = {"decrypt_with": ["local:lake"], "require_signed": ["local:s"]}
    monkeypatch.setenv("ENVELOPE_KEYS", json.dumps(given))
    found = config.resolve()
    assert found["require_signed"] == ["local:s"]
    assert "sign_with" not in found


def test_the_origin_of_signers_is_told(places: Places) -> None:
    write(places.user, FILE)
    found = config.explain()
    assert found.origins["require_signed"] == found.origins["sign_with"] == str(places.user)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('keys = "local:a"\nrequire_signed = []', "names no signer"),
        ('keys = "local:a"\nrequire_signed = 5', "require_signed must be text"),
        ('keys = "local:a"\nrequire_signed = "signer"', "not a key name"),
        ('keys = "local:a"\nsign_with = ["local:s"]', "name of one key"),
        ('keys = "local:a"\nsign_with = "signer"', "not a key name"),
        ('keys = "local:a"\nrequired_signed = "local:s"', "Did you mean 'require_signed'?"),
        ('require_signed = "local:s"', "without keys"),
        ('sign_with = "local:s"', "without keys"),
    ],
)
def test_a_mistake_is_an_error_and_never_less_protection(
    places: Places, text: str, said: str
) -> None:
    write(places.user, text)
    with pytest.raises(ConfigurationError) as caught:
        config.resolve()
    assert said in str(caught.value)


def test_a_written_configuration_reads_back(places: Places) -> None:
    mapping = {"keys": ["local:a"], "sign_with": "local:s", "require_signed": ["local:s"]}
    config.write_new(places.user, mapping)
    found = config.resolve()
    assert (found["sign_with"], found["require_signed"]) == ("local:s", ["local:s"])
    assert "proves who wrote" in places.user.read_text()
