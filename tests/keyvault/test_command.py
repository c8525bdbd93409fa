"""``envelope testing keyvault``: the local Key Vault for programs in any language."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from envelope.cli.app import run
from envelope_testing.keyvault import VARIABLES

PROGRAM = [sys.executable, "-m", "envelope", "testing", "keyvault"]
MAKES_A_KEY = textwrap.dedent(
    """
    import sys
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.keys import KeyClient
    with DefaultAzureCredential() as credential, KeyClient(sys.argv[1], credential) as client:
        make = client.create_oct_key if "managedhsm" in sys.argv[1] else client.create_rsa_key
        print(make("lake", size=256 if "managedhsm" in sys.argv[1] else 2048).id)
    """
)


def started(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until_unset(process: subprocess.Popen[str]) -> list[str]:
    """The lines that it prints for a shell; the last one unsets."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("unset "):
            break
    return lines


def test_what_it_prints_leads_a_shells_programs_to_its_vaults(tmp_path: Path) -> None:
    with started("--vault", "acme", "--vault", "lake.managedhsm.azure.net") as process:
        try:
            lines = until_unset(process)
            script = tmp_path / "keyvault.env"
            script.write_text("\n".join(lines) + "\n")
            for url in ("https://acme.vault.azure.net", "https://lake.managedhsm.azure.net"):
                command = [sys.executable, "-c", MAKES_A_KEY, url]
                shell = f". {shlex.quote(str(script))}; exec {shlex.join(command)}"
                ran = subprocess.run(["sh", "-c", shell], capture_output=True, check=True)
                assert ran.stdout.decode().startswith(f"{url}/keys/lake/")
        finally:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "serving https://acme.vault.azure.net, https://lake.managedhsm.azure.net" in err
    assert process.returncode == 130


def test_what_it_prints_covers_every_variable() -> None:
    with started() as process:
        try:
            *exports, unset = until_unset(process)
        finally:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    named = [line.removeprefix("export ").partition("=")[0] for line in exports]
    assert sorted([*named, *unset.split()[1:]]) == sorted(VARIABLES)
    assert process.returncode == 143


def test_its_files_are_gone_when_it_was_told_to_end() -> None:
    with started() as process:
        try:
            lines = until_unset(process)
            bundle = next(line for line in lines if line.startswith("export SSL_CERT_FILE="))
            path = Path(shlex.split(bundle.partition("=")[2])[0])
            assert path.read_text().startswith("-----BEGIN CERTIFICATE-----")
        finally:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert not path.parent.exists()


def test_as_json_it_prints_one_object() -> None:
    with started("--vault", "acme", "--json", "--principal", "reader") as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert said["vaults"] == ["https://acme.vault.azure.net"]
    assert set(said["environment"]) | set(said["unset"]) == set(VARIABLES)


def test_it_runs_a_program_and_ends_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_USERNAME", "somebody")
    show = (
        "import os, sys; "
        "sys.exit(7 if os.environ['HTTPS_PROXY'].startswith('http://127.0.0.1:') "
        "and 'AZURE_USERNAME' not in os.environ and os.environ['NO_PROXY'] == '' else 1)"
    )
    assert run(["testing", "keyvault", "--", sys.executable, "-c", show]) == 7
    assert os.environ["AZURE_USERNAME"] == "somebody"


def test_a_program_that_a_signal_ended_is_told_as_a_shell_tells_it() -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(["testing", "keyvault", "--", sys.executable, "-c", kill]) == 137


def test_a_program_uses_a_vault_under_each_credential(capfd: pytest.CaptureFixture[str]) -> None:
    url = "https://acme.vault.azure.net"
    for kind in ("client-secret", "certificate", "workload-identity"):
        options = ["--vault", "acme", "--credential", kind, "--"]
        assert run(["testing", "keyvault", *options, sys.executable, "-c", MAKES_A_KEY, url]) == 0
        assert capfd.readouterr().out.startswith(f"{url}/keys/lake/")


def test_a_program_that_is_not_there_is_a_mistake(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["testing", "keyvault", "--", "no-such-program-anywhere"]) == 2
    assert "no-such-program-anywhere" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["", ".vault.azure.net"])
def test_a_vault_needs_a_name(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["testing", "keyvault", "--vault", name, "--", "true"]) == 2
    assert "no name of a vault" in capfd.readouterr().err


def test_help_shows_examples(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["testing", "keyvault", "--help"]) == 0
    assert "envelope testing keyvault --vault acme" in capfd.readouterr().out


def test_the_command_says_which_extra_is_missing() -> None:
    program = textwrap.dedent(
        """
        import sys
        sys.modules["starlette"] = None  # as if it were not installed
        from envelope.cli.app import run
        sys.exit(run(["testing", "keyvault", "--", "true"]))
        """
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ran.returncode == 2
    assert b'pip install "envelope-encryption[testing]"' in ran.stderr


def test_the_plugin_and_the_command_line_import_no_server() -> None:
    program = (
        "import sys, envelope_testing.pytest_plugin, envelope_testing.commands; "
        "print([name for name in ('starlette', 'uvicorn', 'azure', 'jwt') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"
