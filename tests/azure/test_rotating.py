"""`envelope keys rotation-policy`, and what it brings about in a vault whose clock moves."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import pytest
from azure.keyvault.keys import KeyRotationPolicyAction

import envelope
from envelope.cli.app import run
from envelope.ring import KeyRing
from tests.azure.conftest import Azure
from tests.azure.test_admin import answers, shell
from tests.cli.conftest import check

DAY = 86400


@pytest.fixture
def pass_days(azure: Azure) -> Iterator[Callable[[int], None]]:
    """Let days go by in the vault, and come back at the end: the world is one for all tests."""
    passed = 0

    def go(days: int) -> None:
        nonlocal passed
        passed += days
        azure.local.world.clock.advance(days * DAY)
        time.sleep(0.01)  # past the `refresh` of those who look often

    yield go
    azure.local.world.clock.advance(-passed * DAY)


def kids(value: bytes) -> list[str]:
    return [kid for kid, _ in envelope.inspect(io.BytesIO(value)).recipients]


def test_a_policy_rotates_the_key_and_new_files_follow_after_refresh(
    azure: Azure, pass_days: Callable[[int], None]
) -> None:
    first = azure.client().create_rsa_key("lake", size=2048)
    assert shell("keys", "rotation-policy", azure.key(), "--rotate-after", "P30D") == 0
    looks_often = KeyRing(azure.key(), limits={"refresh": 0.001})
    looks_later = KeyRing(azure.key())
    before = envelope.encrypt(b"before", keys=looks_often)
    assert kids(before) == kids(envelope.encrypt(b"x", keys=looks_later)) == [first.id]

    pass_days(29)
    assert kids(envelope.encrypt(b"x", keys=looks_often)) == [first.id]
    pass_days(2)
    after = envelope.encrypt(b"after", keys=looks_often)
    second = azure.client().get_key("lake")
    assert second.id != first.id
    assert kids(after) == [second.id]
    assert kids(envelope.encrypt(b"x", keys=looks_later)) == [first.id]  # refresh is 15 minutes
    azure.restart()
    reader = KeyRing(decrypt_with=azure.key())
    assert [envelope.decrypt(value, keys=reader) for value in (before, after)] == [
        b"before",
        b"after",
    ]


def test_a_version_that_a_policy_let_expire_goes_on_unwrapping(
    azure: Azure, pass_days: Callable[[int], None]
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    options = ["--rotate-before-expiry", "P30D", "--expires-in", "P90D"]
    assert shell("keys", "rotation-policy", azure.key(), *options) == 0
    assert shell("keys", "rotate", azure.key()) == 0
    value = envelope.encrypt(b"x", keys=azure.key())
    pass_days(61)
    assert kids(value) != [azure.client().get_key("lake").id]
    pass_days(30)  # and now the version that wrapped is past its end
    azure.restart()
    assert envelope.decrypt(value, keys=azure.key()) == b"x"


def test_a_policy_is_shown_and_changed_rule_by_rule(
    azure: Azure, capsys: pytest.CaptureFixture[str]
) -> None:
    client = azure.client()
    client.create_rsa_key("lake", size=2048)
    command = ["keys", "rotation-policy", azure.key()]

    [shown] = answers(capsys, *command)
    check(shown, "rotation-policy")
    assert (shown["rotate_after"], shown["notify_before_expiry"]) == (None, "P30D")

    [told] = answers(capsys, *command, "--rotate-after", "P18M", "--expires-in", "P2Y")
    check(told, "rotation-policy")
    assert (told["rotate_after"], told["expires_in"]) == ("P18M", "P2Y")
    assert str(told["next"]) > str(client.get_key("lake").properties.created_on.date())
    [told] = answers(capsys, *command, "--notify-before-expiry", "P10D")
    assert (told["rotate_after"], told["notify_before_expiry"]) == ("P18M", "P10D")

    policy = client.get_key_rotation_policy("lake")  # what the vendor's own client sees of it
    assert policy.expires_in == "P2Y"
    actions = {one.action: one for one in policy.lifetime_actions}
    assert actions[KeyRotationPolicyAction.rotate].time_after_create == "P18M"
    assert actions[KeyRotationPolicyAction.notify].time_before_expiry == "P10D"

    assert run([*command, "--rotate-after", "never"]) == 0
    assert "rotates       never" in capsys.readouterr().out
    assert KeyRotationPolicyAction.rotate not in {
        one.action for one in client.get_key_rotation_policy("lake").lifetime_actions
    }


def test_a_rule_that_can_never_come_true_is_told(
    azure: Azure, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.client().create_rsa_key("lake", size=2048)  # without an end date
    command = ["keys", "rotation-policy", azure.key()]
    assert run([*command, "--rotate-before-expiry", "P30D", "--expires-in", "P90D"]) == 0
    assert "never rotates by itself" in capsys.readouterr().err
    assert shell("keys", "rotate", azure.key()) == 0
    assert run(command) == 0
    said = capsys.readouterr()
    assert "P30D before a version expires; next about 20" in said.out
    assert "never" not in said.err


def test_a_policy_that_the_vault_would_refuse_is_not_sent(
    azure: Azure, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    before = len(azure.operations())
    assert shell("keys", "rotation-policy", azure.key(), "--expires-in", "P7D") == 2
    assert "P28D or more" in capsys.readouterr().err
    assert azure.operations()[before:] == ["get_rotation_policy"]


def test_keys_of_a_managed_hsm_have_policies_too(
    azure: Azure, capsys: pytest.CaptureFixture[str]
) -> None:
    hsm = azure.local.vault(f"{azure.vault.name}-hsm", suffix="managedhsm.azure.net")
    azure.client(hsm.host).create_oct_key("lake", size=256)
    command = ["keys", "rotation-policy", f"azurekeyvault://{hsm.host}/lake"]
    [told] = answers(capsys, *command, "--rotate-after", "P1Y")
    assert told["rotate_after"] == "P1Y"
    assert shell(*command, "--rotate-after", "P20D") == 2


def test_what_may_not_be_done_is_denied_and_what_may_not_be_seen_left_out(
    azure: Azure, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    azure.vault.rbac = False
    person = azure.become(f"officer-{azure.vault.name}")
    azure.vault.set_policy(person, keys=["getrotationpolicy"])
    command = ["keys", "rotation-policy", azure.key()]
    assert shell(*command) == 0
    assert shell(*command, "--rotate-after", "P90D") == 3
    azure.vault.set_policy(person, keys=["getrotationpolicy", "setrotationpolicy"])
    [told] = answers(capsys, *command, "--rotate-after", "P90D")
    assert (told["rotate_after"], told["next"]) == ("P90D", None)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("azurekeyvault-certificate://{host}/web", "certificate's own policy"),
        ("azurekeyvault-secret://{host}/shared", "cannot be managed"),
        ("azurekeyvault://{host}/*", "single versions"),
        ("local:lake", "do not rotate by themselves"),
    ],
)
def test_what_has_no_policy_says_what_to_do_instead(
    azure: Azure, key: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell("keys", "rotation-policy", key.format(host=azure.host)) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 2  # with a next step
