"""All operations of the REST API that are served, each with its path and with what allows it.

Paths are those of the vendor's REST reference; data actions and permissions those of its pages on
RBAC and access policies.
"""

from __future__ import annotations

from . import keys, usage
from .requests import Operation

_K, _V = "/keys/{name}", "/keys/{name}/{version}"
_D = "/deletedkeys/{name}"

#: name, method, path, handler, permission, action in vaults, action in Managed HSMs.
#: A trailing version in a path may be left out.
_KEYS = (
    ("list_keys", "GET", "/keys", keys.list_keys, "list", "read", "read/action"),
    ("import_key", "PUT", _K, keys.import_key, "import", "import/action", "import/action"),
    ("delete_key", "DELETE", _K, keys.delete, "delete", "delete", "delete"),
    ("list_key_versions", "GET", f"{_K}/versions", keys.list_key_versions, "list", "read",
     "read/action"),
    ("backup_key", "POST", f"{_K}/backup", keys.backup, "backup", "backup/action",
     "backup/action"),
    ("restore_key", "POST", "/keys/restore", keys.restore, "restore", "restore/action",
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
    ("list_deleted_keys", "GET", "/deletedkeys", keys.list_deleted, "list", "read",
     "../deletedKeys/read/action"),
    ("get_deleted_key", "GET", _D, keys.get_deleted, "get", "read",
     "../deletedKeys/read/action"),
    ("recover_deleted_key", "POST", f"{_D}/recover", keys.recover, "recover", "recover/action",
     "../deletedKeys/recover/action"),
)  # fmt: skip


def _action(tail: str) -> str:
    return tail.removeprefix("../") if tail.startswith("../") else f"keys/{tail}"


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
        "purge_deleted_key", "DELETE", _D, "keys", keys.purge, "purge",
        "keys/purge/action", "deletedKeys/delete", status=204,
    ),
    Operation(
        "get_random_bytes", "POST", "/rng", "keys", keys.random_bytes, "get",
        None, "keys/rng/action",
    ),
)  # fmt: skip
OPERATIONS = KEYS
