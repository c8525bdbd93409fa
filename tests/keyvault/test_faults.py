"""What goes wrong on purpose, as the vendor's client sees it."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.keyvault.keys import KeyClient

from tests.keyvault.inprocess import Lab, refusal


@pytest.fixture
def keys(lab: Lab) -> KeyClient:
    keys = lab.keys(lab.vault())
    keys.create_ec_key("signer")
    lab.world.calls.clear()
    return keys


def test_a_status_is_answered_as_often_as_was_asked(lab: Lab, keys: KeyClient) -> None:
    lab.world.faults.add(status=503, times=2, retry_after=7)
    for _ in range(2):
        with pytest.raises(HttpResponseError) as caught:
            keys.get_key("signer")
        assert caught.value.status_code == 503
        assert caught.value.response is not None
        assert caught.value.response.headers["Retry-After"] == "7"
    assert keys.get_key("signer").name == "signer"
    assert [call.error for call in lab.world.calls] == ["ServiceUnavailable"] * 2 + [None]


def test_a_fault_can_speak_for_itself(lab: Lab, keys: KeyClient) -> None:
    lab.world.faults.add(status=400, code="Odd", message="because")
    assert refusal(lambda: keys.get_key("signer")) == (400, "Odd", None, "because")


def test_a_fault_strikes_the_operation_and_the_host_that_it_is_for(
    lab: Lab, keys: KeyClient
) -> None:
    lab.world.faults.add(operation="list_keys", status=500, times=None)
    lab.world.faults.add(host="other.vault.azure.net", status=500, times=None)
    keys.get_key("signer")
    assert refusal(lambda: list(keys.list_properties_of_keys()))[0] == 500
    assert refusal(lambda: lab.keys(lab.vault("other")).get_key("signer"))[0] == 500
    lab.world.faults.clear()
    assert [one.name for one in keys.list_properties_of_keys()] == ["signer"]


def test_a_challenge_uses_up_no_fault(lab: Lab) -> None:
    lab.world.faults.add(status=500)
    keys = lab.keys(lab.vault("fresh"))
    assert refusal(lambda: keys.get_key("signer"))[0] == 500
    assert [call.status for call in lab.world.calls] == [401, 500]


def test_a_dropped_connection_is_no_answer(lab: Lab, keys: KeyClient) -> None:
    lab.world.faults.add(drop=True)
    with pytest.raises(ServiceRequestError):
        keys.get_key("signer")
    assert [(call.status, call.error) for call in lab.world.calls] == [(0, "ConnectionDropped")]
    assert keys.get_key("signer").name == "signer"


def test_a_slow_call_is_done_after_the_wait(
    lab: Lab, keys: KeyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    lab.world.faults.add(latency=0.25)
    lab.world.faults.add(hang=30, status=504)
    with pytest.raises(HttpResponseError, match="fault"):
        keys.get_key("signer")
    assert keys.get_key("signer").name == "signer"
    assert waits == [0.25, 30]
