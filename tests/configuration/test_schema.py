"""What may stand in a configuration, and files that attack the parser."""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope import config, schema
from envelope.errors import ConfigurationError
from tests.configuration.places import Places, refusal, write


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('kyes = "local:a"', 1, "unknown name 'kyes' [ENV-CONFIG]. Did you mean 'keys'?"),
        ('\nkeys = "local:a"\nencrypt_too = []', 3, "Did you mean 'encrypt_to'?"),
        ("[limit]\nkek_age = 1", 1, "Did you mean 'limits'?"),
        ("[loacl]", 1, "Did you mean 'local'?"),
        ("[limits]\nkek_agee = 1", 2, "Did you mean 'kek_age'?"),
        ("[limits]\nkek_age = 0", 2, "must be a number above zero"),
        ("[limits]\nkek_age = nan", 2, "kek_age"),
        ("[limits]\nkek_age = 1979-05-27", 2, "kek_age"),
        ("limits = 5", 1, "limits must be a table"),
        ("[files]\nthread = 1", 2, "Did you mean 'threads'?"),
        ("[files]\nthreads = 0", 2, "1 to 64"),
        ("[files]\nthreads = true", 2, "1 to 64"),
        ('[files]\ndurable = "no"', 2, "true or false"),
        ('[files]\nsuffix = "../x"', 2, "a dot and up to 31"),
        ('[files]\nsuffix = "env1"', 2, "a dot and up to 31"),
        ("local = 5", 1, "local must be a table"),
        ("[local]\nkeystore = 1979-05-27", 2, "local.keystore has a value of a kind"),
        ("[local]\nnumber = inf", 2, "local.number has a value of a kind"),
        ('[local]\nkeystore = ""', 2, "is not a path"),
        ('[local]\nkeystore = "~no-such-user-here/x"', 2, "is not a path"),
        ("keys = 5", 1, "keys must be text or a list"),
        ("keys = [5]", 1, "keys must be text or a list"),
        ("keys = []", 1, "no key is named"),
        ('keys = "lake"', 1, "'lake' is not a key name"),
        ('keys = "local:Lake"', 1, "'local:Lake' is not a key name"),
        ('keys = "local:a"\nrequired_context = 5', 2, "required_context must be text"),
        ('required_context = ["a"]', 1, "required_context without keys"),
        ('[aliases]\n"local:a/1" = "local:a/2"', 1, "aliases without keys"),
        ('[parquet.aliases]\npii = "local:pii"', 1, "parquet without keys"),
        ('keys = "local:a"\nparquet = 5', 2, "the tables aliases and policies"),
        ('keys = "local:a"\n[parquet.alias]\n', 2, "the tables aliases and policies"),
        ('keys = "local:a"\n[parquet.aliases]\n"a:b" = "local:a"', 2, "'a:b' cannot name a key"),
        ('keys = "local:a"\n[parquet.aliases]\nb = []', 2, "aliases.b names no key"),
        (
            'keys = "local:a"\n[parquet.aliases]\nb = "lake"',
            2,
            "aliases.b: 'lake' is not a key name",
        ),
        ('keys = "local:a"\n[parquet.policies]\nb = 1', 2, "policies.b must be a table"),
        ("[profile.a.limit]", 1, "unknown name 'profile.a.limit'"),
        ("[limits]\ndeadline = 1\n[profile.a.limits]\ndeadline = 0", 4, "above zero"),
        ("[profile.a]\nprofile = 5", 1, "unknown name 'profile.a.profile'"),
        ("profile = 5", 1, "profile must be a table"),
        ('default_profile = "prdo"\n[profile.prod]', 1, "Did you mean 'prod'?"),
        ('default_profile = "prod"', 1, "None is known here."),
    ],
)
def test_a_mistake_is_named_with_file_line_and_nearest_name(
    places: Places, text: str, line: int, said: str
) -> None:
    write(places.user, text)
    message = refusal(config.explain)
    assert message.startswith(f"{places.user}:{line}: ")
    assert said in message


def test_a_scheme_without_a_driver_is_no_section(places: Places) -> None:
    write(places.user, 'keys = "local:a"\n[nosuchvault]\nx = 1')
    assert "unknown name 'nosuchvault'" in refusal(config.resolve)


def test_paths_are_relative_to_their_file_and_know_the_home(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    write(
        places.named,
        'encrypt_to = ["public:./keys/a.pem", "public:~/b.pem", "public:/c.pem"]\n'
        '[local]\nkeystore = "~/keys"\npassphrase_file = "../secret"\nname = "~/as-it-is"',
    )
    found = config.resolve(os.path.relpath(places.named))
    folder = places.named.parent
    assert found["encrypt_to"] == [
        f"public:{folder}/keys/a.pem",
        "public:/home/someone/b.pem",
        "public:/c.pem",
    ]
    assert found["settings"]["local"] == {
        "keystore": "/home/someone/keys",
        "passphrase_file": f"{folder.parent}/secret",
        "name": "~/as-it-is",
    }


def test_a_public_half_among_keys_is_only_encrypted_to(places: Places) -> None:
    write(places.user, 'keys = ["local:a", "public:/b.pem"]')
    found = config.resolve()
    assert found["encrypt_to"] == ["local:a", "public:/b.pem"]
    assert found["decrypt_with"] == ["local:a"]


def test_a_path_in_the_environment_wins_over_the_file(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, 'keys = "local:a"\n[local]\nkeystore = "/file"\npassphrase_prompt = "x"')
    monkeypatch.setenv("ENVELOPE_KEYSTORE", "from-environment")
    monkeypatch.setenv("ENVELOPE_PASSPHRASE_PROMPT", "a setting that is no path stays")
    found = config.explain()
    assert found.result["settings"]["local"] == {
        "keystore": str(places.work / "from-environment"),
        "passphrase_prompt": "x",
    }
    assert found.origins["local.keystore"] == "ENVELOPE_KEYSTORE"


def test_a_passphrase_in_the_environment_never_enters_the_configuration(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, 'keys = "local:a"\n[local]\npassphrase = "in the file"')
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "canary-in-the-environment")
    assert "canary" not in json.dumps(config.explain().to_json())


def test_a_key_that_is_spelt_twice_counts_once(places: Places) -> None:
    write(
        places.user,
        'keys = ["azurekeyvault://acme/lake", "https://ACME.vault.azure.net:443/keys/lake/"]',
    )
    assert config.resolve()["encrypt_to"] == ["azurekeyvault://acme/lake"]


# --- Files that are attacks on the parser ---------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# \xff", ":1: it is not UTF-8"),
        (b'keys = "local:a"\n\n# \xed\xa0\x80', ":3: it is not UTF-8"),
        ('keys = "local:a"'.encode("utf-16"), "it is not UTF-8"),
        (b"\xef\xbb\xbfkeys = 'local:a'", "it is not TOML"),
        (b"keys = ", "it is not TOML"),
        (b"a\x00b", "it is not TOML"),
        (b'"' + b"a" * 10**6 + b'" = 1', "unknown name 'aaaa"),
        (b'keys = "' + b"a" * 10**6 + b'"', "'aaaa"),
        (b"#" * 2**20 + b"\n", "larger than 1048576 bytes"),
        (b"a = " + b"[" * 200_000, "nested too deeply"),
        (b"a = " + b"{a=" * 200_000, "nested too deeply"),
        (b".".join([b"a"] * 400_000) + b" = 1", "more than 64 dots"),
        (b'"=".' + b".".join([b"a"] * 400_000) + b" = 1", "more than 64 dots"),
        (b"[limits]\nkek_files = " + b"9" * 500_000, "it is not TOML"),
        (b'keys = "local:a"\nkeys = "local:b"', "it is not TOML"),
        (b"keys.a = 1\n[keys]\nb = 2", "it is not TOML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_configuration_is_refused_in_bounded_time(
    places: Places, data: bytes, said: str
) -> None:
    places.user.write_bytes(data)
    message = refusal(config.explain)
    assert said in message
    assert str(places.user) in message
    assert len(message) < 1000


def test_a_comment_may_have_as_many_dots_as_it_likes(places: Places) -> None:
    write(places.user, f'  # {"." * 80}\nkeys = "local:a"')
    assert config.resolve()["encrypt_to"] == ["local:a"]


def test_a_file_of_exactly_the_largest_size_is_read(places: Places) -> None:
    text = 'keys = "local:a"\n'
    write(places.user, text + "#" * (2**20 - len(text)))
    assert config.resolve()["encrypt_to"] == ["local:a"]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "a\0b", "."])
def test_what_is_no_regular_file_is_no_configuration(places: Places, path: str) -> None:
    assert "[ENV-CONFIG]" in refusal(config.resolve, path)


plain = st.text(max_size=12) | st.integers(-9, 9) | st.booleans()
names = st.sampled_from(["keys", "encrypt_to", "limits", "local", "files", "profile", "kek_age"])
shapes = st.recursive(
    plain | st.lists(plain, max_size=3),
    lambda inner: st.dictionaries(names | st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(names, shapes, max_size=4))
def test_any_shape_of_values_is_either_understood_or_a_configuration_error(
    content: dict[str, Any],
) -> None:
    try:
        text = toml_of(content)
        tomllib.loads(text)
    except (ConfigurationError, ValueError):
        return
    try:
        found = schema.parse(text, "/folder/envelope.toml")
    except ConfigurationError as error:
        assert error.message.startswith("/folder/envelope.toml")  # noqa: PT017  both ends are right
    else:
        assert found.path == "/folder/envelope.toml"


def toml_of(content: dict[str, Any]) -> str:
    """Inline tables, which the library itself never writes."""

    def value(given: Any) -> str:
        if isinstance(given, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in given.items()) + "}"
        if isinstance(given, list):
            return "[" + ", ".join(map(value, given)) + "]"
        return json.dumps(given).replace("\x7f", "\\u007f")

    return "\n".join(f"{name} = {value(given)}" for name, given in content.items())
