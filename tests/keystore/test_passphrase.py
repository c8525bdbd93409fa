"""Where passphrases come from, and what Argon2id may cost."""

from __future__ import annotations

import getpass
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envelope import errors
from envelope.keystore import passphrase
from envelope.keystore.driver import LOCAL, LocalKeys
from envelope.keystore.slots import Argon2
from envelope.secret import Secret
from tests.keystore.conftest import PASSPHRASE, Open


def found(**options: object) -> bytes:
    return passphrase.find(LOCAL.settings({"keystore": "/k", **options})).reveal()


def test_sources_are_asked_in_the_documents_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "phrase").write_text("from a file\n")
    (tmp_path / "phrase").chmod(0o600)
    options = {"passphrase_command": ["printf", "from a command\nnot this"]}
    assert found(**options) == b"from a command"
    monkeypatch.setenv("ENVELOPE_PASSPHRASE_FILE", str(tmp_path / "phrase"))
    assert found(**options) == b"from a file"
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "from the environment")
    assert found(**options) == b"from the environment"
    passphrase.provide(Secret(b"given to all"))
    assert found(**options) == b"given to all"
    passphrase.provide(Secret(b"given to one"), "/k")
    assert found(**options) == b"given to one"
    passphrase.forget("/k")
    assert found(**options) == b"given to all"


def test_without_a_source_and_a_terminal_it_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda _: pytest.fail("asked without a terminal"))
    with pytest.raises(errors.ConfigurationError, match="needs a passphrase") as caught:
        found()
    assert "ENVELOPE_PASSPHRASE" in caught.value.next_step


def test_on_a_terminal_it_asks_and_twice_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["once", "new", "new", "new", "knew"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda _: answers.pop(0))
    settings = LOCAL.settings({"keystore": "/k"})
    assert passphrase.find(settings).reveal() == b"once"
    assert passphrase.find(settings, new=True).reveal() == b"new"
    with pytest.raises(errors.ConfigurationError, match="differ"):
        passphrase.find(settings, new=True)


def test_a_closed_terminal_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", closed)
    with pytest.raises(errors.ConfigurationError):
        found()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (b"plain\n", b"plain"),
        (b"windows\r\n", b"windows"),
        (b"two\n\n", b"two\n"),
        (b" spaces stay ", b" spaces stay "),
        ("e\u0301".encode(), "é".encode()),
        (b"\xff\xfe\n", b"\xff\xfe"),
    ],
)
def test_a_passphrase_is_normalised(given: bytes, used: bytes) -> None:
    assert passphrase.normalised(Secret(given)).reveal() == used


def test_an_empty_passphrase_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "")
    with pytest.raises(errors.ConfigurationError, match="empty"):
        found()


@pytest.mark.parametrize(
    "command",
    [["false"], "no-such-program-anywhere", ["sh", "-c", "echo canary; exit 3"], ["true"]],
)
def test_a_command_that_gives_nothing_is_a_configuration_error(command: object) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        found(passphrase_command=command)
    assert "canary" not in str(caught.value)


def test_a_command_runs_without_a_shell(tmp_path: Path) -> None:
    assert found(passphrase_command=f"echo $HOME; touch {tmp_path}/made").startswith(b"$HOME;")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_passphrase_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="cannot be read"):
        found(passphrase_file=str(tmp_path / "missing"))


def test_a_passphrase_file_that_others_can_read_is_told(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "phrase").write_text("x")
    (tmp_path / "phrase").chmod(0o644)
    assert found(passphrase_file=str(tmp_path / "phrase")) == b"x"
    assert any("passphrase file" in text for text in notices)


@pytest.mark.parametrize(
    "given",
    [
        {"memory_kib": 19455},
        {"memory_kib": 2**20 + 1},
        {"iterations": 1},
        {"iterations": 17},
        {"lanes": 0},
        {"lanes": 17},
        {"lanes": True},
        {"iterations": "3"},
    ],
)
def test_parameters_are_bounded_both_ways(given: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigurationError):
        Argon2.from_options(given)
    whole = {"kdf": "argon2id", **Argon2().__dict__, **given}
    with pytest.raises(errors.Malformed):
        Argon2.from_json(whole, "a slot")


def test_the_default_is_rfc_9106s_second_recommendation() -> None:
    assert (Argon2().memory_kib, Argon2().iterations, Argon2().lanes) == (64 * 1024, 3, 4)
    assert Argon2.from_options(None) == Argon2.from_options({}) == Argon2()


def test_argon2id_runs_once_for_all_threads_resolvers_and_keys(
    protected: LocalKeys, open_keystore: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    derive = Argon2.derive
    monkeypatch.setattr(
        Argon2, "derive", lambda self, *given: runs.append(1) or derive(self, *given)
    )
    protected.create("local:second")
    assert runs == []  # making the keystore unlocked it
    passphrase.forget()
    passphrase.provide(Secret(PASSPHRASE.encode()))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: open_keystore().resolve("local:lake"), range(16)))
    open_keystore().resolve("local:second")
    assert len(runs) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_stays_unlocked(protected: LocalKeys, open_keystore: Open) -> None:
    passphrase.forget()
    passphrase.provide(Secret(PASSPHRASE.encode()))
    protected.resolve("local:lake")
    child = os.fork()
    if child == 0:
        try:
            passphrase.provide(Secret(b"wrong"))
            open_keystore().resolve("local:lake")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_wrong_passphrase_is_access_denied_and_no_other_source_is_tried(
    protected: LocalKeys, monkeypatch: pytest.MonkeyPatch, open_keystore: Open
) -> None:
    passphrase.forget()
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "wrong")
    right = open_keystore(passphrase_command=["printf", PASSPHRASE])
    with pytest.raises(errors.AccessDenied):
        right.resolve("local:lake")
    monkeypatch.delenv("ENVELOPE_PASSPHRASE")
    right.resolve("local:lake")
