"""The driver of `local:`: settings, and keys at work."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from envelope import errors
from envelope.keys import KeyAdmin, KeyResolver
from envelope.keystore import driver, records, usable
from envelope.keystore.driver import LOCAL, LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import Open


def age(keys: LocalKeys) -> None:
    """Make all files look as if they had been written long ago, so that they are cached."""
    folder = Path(keys.contents.folder.path)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    time.sleep(0.11)  # ctime cannot be set


def test_the_entry_points_name_these_drivers() -> None:
    from importlib.metadata import entry_points

    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    import tomllib

    named = tomllib.loads(pyproject.read_text())["project"]["entry-points"]["envelope.resolvers"]
    assert named["local"] == "envelope.keystore.driver:LOCAL"
    for point in entry_points(group="envelope.resolvers", name="local"):
        assert point.load() is LOCAL


def test_the_keystore_is_the_option_else_the_variable_else_the_users_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert LOCAL.settings({})["keystore"].endswith(os.path.join("envelope", "keystore"))
    monkeypatch.setenv("ENVELOPE_KEYSTORE", str(tmp_path / "variable"))
    assert LOCAL.settings({}) == {"keystore": str(tmp_path / "variable")}
    assert LOCAL.settings({"keystore": "/option"}) == {"keystore": "/option"}


def test_paths_in_settings_are_absolute_and_home_is_expanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("ENVELOPE_PASSPHRASE_FILE", "phrase")
    settings = LOCAL.settings({"keystore": Path("~/keys")})
    assert settings == {
        "keystore": "/home/someone/keys",
        "passphrase_file": str(tmp_path / "phrase"),
    }


def test_the_passphrase_itself_is_in_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "canary")
    assert "canary" not in json.dumps(LOCAL.settings({"keystore": "/k"}))


@pytest.mark.parametrize(
    "options",
    [
        {"path": "/k"},
        {"keystore": 7},
        {"protect": "none"},
        {"argon2": {"memory_kib": 1024}},
        {"argon2": {"cost": 1}},
        {"passphrase": "secret"},
    ],
)
def test_a_bad_option_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigurationError):
        LOCAL.settings(options)


def test_a_resolver_is_a_key_admin_and_its_repr_names_its_folder(plain: LocalKeys) -> None:
    assert isinstance(plain, KeyResolver)
    assert isinstance(plain, KeyAdmin)
    assert plain.metered is False
    assert plain.contents.folder.path in repr(plain)


def test_a_key_of_the_same_name_in_another_keystore_is_told_apart(open_keystore: Open) -> None:
    here, there = open_keystore("here"), open_keystore("there")
    here.create("local:lake", protect="permissions")
    kid = there.create("local:lake", protect="permissions").kid
    with pytest.raises(errors.KeyNotFound, match=f"this file's key {kid} is in another keystore"):
        here.resolve(kid)


def test_resolving_makes_neither_key_nor_keystore(open_keystore: Open, tmp_path: Path) -> None:
    keys = open_keystore("absent")
    for kid in ("local:lake", "local:lake/abc"):
        with pytest.raises(errors.KeyNotFound):
            keys.resolve(kid)
    assert list(tmp_path.iterdir()) == []
    assert keys.list_keys() == []


def test_a_key_of_another_scheme_is_refused(plain: LocalKeys) -> None:
    with pytest.raises(errors.ConfigurationError):
        plain.resolve("azurekeyvault://acme/lake")


def test_the_newest_enabled_version_wraps(plain: LocalKeys) -> None:
    first = plain.resolve("local:lake").kid
    second = plain.rotate("local:lake").kid
    assert plain.resolve("local:lake").kid == second
    plain.set_enabled(second, False)
    assert plain.resolve("local:lake").kid == first
    plain.delete(first)
    with pytest.raises(errors.KeyDisabled):
        plain.resolve("local:lake")


def test_what_another_process_disables_is_refused_by_an_open_key(
    plain: LocalKeys, open_keystore: Open
) -> None:
    key, secret = plain.resolve("local:lake"), Secret.random()
    wrapped = key.wrap(secret, aad=b"")
    age(plain)
    assert key.unwrap(wrapped, aad=b"") == secret
    assert plain.contents._keys  # it is cached, so the next step is a test of the cache
    other = open_keystore()
    other.set_enabled(key.kid, False)
    with pytest.raises(errors.KeyDisabled):
        key.unwrap(wrapped, aad=b"")
    other.set_enabled(key.kid, True)
    assert key.unwrap(wrapped, aad=b"") == secret
    other.purge(key.kid)
    with pytest.raises(errors.KeyNotFound, match="destroyed"):
        key.unwrap(wrapped, aad=b"")


def test_an_unchanged_file_is_read_once(plain: LocalKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = plain.resolve("local:lake"), Secret.random()
    age(plain)
    wrapped = key.wrap(secret, aad=b"")
    monkeypatch.setattr(plain.contents.folder, "read", None)
    for _ in range(3):
        assert key.unwrap(wrapped, aad=b"") == secret


def test_a_file_written_this_moment_is_not_cached(plain: LocalKeys) -> None:
    plain.rotate("local:lake")
    plain.resolve("local:lake")
    assert plain.contents._keys == {}


def test_dates_bound_wrapping_and_never_unwrapping(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(())

    def at(moment: str) -> None:
        for module in (driver, usable):
            monkeypatch.setattr(module, "now", lambda: moment)

    del moments
    kid = plain.create(
        "local:year", not_before="2030-01-01T00:00:00Z", expires="2031-01-01T01:00:00+01:00"
    ).kid
    key, secret = plain.resolve(kid), Secret.random()
    at("2029-12-31T23:59:59Z")
    with pytest.raises(errors.KeyNotYetValid, match="2030-01-01T00:00:00Z"):
        key.wrap(secret, aad=b"")
    at("2030-01-01T00:00:00Z")
    wrapped = key.wrap(secret, aad=b"")
    at("2031-01-01T00:00:00Z")
    with pytest.raises(errors.KeyExpired, match="2031-01-01T00:00:00Z"):
        plain.resolve("local:year").wrap(secret, aad=b"")
    assert key.unwrap(wrapped, aad=b"") == secret


def test_a_prepared_version_takes_over_at_its_start_date(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plain.resolve("local:lake").kid
    second = plain.rotate("local:lake", not_before="2100-01-01T00:00:00Z")
    assert second.newest is False
    assert plain.resolve("local:lake").kid == first
    monkeypatch.setattr(driver, "now", lambda: "2100-01-01T00:00:00Z")
    assert plain.resolve("local:lake").kid == second.kid


def test_an_expired_version_is_not_passed_over_for_an_older_one(plain: LocalKeys) -> None:
    plain.rotate("local:lake", not_before="2020-01-01T00:00:00Z", expires="2021-01-01T00:00:00Z")
    with pytest.raises(errors.KeyExpired):
        plain.resolve("local:lake").wrap(Secret.random(), aad=b"")


@pytest.mark.parametrize("kty", ["oct", "RSA"])
def test_a_key_does_only_its_operations(plain: LocalKeys, kty: str) -> None:
    bits = {"bits": 2048} if kty == "RSA" else {}
    writer = plain.resolve(plain.create("local:w", kty=kty, key_ops=["wrapKey"], **bits).kid)
    reader = plain.resolve(plain.create("local:r", kty=kty, key_ops=["unwrapKey"], **bits).kid)
    wrapped = writer.wrap(Secret.random(), aad=b"")
    with pytest.raises(errors.KeyOperationForbidden):
        writer.unwrap(wrapped, aad=b"")
    with pytest.raises(errors.KeyOperationForbidden):
        reader.wrap(Secret.random(), aad=b"")


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_an_rsa_ciphertext_is_exactly_as_long_as_the_modulus(plain: LocalKeys, bits: int) -> None:
    plain.create("local:rsa", kty="RSA", bits=bits)
    key, secret = plain.resolve("local:rsa"), Secret.random()
    wrapped = key.wrap(secret, aad=b"")
    assert (wrapped.alg, len(wrapped.encrypted_key)) == ("RSA-OAEP-256", bits // 8)
    assert key.unwrap(wrapped, aad=b"") == secret


def test_a_keystore_whose_protection_was_taken_away_is_refused_on_demand(
    plain: LocalKeys, open_keystore: Open
) -> None:
    with pytest.raises(errors.ConfigurationError, match="not protected by a passphrase"):
        open_keystore(protect="passphrase").resolve("local:lake")


def test_times_without_zone_or_sense_are_refused(plain: LocalKeys) -> None:
    for given in ("2030-01-01", "2030-01-01T00:00:00", "tomorrow", 7):
        with pytest.raises(errors.ConfigurationError):
            plain.create("local:bad", expires=given)
    with pytest.raises(errors.ConfigurationError):
        plain.create("local:bad", not_before=records.now(), expires="2020-01-01T00:00:00Z")
    assert [info.kid for info in plain.list_keys() if "bad" in info.kid] == []
