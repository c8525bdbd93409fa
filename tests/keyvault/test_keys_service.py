"""Keys as the vendor's own client sees them: made, read, changed, listed, deleted, restored."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.keyvault.keys import ApiVersion, JsonWebKey, KeyClient, KeyReleasePolicy
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.keyvault.inprocess import Lab, refusal

DAY = 86400


@pytest.fixture
def keys(lab: Lab) -> KeyClient:
    return lab.keys(lab.vault())


def jwk_of(private: rsa.RSAPrivateKey) -> JsonWebKey:
    numbers = private.private_numbers()
    public = numbers.public_numbers

    def raw(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8)

    return JsonWebKey(
        kty="RSA",
        n=raw(public.n),
        e=raw(public.e),
        d=raw(numbers.d),
        p=raw(numbers.p),
        q=raw(numbers.q),
        dp=raw(numbers.dmp1),
        dq=raw(numbers.dmq1),
        qi=raw(numbers.iqmp),
    )


@pytest.mark.parametrize(("hsm", "kty"), [(False, "RSA"), (True, "RSA-HSM")])
def test_an_rsa_key_is_made_and_shows_its_public_half_alone(
    keys: KeyClient, hsm: bool, kty: str
) -> None:
    made = keys.create_rsa_key("lake", size=2048, hardware_protected=hsm, tags={"a": "b"})
    assert made.key_type == kty
    assert made.id == f"https://acme.vault.azure.net/keys/lake/{made.properties.version}"
    assert len(made.key.n) == 256
    assert (made.key.d, made.key.p, made.key.k) == (None, None, None)
    assert made.properties.tags == {"a": "b"}
    assert set(made.key_operations) == {
        "encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey",
    }  # fmt: skip
    assert keys.get_key("lake").key.n == made.key.n


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_rsa_keys_have_the_size_that_was_asked_for(keys: KeyClient, size: int) -> None:
    assert len(keys.create_rsa_key("lake", size=size).key.n) == size // 8


@pytest.mark.parametrize(
    ("curve", "size"), [("P-256", 32), ("P-384", 48), ("P-521", 66), ("P-256K", 32)]
)
def test_ec_keys_are_on_the_curve_that_was_asked_for(
    keys: KeyClient, curve: str, size: int
) -> None:
    made = keys.create_ec_key("signer", curve=curve)
    assert (made.key.crv, len(made.key.x), len(made.key.y)) == (curve, size, size)
    assert made.key_operations == ["sign", "verify"]


def test_a_vault_has_no_symmetric_keys(keys: KeyClient) -> None:
    assert refusal(lambda: keys.create_oct_key("lake"))[:2] == (400, "BadParameter")


def test_a_key_of_no_known_size_is_refused_and_leaves_no_name_behind(keys: KeyClient) -> None:
    assert refusal(lambda: keys.create_rsa_key("lake", size=1024))[:2] == (400, "BadParameter")
    assert list(keys.list_properties_of_keys()) == []


def test_names_do_not_differ_by_letter_case(keys: KeyClient) -> None:
    made = keys.create_ec_key("Lake")
    assert keys.get_key("lAKE").id == made.id


def test_a_new_version_is_the_one_that_the_bare_name_means(keys: KeyClient) -> None:
    first, second = keys.create_ec_key("signer"), keys.create_ec_key("signer")
    assert keys.get_key("signer").id == second.id
    assert keys.get_key("signer", first.properties.version).key.x == first.key.x
    versions = keys.list_properties_of_key_versions("signer")
    assert [one.id for one in versions] == [first.id, second.id]


def test_rotation_on_demand_makes_a_like_version(keys: KeyClient) -> None:
    first = keys.create_rsa_key("lake", size=3072, tags={"a": "b"}, key_operations=["wrapKey"])
    second = keys.rotate_key("lake")
    assert second.properties.version != first.properties.version
    assert second.key.n != first.key.n
    assert len(second.key.n) == 384
    assert (second.properties.tags, second.key_operations) == ({"a": "b"}, ["wrapKey"])


def test_a_missing_key_and_a_missing_version_are_not_found(keys: KeyClient) -> None:
    keys.create_ec_key("signer")
    for call in (lambda: keys.get_key("nope"), lambda: keys.get_key("signer", "0" * 32)):
        with pytest.raises(ResourceNotFoundError) as caught:
            call()
        assert caught.value.error is not None
        assert caught.value.error.code == "KeyNotFound"


def test_an_update_changes_one_version_alone(keys: KeyClient) -> None:
    first = keys.create_ec_key("signer")
    keys.create_ec_key("signer")
    until = datetime(2099, 1, 2, tzinfo=UTC)
    changed = keys.update_key_properties(
        "signer",
        first.properties.version,
        enabled=False,
        expires_on=until,
        tags={"x": "y"},
        key_operations=["verify"],
    )
    assert (changed.properties.enabled, changed.properties.expires_on) == (False, until)
    assert (changed.properties.tags, changed.key_operations) == ({"x": "y"}, ["verify"])
    newest = keys.get_key("signer")
    assert (newest.properties.enabled, newest.properties.expires_on) == (True, None)


def test_a_key_that_would_expire_before_it_is_valid_is_refused(keys: KeyClient) -> None:
    now = datetime.now(UTC)
    call = lambda: keys.create_ec_key("k", not_before=now, expires_on=now - timedelta(days=1))  # noqa: E731
    assert refusal(call)[:2] == (400, "BadParameter")
    assert list(keys.list_properties_of_keys()) == []


def test_long_lists_come_in_pages(lab: Lab, keys: KeyClient) -> None:
    names = sorted(f"key-{number:02}" for number in range(60))
    for name in names:
        keys.create_ec_key(name) if name == names[0] else lab.copy_key("acme", names[0], name)
    lab.world.calls.clear()
    assert [one.name for one in keys.list_properties_of_keys()] == names
    assert lab.log() == ["list_keys"] * 3
    pages = keys.list_properties_of_keys(max_page_size=7).by_page()
    assert [one.name for one in next(pages)] == names[:7]


def test_a_page_cannot_be_larger_than_the_service_allows(keys: KeyClient) -> None:
    call = lambda: list(keys.list_properties_of_keys(max_page_size=26))  # noqa: E731
    assert refusal(call)[:2] == (400, "BadParameter")


def test_a_deleted_key_is_kept_can_be_recovered_and_blocks_its_name(
    lab: Lab, keys: KeyClient
) -> None:
    made = keys.create_ec_key("signer")
    poller = keys.begin_delete_key("signer")
    gone = poller.result()
    poller.wait()
    assert gone.recovery_id == "https://acme.vault.azure.net/deletedkeys/signer"
    assert gone.scheduled_purge_date - gone.deleted_date == timedelta(days=90)
    assert [one.name for one in keys.list_deleted_keys()] == ["signer"]
    with pytest.raises(ResourceNotFoundError):
        keys.get_key("signer")
    with pytest.raises(ResourceExistsError) as caught:
        keys.create_ec_key("signer")
    assert caught.value.error is not None
    assert caught.value.error.innererror == {"code": "ObjectIsDeletedButRecoverable"}
    keys.begin_recover_deleted_key("signer").wait()
    assert keys.get_key("signer").id == made.id
    with pytest.raises(ResourceNotFoundError):
        keys.get_deleted_key("signer")


def test_a_deleted_key_is_purged_on_request(keys: KeyClient) -> None:
    keys.create_ec_key("signer")
    keys.begin_delete_key("signer").wait()
    keys.purge_deleted_key("signer")
    assert list(keys.list_deleted_keys()) == []
    keys.create_ec_key("signer")


def test_purge_protection_holds_until_the_days_are_over(lab: Lab) -> None:
    vault = lab.vault("locked")
    vault.purge_protection, vault.soft_delete_days = True, 7
    keys = lab.keys(vault)
    keys.create_ec_key("signer")
    keys.begin_delete_key("signer").wait()
    assert keys.get_deleted_key("signer").properties.recovery_level == "CustomizedRecoverable"
    assert refusal(lambda: keys.purge_deleted_key("signer"))[0] == 403
    lab.world.clock.advance(7 * DAY - 60)
    assert keys.get_deleted_key("signer").name == "signer"
    lab.world.clock.advance(120)
    with pytest.raises(ResourceNotFoundError):
        keys.get_deleted_key("signer")
    keys.create_ec_key("signer")


def test_a_backup_brings_all_versions_back_after_a_purge(lab: Lab, keys: KeyClient) -> None:
    first, second = keys.create_ec_key("signer"), keys.create_ec_key("signer")
    blob = keys.backup_key("signer")
    with pytest.raises(ResourceExistsError):
        keys.restore_key_backup(blob)
    keys.begin_delete_key("signer").wait()
    with pytest.raises(ResourceExistsError):
        keys.restore_key_backup(blob)
    keys.purge_deleted_key("signer")
    assert keys.restore_key_backup(blob).id == second.id
    assert keys.get_key("signer", first.properties.version).key.x == first.key.x
    elsewhere = lab.keys(lab.vault("other")).restore_key_backup(blob)
    assert elsewhere.id == second.id.replace("acme", "other")


def test_a_backup_holds_no_key_and_opens_in_no_other_cloud(lab: Lab, keys: KeyClient) -> None:
    keys.create_ec_key("signer")
    blob = keys.backup_key("signer")
    china = lab.keys(lab.vault("acme", suffix="vault.azure.cn"))
    for client, value in ((china, blob), (keys, blob[:-1] + bytes([blob[-1] ^ 1]))):
        found = refusal(lambda c=client, v=value: c.restore_key_backup(v))
        assert found[:2] == (400, "BadParameter")


def test_a_key_of_ones_own_is_imported(lab: Lab, keys: KeyClient) -> None:
    private = rsa.generate_private_key(65537, 2048)
    made = keys.import_key("mine", jwk_of(private))
    assert int.from_bytes(made.key.n) == private.public_key().public_numbers().n
    wrapped = lab.crypto(made.id).wrap_key("RSA-OAEP-256", b"k" * 32)
    assert lab.crypto(made.id).unwrap_key("RSA-OAEP-256", wrapped.encrypted_key).key == b"k" * 32


def test_an_ec_key_of_ones_own_is_imported(keys: KeyClient) -> None:
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = numbers.public_numbers
    jwk = JsonWebKey(
        kty="EC",
        crv="P-256",
        x=point.x.to_bytes(32),
        y=point.y.to_bytes(32),
        d=numbers.private_value.to_bytes(32),
    )
    assert keys.import_key("mine", jwk).key.x == jwk.x
    jwk.y = secrets.token_bytes(32)
    assert refusal(lambda: keys.import_key("bad", jwk))[:2] == (400, "BadParameter")


def test_an_exportable_key_needs_a_policy_and_is_released_to_nobody(keys: KeyClient) -> None:
    assert refusal(lambda: keys.create_rsa_key("k", exportable=True))[:2] == (400, "BadParameter")
    policy = KeyReleasePolicy(b'{"version":"1.0.0"}')
    made = keys.create_rsa_key("k", hardware_protected=True, exportable=True, release_policy=policy)
    assert made.properties.exportable
    assert made.properties.release_policy.encoded_policy == policy.encoded_policy
    status, _, _, message = refusal(lambda: keys.release_key("k", "not.an.attestation"))
    assert (status, "attestation" in message) == (400, True)
    keys.create_rsa_key("plain", size=2048)
    found = refusal(lambda: keys.release_key("plain", "not.an.attestation"))
    assert found[:3] == (403, "Forbidden", "KeyOperationForbidden")


def test_random_bytes_are_a_managed_hsms(lab: Lab, keys: KeyClient) -> None:
    assert refusal(lambda: keys.get_random_bytes(8))[0] == 400
    hsm = lab.keys(lab.vault("safe", suffix="managedhsm.azure.net"))
    assert len(hsm.get_random_bytes(count=32)) == 32
    assert refusal(lambda: hsm.get_random_bytes(count=129))[:2] == (400, "BadParameter")


@pytest.mark.parametrize("version", ApiVersion)
def test_every_version_of_the_api_that_the_client_speaks_is_served(
    lab: Lab, version: ApiVersion
) -> None:
    keys = lab.keys(lab.vault(), api_version=version)
    assert keys.create_ec_key("signer").id == keys.get_key("signer").id


def test_what_is_not_in_the_api_is_refused(lab: Lab, keys: KeyClient) -> None:
    keys.create_ec_key("signer")
    for method, path in (("POST", "/keys/signer/explode"), ("DELETE", "/keys"), ("GET", "/x")):
        response = keys.send_request(HttpRequest(method, path))
        assert response.status_code == 404
    body = HttpRequest("POST", "/keys/signer/sign", content=b"[]")
    assert keys.send_request(body).json()["error"]["code"] == "BadParameter"


def test_every_answer_carries_ids_that_support_asks_for(lab: Lab, keys: KeyClient) -> None:
    response = keys.send_request(HttpRequest("GET", "/keys"))
    assert response.headers["x-ms-request-id"]
    assert response.headers["x-ms-client-request-id"]
    assert lab.world.client_address in response.headers["x-ms-keyvault-network-info"]


def test_the_log_tells_each_call(lab: Lab, keys: KeyClient) -> None:
    keys.create_ec_key("signer")
    with pytest.raises(HttpResponseError):
        keys.get_key("nope")
    first, second, third = lab.world.calls
    assert (first.status, first.principal, first.error) == (401, None, "AKV10000")
    assert (second.operation, second.status, second.principal) == ("create_key", 200, "developer")
    assert (third.operation, third.status, third.error) == ("get_key", 404, "KeyNotFound")
    assert (third.method, third.host, third.path) == ("GET", "acme.vault.azure.net", "/keys/nope/")


def test_a_name_that_no_key_has_has_no_versions(keys: KeyClient) -> None:
    assert list(keys.list_properties_of_key_versions("nothing")) == []


def test_a_key_that_goes_between_two_pages_of_a_list_hides_no_other(keys: KeyClient) -> None:
    for name in "abcd":
        keys.create_ec_key(name)
    pages = keys.list_properties_of_keys(max_page_size=2).by_page()
    assert [one.name for one in next(pages)] == ["a", "b"]
    keys.begin_delete_key("a")
    keys.begin_delete_key("b")
    assert [one.name for one in next(pages)] == ["c", "d"]


def test_an_immutable_release_policy_stays(keys: KeyClient) -> None:
    policy = KeyReleasePolicy(b'{"version":"1.0.0"}', immutable=True)
    keys.create_rsa_key("k", hardware_protected=True, exportable=True, release_policy=policy)
    keys.update_key_properties("k", tags={"a": "b"}, release_policy=policy)
    other = KeyReleasePolicy(b'{"version":"1.0.0","anyOf":[]}', immutable=True)
    found = refusal(lambda: keys.update_key_properties("k", release_policy=other))
    assert found[:2] == (400, "BadParameter")


def test_an_hsm_attests_to_no_key(lab: Lab) -> None:
    client = lab.keys(lab.vault("safe", suffix="managedhsm.azure.net"))
    client.create_rsa_key("k", hardware_protected=True)
    assert refusal(lambda: client.get_key_attestation("k"))[:2] == (400, "NotSupported")
