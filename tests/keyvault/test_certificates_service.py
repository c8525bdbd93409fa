"""Certificates as the vendor's own client sees them, with the key and the secret that each has."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.keyvault.certificates import (
    ApiVersion,
    CertificateClient,
    CertificateContact,
    CertificateContentType,
    CertificatePolicy,
    PlatformManaged,
)
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from tests.keyvault.inprocess import Lab, refusal

DATA_KEY = bytes(range(32))
PEM = CertificateContentType.pem


@pytest.fixture
def certificates(lab: Lab) -> CertificateClient:
    return lab.client(CertificateClient, lab.vault())


@pytest.fixture
def secrets(lab: Lab) -> SecretClient:
    return lab.client(SecretClient, lab.vault())


def issued(private: ec.EllipticCurvePrivateKey, public: object = None) -> x509.Certificate:
    """A certificate of the key, or of another public key, signed by the key."""
    name = x509.Name.from_rfc4514_string("CN=own.example")
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(public or private.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=30))
    return builder.sign(private, hashes.SHA256())


def test_the_vault_signs_a_certificate_of_its_own(
    lab: Lab, certificates: CertificateClient
) -> None:
    policy = CertificatePolicy(
        issuer_name="Self",
        subject="CN=lake.example",
        san_dns_names=["lake.example", "www.lake.example"],
        validity_in_months=6,
        key_size=3072,
    )
    made = certificates.begin_create_certificate("lake", policy, tags={"a": "b"}).result()
    found = x509.load_der_x509_certificate(bytes(made.cer))
    assert found.subject.rfc4514_string() == "CN=lake.example"
    found.verify_directly_issued_by(found)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["lake.example", "www.lake.example"]
    assert made.properties.x509_thumbprint == found.fingerprint(hashes.SHA1())
    assert made.properties.expires_on == found.not_valid_after_utc
    assert 175 < (found.not_valid_after_utc - datetime.now(UTC)).days < 190
    assert made.properties.tags == {"a": "b"}
    assert made.policy.key_size == 3072
    assert lab.log()[:2] == ["create_certificate", "get_certificate_operation"]


def test_a_certificate_has_a_key_and_a_secret_of_its_name_and_version(
    lab: Lab, certificates: CertificateClient, secrets: SecretClient
) -> None:
    made = certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    key = lab.keys(lab.vault()).get_key("lake")
    secret = secrets.get_secret("lake")
    assert (made.key_id, made.secret_id) == (key.id, secret.id)
    assert key.properties.managed
    assert key.properties.version == made.properties.version
    private, certificate, _ = pkcs12.load_key_and_certificates(
        base64.b64decode(secret.value or ""), None
    )
    assert isinstance(private, rsa.RSAPrivateKey)
    assert certificate == x509.load_der_x509_certificate(bytes(made.cer))
    wrapped = lab.crypto(key.id).wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    assert lab.crypto(key.id).unwrap_key("RSA-OAEP-256", wrapped).key == DATA_KEY


@pytest.mark.parametrize("content_type", [CertificateContentType.pkcs12, PEM])
def test_a_key_that_must_not_leave_is_not_in_the_secret(
    certificates: CertificateClient, secrets: SecretClient, content_type: CertificateContentType
) -> None:
    # Without a size or type the client leaves ``exportable=False`` out, and the default is True.
    policy = CertificatePolicy(
        "Self", subject="CN=x", exportable=False, key_size=2048, content_type=content_type
    )
    made = certificates.begin_create_certificate("lake", policy).result()
    value = secrets.get_secret("lake").value or ""
    if content_type == PEM:
        assert "PRIVATE KEY" not in value
        found = x509.load_pem_x509_certificate(value.encode())
    else:
        private, _, chain = pkcs12.load_key_and_certificates(base64.b64decode(value), None)
        assert private is None
        (found,) = chain
    assert found == x509.load_der_x509_certificate(bytes(made.cer))


def test_a_new_version_may_reuse_the_key(lab: Lab, certificates: CertificateClient) -> None:
    for reuse, same in ((True, True), (False, False)):
        policy = CertificatePolicy("Self", subject="CN=x", reuse_key=reuse, key_size=2048)
        name = f"lake-{reuse}"
        for _ in range(2):
            certificates.begin_create_certificate(name, policy).result()
        versions = certificates.list_properties_of_certificate_versions(name)
        keys = [lab.keys(lab.vault()).get_key(name, one.version).key.n for one in versions]
        assert len(keys) == 2
        assert (keys[0] == keys[1]) is same


def test_a_pfx_file_is_imported(lab: Lab, certificates: CertificateClient) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    own = issued(private)
    data = pkcs12.serialize_key_and_certificates(
        None, private, own, None, BestAvailableEncryption(b"pw")
    )
    found = refusal(lambda: certificates.import_certificate("own", data, password="no"))
    assert found[:2] == (400, "BadParameter")
    made = certificates.import_certificate("own", data, password="pw")
    assert bytes(made.cer) == own.public_bytes(Encoding.DER)
    assert (made.policy.key_type, made.policy.key_curve_name) == ("EC", "P-256")
    point = private.public_key().public_numbers()
    assert lab.keys(lab.vault()).get_key("own").key.x == point.x.to_bytes(32)


def test_a_pem_file_is_imported(certificates: CertificateClient, secrets: SecretClient) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    own = issued(private)
    key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    policy = CertificatePolicy("Unknown", content_type=PEM)
    data = key + own.public_bytes(Encoding.PEM)
    made = certificates.import_certificate("own", data, policy=policy)
    assert bytes(made.cer) == own.public_bytes(Encoding.DER)
    value = (secrets.get_secret("own").value or "").encode()
    assert load_pem_private_key(value, None).public_key() == private.public_key()
    other = issued(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM)
    found = refusal(lambda: certificates.import_certificate("bad", key + other, policy=policy))
    assert found[:2] == (400, "BadParameter")


def test_what_somebody_else_signed_is_merged(certificates: CertificateClient) -> None:
    policy = CertificatePolicy("Unknown", subject="CN=lake.example", key_size=2048)
    operation = certificates.begin_create_certificate("lake", policy).result()
    assert operation.status == "inProgress"
    with pytest.raises(ResourceNotFoundError):
        certificates.get_certificate("lake")
    assert list(certificates.list_properties_of_certificates()) == []
    pending = certificates.list_properties_of_certificates(include_pending=True)
    assert [one.name for one in pending] == ["lake"]
    request = x509.load_der_x509_csr(operation.csr)
    assert request.is_signature_valid
    authority = ec.generate_private_key(ec.SECP256R1())
    wrong = issued(authority).public_bytes(Encoding.DER)
    found = refusal(lambda: certificates.merge_certificate("lake", [wrong]))
    assert found[:2] == (400, "BadParameter")
    signed = issued(authority, request.public_key()).public_bytes(Encoding.DER)
    made = certificates.merge_certificate("lake", [signed])
    assert bytes(made.cer) == signed
    assert certificates.get_certificate_operation("lake").status == "completed"


def test_a_request_is_cancelled_and_forgotten(certificates: CertificateClient) -> None:
    policy = CertificatePolicy("Unknown", subject="CN=lake.example", key_size=2048)
    certificates.begin_create_certificate("lake", policy).result()
    assert certificates.cancel_certificate_operation("lake").status == "cancelled"
    certificates.delete_certificate_operation("lake")
    with pytest.raises(ResourceNotFoundError):
        certificates.get_certificate_operation("lake")
    assert list(certificates.list_properties_of_certificates(include_pending=True)) == []


def test_a_deleted_certificate_takes_its_key_and_its_secret_along(
    lab: Lab, certificates: CertificateClient, secrets: SecretClient
) -> None:
    keys = lab.keys(lab.vault())
    made = certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    certificates.begin_delete_certificate("lake").wait()
    for call in (lambda: keys.get_key("lake"), lambda: secrets.get_secret("lake")):
        assert refusal(call)[0] == 404
    assert [one.name for one in certificates.list_deleted_certificates()] == ["lake"]
    certificates.begin_recover_deleted_certificate("lake").wait()
    assert (keys.get_key("lake").id, secrets.get_secret("lake").id) == (
        made.key_id,
        made.secret_id,
    )
    certificates.begin_delete_certificate("lake").wait()
    certificates.purge_deleted_certificate("lake")
    assert list(certificates.list_deleted_certificates()) == []


def test_a_managed_key_and_secret_are_not_deleted_by_themselves(
    lab: Lab, certificates: CertificateClient, secrets: SecretClient
) -> None:
    certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    keys = lab.keys(lab.vault())
    for call in (lambda: keys.begin_delete_key("lake"), lambda: secrets.set_secret("lake", "x")):
        assert refusal(call)[:2] == (400, "BadParameter")


def test_a_certificate_does_not_take_the_name_of_a_key(
    lab: Lab, certificates: CertificateClient
) -> None:
    lab.keys(lab.vault()).create_ec_key("lake")
    policy = CertificatePolicy.get_default()
    assert refusal(lambda: certificates.begin_create_certificate("lake", policy))[0] == 409


def test_a_backup_brings_certificate_key_and_secret_back(
    lab: Lab, certificates: CertificateClient, secrets: SecretClient
) -> None:
    made = certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    blob = certificates.backup_certificate("lake")
    certificates.begin_delete_certificate("lake").wait()
    certificates.purge_deleted_certificate("lake")
    assert certificates.restore_certificate_backup(blob).id == made.id
    assert secrets.get_secret("lake").id == made.secret_id
    assert lab.keys(lab.vault()).get_key("lake").id == made.key_id


def test_a_disabled_certificate_disables_its_key_and_its_secret(
    lab: Lab, certificates: CertificateClient, secrets: SecretClient
) -> None:
    made = certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    certificates.update_certificate_properties("lake", enabled=False)
    assert refusal(lambda: secrets.get_secret("lake"))[2] == "SecretDisabled"
    wrap = lab.crypto(made.key_id)
    assert refusal(lambda: wrap.wrap_key("RSA-OAEP-256", DATA_KEY))[2] == "KeyDisabled"


def test_the_policy_is_changed_for_the_next_version(certificates: CertificateClient) -> None:
    certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    policy = certificates.get_certificate_policy("lake")
    assert (policy.subject, policy.key_size) == ("CN=DefaultPolicy", 2048)
    policy._validity_in_months = 3
    changed = certificates.update_certificate_policy("lake", policy)
    assert (changed.validity_in_months, changed.subject) == (3, "CN=DefaultPolicy")


def test_a_certificate_is_dated_by_the_worlds_clock(
    lab: Lab, certificates: CertificateClient
) -> None:
    lab.world.clock.advance(1000 * 86400)
    made = certificates.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    ahead = made.properties.not_before.timestamp() - time.time()
    assert 999 * 86400 < ahead < 1001 * 86400


def test_contacts_are_kept(certificates: CertificateClient) -> None:
    assert refusal(certificates.get_contacts)[0] == 404
    certificates.set_contacts([CertificateContact("ops@lake.example", "Ops", "1")])
    assert [one.email for one in certificates.get_contacts()] == ["ops@lake.example"]
    certificates.delete_contacts()
    assert refusal(certificates.get_contacts)[0] == 404


def test_issuers_are_kept_without_showing_their_passwords(
    lab: Lab, certificates: CertificateClient
) -> None:
    certificates.create_issuer("Own", "Test", account_id="me", password="hunter2")
    assert certificates.get_issuer("own").account_id == "me"
    assert certificates.get_issuer("own").password is None
    certificates.update_issuer("own", enabled=False)
    assert certificates.get_issuer("own").enabled is False
    assert [one.name for one in certificates.list_properties_of_issuers()] == ["Own"]
    policy = CertificatePolicy("own", subject="CN=x", key_size=2048)
    operation = certificates.begin_create_certificate("lake", policy)
    assert operation.status() == "inprogress"
    certificates.cancel_certificate_operation("lake")
    operation.wait()
    certificates.delete_issuer("own")
    assert refusal(lambda: certificates.get_issuer("own"))[0] == 404
    assert refusal(lambda: certificates.begin_create_certificate("x", policy))[0] == 400


@pytest.mark.parametrize("version", ApiVersion)
def test_every_version_of_the_api_that_the_client_speaks_is_served(
    lab: Lab, version: ApiVersion
) -> None:
    client = lab.client(CertificateClient, lab.vault(), api_version=version)
    made = client.begin_create_certificate("lake", CertificatePolicy.get_default()).result()
    assert client.get_certificate("lake").id == made.id


def test_a_certificate_that_its_caller_has_encoded_already_is_merged_too(
    certificates: CertificateClient,
) -> None:
    policy = CertificatePolicy("Unknown", subject="CN=lake.example", key_size=2048)
    request = x509.load_der_x509_csr(
        certificates.begin_create_certificate("lake", policy).result().csr
    )
    authority = ec.generate_private_key(ec.SECP256R1())
    signed = issued(authority, request.public_key()).public_bytes(Encoding.DER)
    made = certificates.merge_certificate("lake", [base64.b64encode(signed)])
    assert bytes(made.cer) == signed


def test_a_certificate_says_whether_its_chain_keeps_its_order(
    certificates: CertificateClient,
) -> None:
    policy = CertificatePolicy.get_default()
    plain = certificates.begin_create_certificate("plain", policy).result()
    kept = certificates.begin_create_certificate("kept", policy, preserve_order=True).result()
    assert (plain.properties.preserve_order, kept.properties.preserve_order) == (False, True)
    assert certificates.get_certificate_operation("kept").preserve_order is True


def test_a_request_that_somebody_else_signs_says_that_it_is_to_be_merged(
    certificates: CertificateClient,
) -> None:
    policy = CertificatePolicy(issuer_name="Unknown", subject="CN=lake.example")
    found = certificates.begin_create_certificate("theirs", policy).result()
    assert "merge" in found.status_details.lower()


def test_a_policy_keeps_what_the_vault_has_no_use_for(certificates: CertificateClient) -> None:
    policy = CertificatePolicy(
        subject="CN=lake.example",
        key_usage=["decipherOnly"],
        platform_managed=PlatformManaged(certificate_usage="tls-server"),
    )
    certificates.begin_create_certificate("odd", policy).result()
    found = certificates.get_certificate_policy("odd")
    assert found.key_usage == ["decipherOnly"]
    assert found.platform_managed.certificate_usage == "tls-server"
