"""Keys that were made elsewhere: as they are, in a transfer blob, as a certificate."""

from __future__ import annotations

import base64
import datetime
import json
import traceback
from pathlib import Path

import pytest
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.keys import JsonWebKey
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
    pkcs12,
)

import envelope
from envelope.errors import AccessDenied
from envelope.secret import Secret
from envelope_azure.driver import AZURE
from tests.azure.conftest import Azure
from tests.azure.test_admin import answers, shell
from tests.cli.conftest import check


@pytest.fixture(scope="module")
def own() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def pem(own: rsa.RSAPrivateKey, tmp_path: Path) -> str:
    path = tmp_path / "own.pem"
    path.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def transfer_key(azure: Azure, key: str) -> str:
    options = ["--kty", "RSA-HSM", "--bits", "2048", "--key-op", "import"]
    assert shell("keys", "create", key, *options) == 0
    return key


def works_as(key: str, own: rsa.RSAPrivateKey, tmp_path: Path) -> bool:
    """What is encrypted to it opens, and its public half is that of the key that was sent."""
    value = envelope.encrypt(b"x", keys=key)
    file = tmp_path / "half.pem"
    assert shell("keys", "public", key, "--out", str(file), "--force") == 0
    half = load_pem_public_key(file.read_bytes())
    assert isinstance(half, rsa.RSAPublicKey)
    return (
        envelope.decrypt(value, keys=key) == b"x"
        and half.public_numbers() == own.public_key().public_numbers()
    )


@pytest.mark.parametrize("options", [[], ["--hsm"]])
def test_a_key_comes_in_as_it_is(
    azure: Azure, own: rsa.RSAPrivateKey, pem: str, tmp_path: Path, options: list[str]
) -> None:
    assert shell("keys", "import", azure.key("mine"), pem, *options) == 0
    assert azure.client().get_key("mine").key_type == ("RSA-HSM" if options else "RSA")
    assert works_as(azure.key("mine"), own, tmp_path)


@pytest.mark.parametrize("suffix", ["vault.azure.net", "managedhsm.azure.net"])
def test_a_key_comes_in_under_a_transfer_key(
    azure: Azure, own: rsa.RSAPrivateKey, pem: str, tmp_path: Path, suffix: str
) -> None:
    host = azure.local.vault(f"{azure.vault.name}-t", suffix=suffix).host
    to = transfer_key(azure, f"azurekeyvault://{host}/byok-kek")
    mine = f"azurekeyvault://{host}/mine"
    assert shell("keys", "import", mine, pem, "--transfer-key", to) == 0
    assert azure.client(host).get_key("mine").key_type == "RSA-HSM"
    assert works_as(mine, own, tmp_path)


def test_a_symmetric_key_comes_into_a_managed_hsm_and_into_no_vault(
    azure: Azure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hsm = azure.local.vault(f"{azure.vault.name}-hsm", suffix="managedhsm.azure.net").host
    raw = tmp_path / "raw"
    raw.write_bytes(Secret.random().reveal())
    to = transfer_key(azure, f"azurekeyvault://{hsm}/byok-kek")
    mine = f"azurekeyvault://{hsm}/mine"
    assert shell("keys", "import", mine, str(raw), "--transfer-key", to) == 0
    made = azure.client(hsm).get_key("mine")
    assert made.key_type == "oct-HSM"
    value = envelope.encrypt(b"x", keys=mine)
    assert envelope.decrypt(value, keys=mine) == b"x"

    blob = tmp_path / "raw.byok"
    assert shell("keys", "transfer-blob", to, str(raw), "--out", str(blob)) == 0
    other = f"azurekeyvault://{hsm}/other"
    assert shell("keys", "import", other, str(blob), "--kty", "oct") == 0
    assert azure.client(hsm).get_key("other").key_type == "oct-HSM"

    to = transfer_key(azure, azure.key("byok-kek"))
    capsys.readouterr()
    assert shell("keys", "import", azure.key("mine"), str(raw), "--transfer-key", to) == 2
    assert "RSA keys alone" in capsys.readouterr().err


def test_a_blob_is_what_the_vendor_documents_and_its_own_client_imports_it(
    azure: Azure,
    own: rsa.RSAPrivateKey,
    pem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = transfer_key(azure, azure.key("byok-kek"))
    file = tmp_path / "own.byok"
    [told] = answers(capsys, "keys", "transfer-blob", to, pem, "--out", str(file))
    check(told, "transfer-blob")
    blob = json.loads(file.read_bytes())
    assert blob["schema_version"] == "1.0.0"
    kid = azure.client().get_key("byok-kek").id
    assert blob["header"] == {"kid": kid, "alg": "dir", "enc": "CKM_RSA_AES_KEY_WRAP"}
    assert set(blob) == {"schema_version", "header", "ciphertext", "generator"}
    sealed = base64.urlsafe_b64decode(blob["ciphertext"] + "==")
    plain = own.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert len(sealed) == 256 + 8 + -(-len(plain) // 8) * 8
    for secret in (plain[:64], plain[-64:]):
        assert secret not in sealed

    azure.client().import_key("theirs", JsonWebKey(kty="RSA-HSM", t=file.read_bytes()))
    assert works_as(azure.key("theirs"), own, tmp_path)
    assert shell("keys", "import", azure.key("ours"), str(file)) == 0
    assert works_as(azure.key("ours"), own, tmp_path)


def test_a_blob_is_made_from_a_public_half_without_the_vault(
    azure: Azure, own: rsa.RSAPrivateKey, pem: str, tmp_path: Path
) -> None:
    to = transfer_key(azure, azure.key("byok-kek"))
    half, blob = str(tmp_path / "kek.pem"), str(tmp_path / "own.byok")
    assert shell("keys", "public", to, "--out", half) == 0
    azure.restart()
    connections = len(azure.local.connections)
    assert shell("keys", "transfer-blob", to, pem, "--public", half, "--out", blob) == 0
    assert len(azure.local.connections) == connections
    assert shell("keys", "transfer-blob", to, pem, "--public", half, "--out", blob) == 2  # is there
    assert shell("keys", "import", azure.key("mine"), blob) == 0
    assert works_as(azure.key("mine"), own, tmp_path)


def test_a_blob_is_for_one_version_of_one_key(
    azure: Azure, pem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = transfer_key(azure, azure.key("byok-kek"))
    half, bare = tmp_path / "kek.pem", tmp_path / "bare.pem"
    assert shell("keys", "public", to, "--out", str(half)) == 0
    bare.write_bytes(half.read_bytes().partition(b"\n")[2])
    for key, public, says in (
        (azure.key("another"), half, "not of"),
        (f"{to}/{'0' * 32}", half, "not of"),
        (to, bare, "for one version"),
        (to, Path(pem), "for one version"),
        (f"{to}/{'0' * 32}", Path(pem), "no public RSA key"),
        (to, tmp_path / "raw", "for one version"),
    ):
        (tmp_path / "raw").write_bytes(bytes(32))
        arguments = ["--public", str(public), "--out", str(tmp_path / "blob")]
        assert shell("keys", "transfer-blob", key, pem, *arguments) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "blob").exists()


def test_a_key_that_could_do_more_than_import_is_no_transfer_key(
    azure: Azure, pem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = azure.client()
    client.create_rsa_key("soft", size=2048, key_operations=["import"])
    client.create_rsa_key("wide", size=2048, hardware_protected=True)
    for name in ("soft", "wide"):
        arguments = ["--transfer-key", azure.key(name)]
        assert shell("keys", "import", azure.key("mine"), pem, *arguments) == 3
        assert "--kty RSA-HSM --bits 4096 --key-op import" in capsys.readouterr().err


def test_a_transfer_key_of_another_vault_is_refused_before_anything_is_sent(
    azure: Azure, pem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = azure.local.vault(f"{azure.vault.name}-b").host
    to = transfer_key(azure, f"azurekeyvault://{other}/byok-kek")
    blob = str(tmp_path / "own.byok")
    assert shell("keys", "transfer-blob", to, pem, "--out", blob) == 0
    before = len(azure.operations())
    capsys.readouterr()
    assert shell("keys", "import", azure.key("mine"), pem, "--transfer-key", to) == 2
    assert shell("keys", "import", azure.key("mine"), blob) == 2
    assert capsys.readouterr().err.count("brings keys into that vault alone") == 2
    assert shell("keys", "import", azure.key("mine"), blob, "--transfer-key", to) == 2
    assert "transfer blob already" in capsys.readouterr().err
    assert len(azure.operations()) == before


def test_a_blob_that_was_altered_is_refused_by_the_vault(
    azure: Azure, pem: str, tmp_path: Path
) -> None:
    to = transfer_key(azure, azure.key("byok-kek"))
    file = tmp_path / "own.byok"
    assert shell("keys", "transfer-blob", to, pem, "--out", str(file)) == 0
    document = json.loads(file.read_bytes())
    cut = document["ciphertext"][:-4] + (
        "AAAA" if document["ciphertext"][-4:] != "AAAA" else "BBBB"
    )
    file.write_text(json.dumps({**document, "ciphertext": cut}))
    assert shell("keys", "import", azure.key("mine"), str(file)) != 0
    assert shell("keys", "list", azure.key("mine")) == 5


def certified(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lake")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(365))
    made = builder.sign(key, SHA256())
    return pkcs12.serialize_key_and_certificates(b"lake", key, made, None, NoEncryption())


def test_a_certificate_comes_in_with_its_key(
    azure: Azure, own: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    file = tmp_path / "web.pfx"
    file.write_bytes(certified(own))
    web = f"azurekeyvault-certificate://{azure.host}/web"
    assert shell("keys", "import", web, str(file)) == 0
    client = CertificateClient(f"https://{azure.host}", DefaultAzureCredential())
    found = x509.load_der_x509_certificate(bytes(client.get_certificate("web").cer)).public_key()
    assert found.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ) == own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert envelope.decrypt(envelope.encrypt(b"x", keys=web), keys=web) == b"x"
    # Under the key's own name, the certificate is passed over and the key is taken.
    assert shell("keys", "import", azure.key("bare"), str(file)) == 0
    assert works_as(azure.key("bare"), own, tmp_path)


def test_what_cannot_be_a_certificate_of_a_vault_is_refused(
    azure: Azure, pem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web = f"azurekeyvault-certificate://{azure.host}/web"
    assert shell("keys", "import", web, pem) == 2
    assert "no certificate with its private key" in capsys.readouterr().err
    elliptic = tmp_path / "ec.pfx"
    elliptic.write_bytes(certified(ec.generate_private_key(ec.SECP256R1())))
    assert shell("keys", "import", web, str(elliptic)) == 2
    assert shell("keys", "import", web, pem, "--hsm") == 2
    assert azure.operations() == []


def test_local_keys_have_no_hsm(tmp_path: Path, pem: str, azure: Azure) -> None:
    blob = str(tmp_path / "blob")
    assert shell("keys", "transfer-blob", "local:kek", pem, "--out", blob) == 2
    assert shell("keys", "import", "local:mine", pem, "--hsm") == 2


def test_no_traceback_of_a_refused_import_shows_the_key(
    azure: Azure, own: rsa.RSAPrivateKey
) -> None:
    pem = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    azure.vault.revoke(azure.local.world.principal("developer"))
    with pytest.raises(AccessDenied) as caught:
        AZURE.resolver(AZURE.settings({})).import_key(azure.key("mine"), Secret(pem))
    assert caught.tb.tb_next is not None  # this frame has the key itself
    frames = traceback.walk_tb(caught.tb.tb_next)
    shown = "".join(traceback.StackSummary.extract(frames, capture_locals=True).format())
    assert "body = " in shown
    private = own.private_numbers()
    for number in (private.d, private.p, private.q):
        text = base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8))
        assert text.rstrip(b"=").decode()[:24] not in shown
