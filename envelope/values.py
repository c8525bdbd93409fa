"""Values in memory: bytes in, bytes out, under a compact header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envelope import context as contexts
from envelope import header, message
from envelope.offsets import FLOE_HEADER_SIZE, Layout
from envelope.opening import open_run
from envelope.ring import as_ring
from envelope.sealing import seal_run

__all__ = ["decrypt", "encrypt"]


def encrypt(
    data: bytes | bytearray | memoryview,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
) -> bytes:
    """Encrypt a value, such as a database field or a message.

    Args:
        data: The plaintext. Text is a TypeError: encode it first.
        keys: A KeyRing, a key URL, a list of them, or nothing: the configuration.
            Keep one KeyRing for many values; then they share a vault call.
        context: Pairs to store in the clear and bind to the data.

    Returns:
        The compact form of docs/format.md: about 400 bytes more than ``data`` under a local key.

    Raises:
        EnvelopeError: The key cannot be used, or the context does not fit.
    """
    plain = _buffer(data)
    outgoing = message.begin_value(as_ring(keys), contexts.validated(context))
    prefix = len(outgoing.prefix)
    sealed = bytearray(outgoing.layout.stored_size(len(plain)))
    sealed[:prefix] = outgoing.prefix
    seal_run(outgoing.sealer, 0, True, plain, memoryview(sealed)[prefix:])
    outgoing.grant.count_bytes(len(plain))
    return bytes(sealed)


def decrypt(
    data: bytes | bytearray | memoryview,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
) -> bytes:
    """Decrypt what :func:`encrypt` returned, or a whole encrypted file's bytes.

    Args:
        data: The encrypted bytes.
        keys: A KeyRing, a key URL, a list of them, or nothing: the configuration.
        context: Pairs that must be in the authenticated context and equal.

    Returns:
        The plaintext: all of it, or an error.

    Raises:
        EnvelopeError: See docs/errors.md.
    """
    # A private copy unless it is immutable: others could change the bytes between
    # their tag's check and their use.
    stored = memoryview(data if isinstance(data, bytes) else bytes(_buffer(data)))
    parsed = header.parse(stored.obj, len(stored))  # type: ignore[arg-type]  # it is bytes
    floe_header = bytes(stored[parsed.size : parsed.size + FLOE_HEADER_SIZE])
    opener, _ = message.admit(parsed, floe_header, as_ring(keys), contexts.validated(context))
    layout = Layout(parsed.size, opener.segment_length)
    plain = bytearray(layout.plain_size(len(stored)))
    open_run(opener, 0, True, stored[layout.body :], memoryview(plain))
    return bytes(plain)


def _buffer(data: bytes | bytearray | memoryview) -> memoryview:
    if isinstance(data, str):
        raise TypeError("a bytes-like object is required, not 'str': encode the text first")
    return memoryview(data).cast("B")
