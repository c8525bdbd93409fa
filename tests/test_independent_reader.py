"""The known answer of docs/format.md, and the independent reader's own round trips."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.independent_floe import Floe
from tests.independent_reader import Refused, b64u, floe_of_file, kdf, kek_id, read, read_pipe
from tests.independent_writer import build_header, compact, keys_section, seal_body

KEK, DEK, FLOE_IV = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
BOUND = b'{"context":{"table":"orders"}}'
SECTION = keys_section(KEK, DEK, keyset="A" * 22)
HEADER = build_header(DEK, BOUND, compact(SECTION))


def file_of(plaintext: bytes, segment_length: int = 4096) -> bytes:
    floe = floe_of_file(DEK, BOUND, segment_length, FLOE_IV)
    ivs = iter(range(1000))
    segments = seal_body(floe, plaintext, lambda: next(ivs).to_bytes(12))
    return HEADER + floe.header + b"".join(segments)


def test_the_known_answer_comes_out() -> None:
    floe = floe_of_file(DEK, BOUND, 262144, FLOE_IV)
    assert {
        "kek_id": kek_id(KEK).hex(),
        "encrypted_key": b64u(SECTION["dek"]["encrypted_key"]).hex(),
        "floe_key": kdf(DEK, "envelope/1 suite 1 FLOE key").hex(),
        "mac": HEADER[-32:].hex(),
        "header": hashlib.sha256(HEADER).hexdigest(),
        "floe_tag": floe.header[-32:].hex(),
        "H": len(HEADER),
    } == {
        "kek_id": "5146edc64d0fb82077b7b58135ae46b2f75a977b20d2aae887867e88a7ac7b4c",
        "encrypted_key": (
            "55032eb9dcfdc59701406efbeb058b7bed5e5dc74c8a29634fbfcaad38f629be9ea34e54e40b25d5"
        ),
        "floe_key": "a1864303c6ba3be3c8ab1d743669e84b26e96cfe5288f8e91d4ec495e10d8eb9",
        "mac": "59281dd4708b07fc0fecf50be367f69be0947b52b0dd36784cbee187943c588d",
        "header": "ef18477685baed08c7d27edad7284db192a9473f7d5c40b1a5b7ece92daa3515",
        "floe_tag": "ea1d04f26bb3680308587d5b472f424e75805aa9594f539291a2927a74c46f4d",
        "H": 276,
    }


@given(st.sampled_from([0, 1, 4063, 4064, 4065, 8128, 8129]) | st.integers(0, 20_000))
def test_every_size_reads_back_from_a_file_and_from_a_pipe(size: int) -> None:
    plaintext = bytes(at % 251 for at in range(size))
    file = file_of(plaintext)
    assert read(file, {}, keks=[KEK]) == plaintext
    assert b"".join(read_pipe(file, {}, keks=[KEK])) == plaintext


@given(st.sampled_from([0, 100, 4064, 8128, 9000]), st.data())
def test_an_honest_file_cut_anywhere_is_truncated(size: int, data: st.DataObject) -> None:
    file = file_of(bytes(size))
    whole = len(HEADER) + 74
    boundaries = [1, 8, 24, len(HEADER), whole, whole + 4, whole + 32, len(file) - 1]
    boundaries += [at for at in (whole + 4096, whole + 8192) if at < len(file)]
    cut = data.draw(st.sampled_from(boundaries) | st.integers(1, len(file) - 1))
    if cut >= len(file):
        return
    for reader in (read, read_pipe):
        with pytest.raises(Refused) as caught:
            list(reader(file[:cut], {}, keks=[KEK]))
        assert caught.value.error == "Truncated", cut


@given(st.data())
def test_no_bit_of_a_file_can_change(data: st.DataObject) -> None:
    plaintext = bytes(5000)
    file = bytearray(file_of(plaintext))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= 1 << data.draw(st.integers(0, 7))
    for reader in (read, read_pipe):
        with pytest.raises(Refused):
            list(reader(bytes(file), {}, keks=[KEK]))


def test_a_longer_file_is_tampered_with_and_not_cut() -> None:
    file = file_of(bytes(100))
    for more in (b"x", bytes(1000)):
        with pytest.raises(Refused, match="Tampered"):
            read(file + more, {}, keks=[KEK])
        with pytest.raises(Refused, match="Tampered"):
            list(read_pipe(file + more, {}, keks=[KEK]))


def test_segment_keys_rotate_only_at_their_boundary() -> None:
    floe = Floe(bytes(32), b"", 64, bytes(32), rotation=2)
    sealed = [floe.seal(i, bytes(32), bytes(12), last=False)[16:] for i in range(8)]
    streams = [bytes(sealed[i][:32]) for i in range(8)]  # one key and IV give one key stream
    assert len(set(streams[:4])) == 1
    assert len(set(streams[4:])) == 1
    assert streams[3] != streams[4]
