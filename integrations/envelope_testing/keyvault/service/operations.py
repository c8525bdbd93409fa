"""All operations of the REST API that are served, each with its path and with what allows it.

Paths are those of the vendor's REST reference; data actions and permissions those of its pages on
RBAC and access policies.
"""

from __future__ import annotations

from . import certificatelife as life
from . import certificates, issuers, keys, secretvalues, usage
from .requests import Operation

_K, _V = "/keys/{name}", "/keys/{name}/{version}"
_D = "/deletedkeys/{name}"

#: name, method, path, handler, permission, action in vaults, action in Managed HSMs.
#: A trailing version in a path may be left out.
_KEYS = (
    ("list_keys", "GET", "/keys", keys.list_keys, "list", "read", "read/action"),
    ("import_key", "PUT", _K, keys.import_key, "import", "import/action", "import/action"),
    ("delete_key", "DELETE", _K, keys.LIFE.delete, "delete", "delete", "delete"),
    ("list_key_versions", "GET", f"{_K}/versions", keys.list_key_versions, "list", "read",
     "read/action"),
    ("backup_key", "POST", f"{_K}/backup", keys.LIFE.backup, "backup", "backup/action",
     "backup/action"),
    ("restore_key", "POST", "/keys/restore", keys.LIFE.restore, "restore", "restore/action",
     "restore/action"),
    ("get_rotation_policy", "GET", f"{_K}/rotationpolicy", keys.get_rotation_policy,
     "getrotationpolicy", "../keyrotationpolicies/read", "read/action"),
    ("update_rotation_policy", "PUT", f"{_K}/rotationpolicy", keys.update_rotation_policy,
     "setrotationpolicy", "../keyrotationpolicies/write", "write/action"),
    ("encrypt", "POST", f"{_V}/encrypt", usage.encrypt, "encrypt", "encrypt/action",
     "encrypt/action"),
    ("decrypt", "POST", f"{_V}/decrypt", usage.decrypt, "decrypt", "decrypt/action",
     "decrypt/action"),
    ("wrapkey", "POST", f"{_V}/wrapkey", usage.wrap, "wrapKey", "wrap/action", "wrap/action"),
    ("unwrapkey", "POST", f"{_V}/unwrapkey", usage.unwrap, "unwrapKey", "unwrap/action",
     "unwrap/action"),
    ("sign", "POST", f"{_V}/sign", usage.sign, "sign", "sign/action", "sign/action"),
    ("verify", "POST", f"{_V}/verify", usage.verify, "verify", "verify/action",
     "verify/action"),
    ("release", "POST", f"{_V}/release", usage.release, "release", "release/action",
     "release/action"),
    ("get_key", "GET", _V, keys.get, "get", "read", "read/action"),
    ("update_key", "PATCH", _V, keys.update, "update", "update/action", "write/action"),
    ("list_deleted_keys", "GET", "/deletedkeys", keys.LIFE.list_deleted, "list", "read",
     "../deletedKeys/read/action"),
    ("get_deleted_key", "GET", _D, keys.LIFE.get_deleted, "get", "read",
     "../deletedKeys/read/action"),
    ("recover_deleted_key", "POST", f"{_D}/recover", keys.LIFE.recover, "recover", "recover/action",
     "../deletedKeys/recover/action"),
)  # fmt: skip


def _action(tail: str, kind: str = "keys") -> str:
    return tail.removeprefix("../") if tail.startswith("../") else f"{kind}/{tail}"


KEYS = (
    *(
        Operation(name, method, path, "keys", handler, permission, _action(vault), _action(hsm))
        for name, method, path, handler, permission, vault, hsm in _KEYS
    ),
    Operation(
        "create_key", "POST", f"{_K}/create", "keys", keys.create, "create",
        "keys/create/action", "keys/create", creates=True, prepare=keys.prepare_create,
    ),
    Operation(
        "rotate_key", "POST", f"{_K}/rotate", "keys", keys.rotate, "rotate",
        "keys/rotate/action", "keys/rotate/action", creates=True, prepare=keys.prepare_rotate,
    ),
    Operation(
        "purge_deleted_key", "DELETE", _D, "keys", keys.LIFE.purge, "purge",
        "keys/purge/action", "deletedKeys/delete", status=204,
    ),
    Operation(
        "get_key_attestation", "GET", f"{_V}/attestation", "keys", keys.attestation, "get",
        None, "keys/read/action",
    ),
    Operation(
        "get_random_bytes", "POST", "/rng", "keys", keys.random_bytes, "get",
        None, "keys/rng/action",
    ),
)  # fmt: skip

_S, _W = "/secrets/{name}", "/secrets/{name}/{version}"
_E = "/deletedsecrets/{name}"

#: name, method, path, handler, permission, action. Managed HSMs have none of these.
_SECRETS = (
    ("list_secrets", "GET", "/secrets", secretvalues.list_secrets, "list",
     "readMetadata/action"),
    ("delete_secret", "DELETE", _S, secretvalues.LIFE.delete, "delete", "delete"),
    ("list_secret_versions", "GET", f"{_S}/versions", secretvalues.list_secret_versions, "list",
     "readMetadata/action"),
    ("backup_secret", "POST", f"{_S}/backup", secretvalues.LIFE.backup, "backup", "backup/action"),
    ("restore_secret", "POST", "/secrets/restore", secretvalues.LIFE.restore, "restore",
     "restore/action"),
    ("get_secret", "GET", _W, secretvalues.get, "get", "getSecret/action"),
    ("update_secret", "PATCH", _W, secretvalues.update, "set", "update/action"),
    ("list_deleted_secrets", "GET", "/deletedsecrets", secretvalues.LIFE.list_deleted, "list",
     "readMetadata/action"),
    ("get_deleted_secret", "GET", _E, secretvalues.LIFE.get_deleted, "get", "readMetadata/action"),
    ("recover_deleted_secret", "POST", f"{_E}/recover", secretvalues.LIFE.recover, "recover",
     "recover/action"),
)  # fmt: skip
SECRETS = (
    *(
        Operation(name, method, path, "secrets", handler, permission, f"secrets/{action}")
        for name, method, path, handler, permission, action in _SECRETS
    ),
    Operation(
        "set_secret", "PUT", _S, "secrets", secretvalues.put, "set",
        "secrets/setSecret/action", creates=True,
    ),
    Operation(
        "purge_deleted_secret", "DELETE", _E, "secrets", secretvalues.LIFE.purge, "purge",
        "secrets/purge/action", status=204,
    ),
)  # fmt: skip

_C, _X = "/certificates/{name}", "/certificates/{name}/{version}"
_F, _P = "/deletedcertificates/{name}", "/certificates/{name}/pending"
_I, _N = "/certificates/issuers", "/certificates/contacts"

_CERTIFICATES = (
    ("list_certificates", "GET", "/certificates", life.list_certificates, "list", "read"),
    ("import_certificate", "POST", f"{_C}/import", certificates.import_certificate, "import",
     "import/action"),
    ("delete_certificate", "DELETE", _C, life.LIFE.delete, "delete", "delete"),
    ("list_certificate_versions", "GET", f"{_C}/versions", life.list_certificate_versions,
     "list", "read"),
    ("get_certificate_policy", "GET", f"{_C}/policy", certificates.get_policy, "get", "read"),
    ("update_certificate_policy", "PATCH", f"{_C}/policy", certificates.update_policy, "update",
     "update/action"),
    ("get_certificate_operation", "GET", _P, life.get_operation, "get", "read"),
    ("update_certificate_operation", "PATCH", _P, life.update_operation, "update",
     "update/action"),
    ("delete_certificate_operation", "DELETE", _P, life.delete_operation, "delete", "delete"),
    ("backup_certificate", "POST", f"{_C}/backup", life.LIFE.backup, "backup", "backup/action"),
    ("restore_certificate", "POST", "/certificates/restore", life.LIFE.restore, "restore",
     "restore/action"),
    ("get_certificate", "GET", _X, certificates.get, "get", "read"),
    ("update_certificate", "PATCH", _X, certificates.update, "update", "update/action"),
    ("list_deleted_certificates", "GET", "/deletedcertificates", life.LIFE.list_deleted, "list",
     "read"),
    ("get_deleted_certificate", "GET", _F, life.LIFE.get_deleted, "get", "read"),
    ("recover_deleted_certificate", "POST", f"{_F}/recover", life.LIFE.recover, "recover",
     "recover/action"),
    ("list_issuers", "GET", _I, issuers.list_issuers, "listissuers", "../certificatecas/read"),
    ("get_issuer", "GET", f"{_I}/{{name}}", issuers.get_issuer, "getissuers",
     "../certificatecas/read"),
    ("set_issuer", "PUT", f"{_I}/{{name}}", issuers.set_issuer, "setissuers",
     "../certificatecas/write"),
    ("update_issuer", "PATCH", f"{_I}/{{name}}", issuers.update_issuer, "setissuers",
     "../certificatecas/write"),
    ("delete_issuer", "DELETE", f"{_I}/{{name}}", issuers.delete_issuer, "deleteissuers",
     "../certificatecas/delete"),
    ("get_contacts", "GET", _N, issuers.get_contacts, "managecontacts", "read"),
    ("set_contacts", "PUT", _N, issuers.set_contacts, "managecontacts",
     "../certificatecontacts/write"),
    ("delete_contacts", "DELETE", _N, issuers.delete_contacts, "managecontacts",
     "../certificatecontacts/write"),
)  # fmt: skip
CERTIFICATES = (
    *(
        Operation(
            name, method, path, "certificates", handler, permission,
            _action(action, "certificates"),
        )
        for name, method, path, handler, permission, action in _CERTIFICATES
    ),
    Operation(
        "create_certificate", "POST", f"{_C}/create", "certificates", certificates.create,
        "create", "certificates/create/action", status=202, creates=True,
        prepare=certificates.prepare_create,
    ),
    Operation(
        "merge_certificate", "POST", f"{_P}/merge", "certificates", life.merge, "create",
        "certificates/create/action", status=201,
    ),
    Operation(
        "purge_deleted_certificate", "DELETE", _F, "certificates", life.LIFE.purge, "purge",
        "certificates/purge/action", status=204,
    ),
)  # fmt: skip
OPERATIONS = (*KEYS, *SECRETS, *CERTIFICATES)
