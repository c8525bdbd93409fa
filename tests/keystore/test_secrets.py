"""No key and no passphrase shows in a repr, a log, an error, a pickle, or a file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from envelope import errors, events
from envelope.keys import WrappedKey
from envelope.keystore import backup, passphrase, upkeep
from envelope.keystore.driver import LOCAL, LocalKeys
from envelope.secret import Secret
from envelope.testing.conformance import spelled, told
from tests.keystore.conftest import PASSPHRASE, Open

BACKUP = "another canary for the backup"


def canaries(keys: LocalKeys) -> list[Secret]:
    """All that is secret in a keystore: material, the keystore key, passphrases."""
    from envelope import runtime

    found = [
        version.material
        for key in keys.contents.all_keys()
        for version in key.versions
        if version.material
    ]
    opened = runtime.current().state(passphrase._Unlocked).keys.values()
    return [*found, *opened, Secret(PASSPHRASE.encode()), Secret(BACKUP.encode())]


def leaked(text: str, secrets: list[Secret]) -> list[int]:
    return [
        number
        for number, secret in enumerate(secrets)
        if any(spelling in text for spelling in spelled(secret))
    ]


def test_the_search_finds_what_it_should() -> None:
    secret = Secret.random()
    for text in (repr(secret.reveal()), secret.reveal().hex(), f"x{list(secret.reveal())}y"):
        assert leaked(f"so {text} it is", [Secret.random(), secret]) == [1]

    def careless(key: bytes) -> None:
        raise errors.KeyMismatch("oh")

    with pytest.raises(errors.KeyMismatch) as caught:
        careless(secret.reveal())
    assert leaked(told(caught.value), [secret]) == [0]


FAILURES: dict[str, Callable[[LocalKeys], object]] = {
    "a mismatch": lambda keys: keys.resolve("local:lake").unwrap(
        WrappedKey("x", "A256KW", bytes(40)), aad=b""
    ),
    "an RSA mismatch": lambda keys: keys.resolve("local:rsa").unwrap(
        WrappedKey("x", "RSA-OAEP-256", bytes(256)), aad=b""
    ),
    "a key of a bad length": lambda keys: keys.resolve("local:lake").wrap(
        Secret(bytes(17)), aad=b""
    ),
    "a missing key": lambda keys: keys.resolve("local:missing"),
    "a key made twice": lambda keys: keys.create("local:lake"),
    "bad material": lambda keys: keys.import_key("local:x", Secret(PASSPHRASE.encode())),
    "a bad backup": lambda keys: keys.restore(b"{}", Secret(BACKUP.encode())),
    "a backup's passphrase": lambda keys: keys.restore(
        keys.backup(None, Secret(PASSPHRASE.encode())), Secret(BACKUP.encode())
    ),
    "a changed file": lambda keys: corrupted(keys, lambda text: text.replace("enabled", "deleted")),
    "a cut file": lambda keys: corrupted(keys, lambda text: text[:-20]),
    "a bad member": lambda keys: corrupted(keys, lambda text: text.replace('"bits":', '"bots":')),
    "other versions": lambda keys: corrupted(keys, lambda text: text.replace('"versions"', '"v"')),
    "other material": lambda keys: corrupted(keys, lambda text: text.replace('"material"', '"m"')),
    "another value": lambda keys: corrupted(
        keys, lambda text: text.replace('"value"', '"w"').replace('"ciphertext"', '"c"')
    ),
    "a list": lambda keys: corrupted(keys, lambda text: f"[{text.strip()}]\n"),
    "another format": lambda keys: corrupted(
        keys, lambda text: text.replace('"envelope_key":1', '"envelope_key":2')
    ),
    "a duplicate": lambda keys: corrupted(keys, lambda text: text.replace('"use"', '"kty"')),
    "a bad character": lambda keys: corrupted(
        keys, lambda text: text.replace('"value":"', '"value":"~').replace('"iv":"', '"iv":"~')
    ),
}


def corrupted(keys: LocalKeys, change: Callable[[str], str]) -> object:
    path = Path(keys.contents.folder.path) / "lake.key.json"
    path.write_text(change(path.read_text()))
    return keys.resolve("local:lake").wrap(Secret.random(), aad=b"")


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("protection", ["plain", "protected"])
def test_no_error_tells_a_secret(
    name: str, protection: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    keys: LocalKeys = request.getfixturevalue(protection)
    keys.create("local:rsa", kty="RSA", bits=2048)
    secrets = canaries(keys)
    with pytest.raises(errors.EnvelopeError) as caught:
        FAILURES[name](keys)
    assert leaked(told(caught.value) + caplog.text, secrets) == []


@pytest.mark.parametrize(
    "old", ['"versions"', '"material"', '"name"', '"use"', '"keys"', '"bits":', '"value":"']
)
def test_a_malformed_backup_that_its_passphrase_opens_tells_no_secret(
    plain: LocalKeys, open_keystore: Open, monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    new = {
        '"versions"': '"v"',
        '"material"': '"m"',
        '"name"': '"n"',
        '"use"': '"kty"',
        '"keys"': '"keyz"',
        '"bits":': '"bots":',
        '"value":"': '"value":"~',
    }
    content = backup._content
    monkeypatch.setattr(
        backup,
        "_content",
        lambda *given: Secret(content(*given).reveal().replace(old.encode(), new[old].encode())),
    )
    blob = plain.backup(None, Secret(BACKUP.encode()))
    with pytest.raises(errors.IntegrityError) as caught:
        open_keystore("there").restore(blob, Secret(BACKUP.encode()))
    assert leaked(told(caught.value), canaries(plain)) == []


@pytest.mark.parametrize("source", ["environment", "file", "command", "bad command", "given"])
def test_a_wrong_passphrase_is_not_told(
    protected: LocalKeys,
    open_keystore: Open,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
) -> None:
    passphrase.forget()
    options: dict[str, object] = {}
    wrong = "wrong " + BACKUP
    if source == "environment":
        monkeypatch.setenv("ENVELOPE_PASSPHRASE", wrong)
    elif source == "given":
        passphrase.provide(Secret(wrong.encode()))
    elif source == "file":
        (tmp_path / "phrase").write_text(wrong)
        options["passphrase_file"] = str(tmp_path / "phrase")
    else:
        (tmp_path / "phrase").write_text(wrong)
        script = f"cat {tmp_path}/phrase; exit {int(source == 'bad command')}"
        options["passphrase_command"] = ["sh", "-c", script]
    with pytest.raises(errors.EnvelopeError) as caught:
        open_keystore(**options).resolve("local:lake")
    # This test's own frame holds `wrong`; what is looked at starts below it.
    caught.value.__traceback__ = caught.tb.tb_next
    assert leaked(told(caught.value), [Secret(wrong.encode())]) == []


def test_nothing_secret_is_in_objects_events_and_logs(
    protected: LocalKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    seen: list[str] = []
    unsubscribe = events.subscribe(lambda event: seen.append(json.dumps(events.to_json(event))))
    protected.create("local:rsa", kty="RSA", bits=2048)
    master = protected.resolve("local:lake")
    master.unwrap(master.wrap(Secret.random(), aad=b""), aad=b"")
    protected.rotate("local:lake")
    protected.backup(None, Secret(BACKUP.encode()))
    findings = upkeep.examine(protected.contents.settings)
    unsubscribe()
    key = protected.contents.require("lake")
    things = [protected, protected.contents, master, key, key.versions[0], findings, LOCAL]
    things += [protected.contents.head(), protected.list_keys(), protected.contents._seals]
    text = " ".join([*map(repr, things), *map(str, things), *seen, caplog.text])
    assert leaked(text, canaries(protected)) == []


def test_what_pickles_holds_no_secret_and_what_holds_one_does_not_pickle(
    protected: LocalKeys,
) -> None:
    data = pickle.dumps((protected.contents.settings, protected.list_keys()))
    assert leaked(repr(data), canaries(protected)) == []
    for thing in (protected.contents.require("lake"), protected.contents._opened()):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_no_file_of_a_protected_keystore_holds_a_secret(
    protected: LocalKeys, tmp_path: Path
) -> None:
    protected.create("local:rsa", kty="RSA", bits=2048)
    upkeep.add_passphrase(protected.contents.settings, Secret(BACKUP.encode()))
    (tmp_path / "backup").write_bytes(protected.backup(None, Secret(BACKUP.encode())))
    (tmp_path / "public").write_bytes(protected.public("local:rsa"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            text = path.read_text() + repr(path.read_bytes())
            assert leaked(text, canaries(protected)) == [], path.name
