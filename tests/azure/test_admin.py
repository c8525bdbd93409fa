"""`envelope keys …` on a vault, as on the embedded keystore."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import envelope
from envelope.cli.app import run
from tests.azure.conftest import Azure


def shell(*arguments: str) -> int:
    return run(["--quiet", *arguments])


def answers(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_key_lives_its_whole_life(
    azure: Azure,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    key = azure.key()
    Path("plain").write_bytes(b"flights")

    made = answers(capsys, "keys", "create", key)[0]
    assert (made["alg"], made["bits"], made["state"]) == ("RSA-OAEP-256", 3072, "enabled")
    assert shell("keys", "create", key) == 2  # never a second time
    assert shell("encrypt", "plain", "--key", key, "--out", "sealed") == 0
    assert shell("keys", "rotate", key) == 0
    azure.restart()
    assert shell("rewrap", "sealed", "--key", key) == 0
    listed = answers(capsys, "keys", "list", key)
    assert [info["newest"] for info in listed] == [False, True]
    assert [kid for kid, _ in envelope.inspect("sealed").recipients] == [listed[1]["kid"]]

    old = str(listed[0]["kid"])
    assert shell("keys", "disable", old, "--yes") == 0
    assert answers(capsys, "keys", "show", old)[0]["state"] == "disabled"
    azure.restart()
    assert shell("decrypt", "sealed", "--key", key, "--out", "back") == 0
    assert Path("back").read_bytes() == b"flights"
    assert shell("keys", "enable", old, "--yes") == 0

    assert shell("keys", "delete", key, "--yes") == 0
    assert answers(capsys, "keys", "list", key)[0]["state"] == "deleted"
    azure.restart()
    assert shell("decrypt", "sealed", "--key", key, "--out", "again") == 3
    assert not Path("again").exists()
    assert shell("keys", "recover", key, "--yes") == 0
    azure.restart()
    assert shell("decrypt", "sealed", "--key", key, "--out", "again") == 0

    assert shell("keys", "backup", key, "--out", "lake.backup") == 0
    assert shell("keys", "delete", key, "--yes") == 0
    assert shell("keys", "purge", key, "--yes") == 0
    azure.restart()
    assert shell("verify", "sealed", "--key", key) == 5
    assert shell("keys", "restore", "lake.backup", key) == 0
    azure.restart()
    assert shell("verify", "sealed", "--key", key) == 0


def test_a_public_half_is_a_key_for_producers(azure: Azure, tmp_path: Path) -> None:
    key, pem = azure.key("inbox"), tmp_path / "inbox.pem"
    assert shell("keys", "create", key) == 0
    assert shell("keys", "public", key, "--out", str(pem)) == 0
    before = len(azure.operations())
    sealed = envelope.encrypt(b"report", keys=envelope.KeyRing(encrypt_to=f"public:{pem}"))
    assert len(azure.operations()) == before  # without the vault
    assert envelope.decrypt(sealed, keys=key) == b"report"


def test_a_key_of_ones_own_is_taken_in(azure: Azure, tmp_path: Path) -> None:
    own = rsa.generate_private_key(65537, 2048)
    file = tmp_path / "own.pem"
    file.write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert shell("keys", "import", azure.key("byok"), str(file)) == 0
    fetched = azure.client().get_key("byok").key
    assert int.from_bytes(fetched.n) == own.public_key().public_numbers().n
    sealed = envelope.encrypt(b"x", keys=azure.key("byok"))
    assert envelope.decrypt(sealed, keys=azure.key("byok")) == b"x"


@pytest.mark.parametrize("command", ["rotate", "delete", "recover", "purge"])
def test_a_vault_does_not_touch_single_versions(
    azure: Azure, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = azure.client().create_rsa_key("lake", size=2048)
    arguments = ["--yes"] if command in ("delete", "recover", "purge") else []
    assert shell("keys", command, made.id, *arguments) == 2
    assert "single versions" in capsys.readouterr().err


def test_all_keys_of_a_vault_are_listed(azure: Azure, capsys: pytest.CaptureFixture[str]) -> None:
    client = azure.client()
    for index in range(30):  # more than one page
        client.create_rsa_key(f"k{index:02}", size=2048)
    found = answers(capsys, "keys", "list", f"azurekeyvault://{azure.host}/*")
    assert len(found) == 30
