"""Options become settings: complete, stable, and without a secret."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from envelope.errors import ConfigurationError
from envelope.ring import KeyRing
from envelope_azure.settings import CREDENTIALS, checked


@pytest.mark.parametrize("credential", [*CREDENTIALS, ["workload-identity", "azure-cli"]])
def test_settings_are_json_and_settle_at_once(credential: Any) -> None:
    settings = checked({"credential": credential, "tenant_id": "t", "ca_file": "corp.pem"})
    assert json.loads(json.dumps(settings)) == settings == checked(settings)
    assert settings["ca_file"] == os.path.abspath("corp.pem")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_secret": "hunter2"}, "would be a secret"),
        ({"tennant_id": "x"}, "Did you mean tenant_id"),
        ({"credential": "magic"}, "no credential 'magic'"),
        ({"credential": []}, "a list of names"),
        ({"wrap": "elsewhere"}, "wrap"),
        ({"tenant_id": 7}, "must be a text"),
        ({"additionally_allowed_tenants": "*"}, "list of texts"),
        ({"private_hosts": {"kv.corp": "corp"}}, "suffix"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_be_right(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        checked(options)
    assert "hunter2" not in str(caught.value)


def test_a_ring_describes_its_credential_and_makes_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
    options = {"azurekeyvault": {"credential": "managed-identity", "client_id": "abc"}}
    ring = KeyRing("azurekeyvault://acme/lake", settings=options)
    assert '"credential":"managed-identity"' in repr(ring)
    assert repr(ring) != repr(KeyRing("azurekeyvault://acme/lake"))
    assert KeyRing.from_config(ring.to_config()) == ring
