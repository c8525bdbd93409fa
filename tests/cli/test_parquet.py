"""``envelope parquet``: what it prints, and what it does to files and folders."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

import envelope_parquet
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy
from tests.cli.conftest import Cli

PEOPLE = pa.table({"id": list(range(50)), "name": [f"person {i}" for i in range(50)]})
POLICY = ColumnPolicy(footer="local:lake", columns={"local:pii": ["name"]})
LAKE, BOTH = ("--key", "local:lake"), ("--key", "local:lake", "--key", "local:pii")


@pytest.fixture
def people(cli: Cli) -> Path:
    """An encrypted file, under two keys of a keystore."""
    for name in ("lake", "pii", "pii2"):
        cli("keys", "create", f"local:{name}", "--protect", "permissions")
    path = cli.folder / "people.parquet"
    ring = KeyRing(["local:lake", "local:pii"])
    envelope_parquet.write_table(PEOPLE, path, keys=ring, policy=POLICY)
    return path


def test_access_shows_each_column_and_why_it_does_not_open(cli: Cli, people: Path) -> None:
    said = cli("parquet", "access", "people.parquet", *LAKE)
    assert "name      local-pii   no" in said.out
    assert "ENV-UNTRUSTED" in said.out
    (found,) = cli.objects("parquet", "access", people, *LAKE, schema="parquet-access")
    assert {each["column"]: each["opens"] for each in found["columns"]} == {
        "id": True,
        "name": False,
    }
    pq.write_table(PEOPLE, cli.folder / "plain.parquet")
    (plain,) = cli.objects("parquet", "access", "plain.parquet", *LAKE, schema="parquet-access")
    assert plain["algorithm"] is None


def test_inspect_needs_no_key_and_shows_more_with_one(cli: Cli, people: Path) -> None:
    said = cli("parquet", "inspect", "people.parquet")
    assert "claims, not verified" in said.out
    assert "local-lake; local:lake/" in said.out
    assert "--prove opens it" in said.out
    said = cli("parquet", "inspect", "people.parquet", "--prove", *LAKE)
    assert "people.parquet: proven" in said.out
    assert "column name" in said.out
    for more in ((), ("--prove", *LAKE)):
        (found,) = cli.objects("parquet", "inspect", people, *more, schema="parquet-inspect")
        assert found["proven"] is bool(more)


def test_verify_names_the_bad_page_and_ends_with_4(cli: Cli, people: Path) -> None:
    said = cli("parquet", "verify", "people.parquet", *BOTH)
    assert said.out.startswith("OK  people.parquet (")
    cli("parquet", "verify", "people.parquet", *LAKE, status=3)
    (found,) = cli.objects(
        "parquet", "verify", people, "--skip-denied", *LAKE, schema="parquet-verify"
    )
    assert found["denied"] == ["name"]
    data = bytearray(people.read_bytes())
    data[40] ^= 1
    people.write_bytes(data)
    said = cli("parquet", "verify", "people.parquet", *BOTH, status=4)
    assert "of column 'id' in row group 0, at byte 4" in said.err
    pq.write_table(PEOPLE, people)
    cli("parquet", "verify", "people.parquet", *BOTH, status=4)


def test_rewrap_moves_to_new_versions_and_other_keys(cli: Cli, people: Path) -> None:
    assert "up to date" in cli("parquet", "rewrap", "people.parquet", *BOTH).out
    cli("keys", "rotate", "local:pii")
    said = cli("parquet", "rewrap", "people.parquet", *BOTH)
    assert "local-pii (name)" in said.out
    assert "refreshed local:pii/" in said.out
    (found,) = cli.objects(
        "parquet",
        "rewrap",
        people,
        "--change",
        "local:pii=local:pii2",
        *BOTH,
        schema="parquet-rewrap",
    )
    assert found["changed"]
    three = (*BOTH, "--trust", "local:pii2")
    cli("parquet", "verify", "people.parquet", *three)
    cli(
        "parquet",
        "rewrap",
        people,
        "--column",
        "name=secret",
        "--alias",
        "secret=local:pii",
        *three,
    )
    said = cli("parquet", "access", people, "--alias", "secret=local:pii", *LAKE)
    assert "secret" in said.out
    assert "no  " not in said.out
    cli("parquet", "rewrap", people, "--change", "nobody=local:pii2", *three, status=2)
    cli("parquet", "rewrap", people, "--change", "nobody", *three, status=2)


def test_folders_are_gone_through_and_what_is_no_parquet_file_is_passed_over(
    cli: Cli, people: Path
) -> None:
    lake = cli.folder / "lake"
    ring = KeyRing(["local:lake", "local:pii"])
    envelope_parquet.write_dataset(
        PEOPLE.append_column("year", pa.array([2025, 2026] * 25)),
        lake,
        keys=ring,
        policy=POLICY,
        partition_cols=["year"],
    )
    (lake / "README.txt").write_text("no Parquet")
    found = cli.objects("parquet", "verify", "-r", "lake", *BOTH, schema="parquet-verify")
    assert len(found) == 2
    # A change that fits some files only is none; one that fits no file at all is an error.
    cli("parquet", "rewrap", "-r", "lake", "--change", "nobody=local:pii2", *BOTH, status=2)
    cli("parquet", "rewrap", "-r", "lake", "--change", "local:pii=local:pii2", *BOTH)
    said = cli("parquet", "access", "-r", "lake", *LAKE)
    assert said.out.count("local-pii2  no") == 2
    cli("parquet", "rewrap", "-r", "lake", "--out", "x", *BOTH, status=2)
    assert people.exists()


def test_a_target_is_replaced_only_by_force(cli: Cli, people: Path) -> None:
    before = people.read_bytes()
    for force, status in (((), 0), ((), 2), (("--force",), 0)):
        cli("parquet", "rewrap", people, "--out", "out.parquet", *force, *BOTH, status=status)
    assert people.read_bytes() == before
    cli("parquet", "verify", "out.parquet", *BOTH, status=4)  # it is not where it was written
    cli("parquet", "verify", "out.parquet", "--anywhere", *BOTH)


@pytest.mark.usefixtures("people")
def test_adopt_takes_raw_keys_from_a_file_or_standard_input(cli: Cli) -> None:
    path, key = cli.folder / "raw.parquet", b"0123456789012345"
    pq.write_table(PEOPLE, path, encryption_properties=pe.create_encryption_properties(key))
    given = json.dumps({"": base64.b64encode(key).decode()})
    (cli.folder / "keys.json").write_text(given)
    cli("parquet", "verify", "raw.parquet", "--raw-keys", "keys.json")
    assert "a raw key" in cli("parquet", "inspect", "raw.parquet").out
    (found,) = cli.objects(
        "parquet",
        "adopt",
        path,
        "--raw-keys",
        "keys.json",
        "--footer",
        "local:lake",
        "--out",
        "adopted.parquet",
        *BOTH,
        schema="parquet-adopt",
    )
    assert found["keys"] == {"(footer)": "local-lake"}
    cli("parquet", "verify", "adopted.parquet", *LAKE)
    ended = cli.program(
        "parquet",
        "adopt",
        path,
        "--raw-keys",
        "-",
        "--footer",
        "local:lake",
        *BOTH,
        data=given.encode(),
    )
    assert ended.returncode == 0, ended.stderr
    cli("parquet", "verify", "raw.parquet", *LAKE)
    (cli.folder / "bad.json").write_text('{"": "no base64!"}')
    said = cli("parquet", "verify", "raw.parquet", "--raw-keys", "bad.json", status=2)
    assert "no base64" not in said.err


def test_help_needs_no_pyarrow_and_a_command_without_it_says_what_to_install(
    cli: Cli, people: Path
) -> None:
    program = (
        "import sys\nsys.modules['pyarrow'] = None\n"
        "from envelope.__main__ import main\n"
        "sys.argv = ['envelope', *sys.argv[1:]]\nsys.exit(main())"
    )
    (cli.folder / "bare.py").write_text(program)

    def run(*arguments: str) -> tuple[int, str]:
        said = cli.shell(f"{sys.executable} bare.py {' '.join(arguments)}")
        return said.returncode, (said.stdout + said.stderr).decode()

    status, text = run("--help")
    assert status == 0
    assert "parquet" in text
    assert run("parquet", "--help")[0] == 0
    status, text = run("parquet", "inspect", str(people))
    assert status == 2
    assert "pip install 'envelope-encryption[parquet]'" in text


NAMES = ("--footer", "local:lake", "--column", "name=local:pii", "--require", "name")


def test_a_plain_file_is_encrypted_by_column_and_decrypted(cli: Cli, people: Path) -> None:
    plain = cli.folder / "plain.parquet"
    pq.write_table(PEOPLE, plain, row_group_size=20)
    (planned,) = cli.objects(
        "parquet", "encrypt", plain, "--out", "x", "-n", *NAMES, *BOTH, schema="planned"
    )
    assert planned["target"] == "x"
    assert not (cli.folder / "x").exists()
    said = cli("parquet", "encrypt", "plain.parquet", "--out", "sealed.parquet", *NAMES, *BOTH)
    assert said.out == "plain.parquet -> sealed.parquet (50 rows)\n"
    access = envelope_parquet.access(cli.folder / "sealed.parquet", KeyRing("local:lake"))
    assert access.denied == ("name",)
    to = ("--out", "again.parquet")
    (found,) = cli.objects(
        "parquet", "decrypt", "sealed.parquet", *to, *BOTH, schema="parquet-converted"
    )
    assert (found["rows"], found["row_groups"]) == (50, 3)
    assert pq.read_table(cli.folder / "again.parquet").equals(PEOPLE)
    # An existing target, a missing key, a file of the wrong kind.
    cli("parquet", "decrypt", "sealed.parquet", *to, *BOTH, status=2)
    cli("parquet", "decrypt", "sealed.parquet", *to, "--force", *LAKE, status=3)
    assert pq.read_table(cli.folder / "again.parquet").equals(PEOPLE)
    cli("parquet", "decrypt", "plain.parquet", "--out", "y", *BOTH, status=4)
    cli("parquet", "encrypt", "sealed.parquet", "--out", "y", *NAMES, *BOTH, status=2)
    assert not (cli.folder / "y").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--out", "y"), "--footer KEY and --column PATH=KEY"),
        (("--out", "y", "--footer", "local:lake", "--column", "nobody=local:pii"), "'nobody'"),
        (("--out", "y", *NAMES, "--require", "id"), "column id is required"),
        (("--out", "y", *NAMES, "--policy", "people"), "leave the other options out"),
        (("--out", "y", "--policy", "people"), "no column policy 'people'"),
        (NAMES, "--out"),
        (("--out", "-", *NAMES), "pipe"),
    ],
)
def test_a_policy_that_does_not_fit_is_told_before_anything_is_written(
    cli: Cli, people: Path, given: tuple[str, ...], said: str
) -> None:
    pq.write_table(PEOPLE, cli.folder / "plain.parquet")
    for more in ((), ("--dry-run",)):
        result = cli("parquet", "encrypt", "plain.parquet", *given, *more, *BOTH, status=2)
        assert said in result.err
    assert not (cli.folder / "y").exists()


def test_folders_are_converted_under_their_names(cli: Cli, people: Path) -> None:
    for year in ("2024", "2025"):
        (cli.folder / "plain" / f"year={year}").mkdir(parents=True)
        pq.write_table(PEOPLE, cli.folder / "plain" / f"year={year}" / "part.parquet")
    (cli.folder / "plain" / "readme.txt").write_text("no Parquet file")
    bound = ("--bind-path", "lake")
    said = cli("parquet", "encrypt", "-r", "plain", "--out", "lake", *NAMES, *bound, *BOTH)
    assert "encrypted 2 files" in said.out
    assert sorted(path.name for path in (cli.folder / "lake").iterdir()) == [
        "year=2024",
        "year=2025",
    ]
    ring = KeyRing(["local:lake", "local:pii"])
    lake = cli.folder / "lake"
    assert len(envelope_parquet.read_table(lake, ring, root=lake)) == 100
    before = (lake / "year=2024" / "part.parquet").read_bytes()
    anew = cli("parquet", "reencrypt", "-r", "lake", "--footer", "local:pii", *bound, *BOTH)
    assert "encrypted anew 2 files" in anew.out
    assert (lake / "year=2024" / "part.parquet").read_bytes() != before
    cli("parquet", "verify", "-r", "lake", "--bind-path", "lake", "--key", "local:pii")
    cli("parquet", "reencrypt", "-r", "lake", *bound, "--key", "local:pii")
    cli("parquet", "verify", "-r", "lake", "--bind-path", "lake", "--key", "local:pii")
    cli("parquet", "decrypt", "-r", "lake", "--out", "back", "--jobs", "2", *BOTH)
    assert len(pq.read_table(cli.folder / "back" / "year=2025" / "part.parquet")) == 50
    # One that fails does not keep the others.
    (lake / "year=2024" / "part.parquet").write_bytes(b"PAR1 and no more of it PAR1")
    cli("parquet", "decrypt", "-r", "lake", "--out", "more", *BOTH, status=1)
    assert (cli.folder / "more" / "year=2025" / "part.parquet").exists()


def test_files_with_raw_keys_are_decrypted(cli: Cli, people: Path) -> None:
    properties = pe.create_encryption_properties(b"k" * 32)
    pq.write_table(PEOPLE, cli.folder / "raw.parquet", encryption_properties=properties)
    keys = {"": base64.b64encode(b"k" * 32).decode()}
    (cli.folder / "keys.json").write_text(json.dumps(keys))
    cli("parquet", "decrypt", "raw.parquet", "--out", "p.parquet", "--raw-keys", "keys.json")
    assert pq.read_table(cli.folder / "p.parquet").equals(PEOPLE)


def test_policies_and_aliases_come_from_the_configuration(cli: Cli, people: Path) -> None:
    pq.write_table(PEOPLE, cli.folder / "plain.parquet")
    (cli.folder / "envelope.toml").write_text(
        'keys = ["local:lake"]\n[parquet.aliases]\nsecret = "local:pii"\n'
        '[parquet.policies.people]\nfooter = "local:lake"\ncolumns = {secret = ["name"]}\n'
        '[parquet.policies.wrong]\nfooter = "local:lake"\ncolumn = {secret = ["name"]}\n'
        "[parquet.policies.none]\n"
    )
    config = ("--config", "envelope.toml")
    cli("parquet", "encrypt", "plain.parquet", "--out", "x", "--policy", "people", *config)
    said = cli("parquet", "access", "x", *config)
    assert "name      secret      yes" in said.out
    # Keys of options do not go with the configuration's aliases.
    assert "secret      no" in cli("parquet", "access", "x", *BOTH, *config).out
    for name in ("wrong", "none"):
        cli("parquet", "encrypt", "plain.parquet", "--out", "y", "--policy", name, status=2)
    (shown,) = cli.objects("config", "show", *config, schema="config")
    assert shown["parquet"]["aliases"] == {"secret": ["local:pii"]}
    assert "parquet" in cli("config", "show", *config).out
