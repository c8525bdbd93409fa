"""``encrypt``, ``decrypt``, ``reencrypt`` and ``cat``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from envelope.cli.batch import each
from envelope.cli.filing import FileOptions, Paths, SegmentLength, TargetOptions, stores_of
from envelope.cli.globs import has_magic
from envelope.cli.handover import Handover
from envelope.cli.jobs import ENCRYPTING, READING, RENEWING, Job
from envelope.cli.options import ContextOptions, KeyOptions, WorkOptions, WritingKeyOptions
from envelope.cli.output import Output
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.standard import standard_input, standard_output
from envelope.cli.stores import StorageOptions, enveloped
from envelope.cli.trees import Input, inputs
from envelope.sources import OnProgress
from envelope.urls import is_url

__all__ = ["cat", "decrypt", "encrypt", "reencrypt"]

_PIECE = 2**20


@examples(
    "envelope encrypt report.csv",
    "envelope encrypt report.csv --key local:lake --out report.env1 --context table=orders",
    "envelope encrypt -r data --out sealed --jobs 4",
    "envelope encrypt 's3://plain/2026/*.csv' --out s3://sealed/2026",
    "tar c data | envelope encrypt - --out data.tar.env1",
)
def encrypt(
    out: Output,
    paths: Paths,
    files: FileOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    work: WorkOptions,
    segment_length: SegmentLength = None,
) -> int:
    """Encrypt files, folders or standard input.

    Without --out, FILE becomes FILE.env1 beside it. A folder's files go into the
    folder --out under the same names, or stay beside their sources. What -r finds done and
    intact it skips, so an interrupted run can be repeated.
    """
    from envelope.files import encrypt_file

    job = Job(out, ENCRYPTING, paths, files, work, keys, context, segment_length)
    return job.run(encrypt_file)


@examples(
    "envelope decrypt report.csv.env1 --out report.csv",
    "envelope decrypt -r sealed --out data --trust local:lake",
    "envelope decrypt - < data.tar.env1 | tar x",
)
def decrypt(
    out: Output,
    paths: Paths,
    files: FileOptions,
    keys: KeyOptions,
    context: ContextOptions,
    work: WorkOptions,
) -> int:
    """Decrypt files, folders or standard input.

    A file appears under its name when all of it was proven. A pipe is given each part as it is
    proven; if the end is missing, the exit status is 4.
    """
    from envelope.files import decrypt_file

    job = Job(out, READING, paths, files, work, keys, context)
    return job.run(decrypt_file)


@examples(
    "envelope reencrypt report.csv.env1",
    "envelope reencrypt -r sealed --key local:lake",
)
def reencrypt(
    out: Output,
    paths: Paths,
    files: TargetOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    work: WorkOptions,
    segment_length: SegmentLength = None,
) -> int:
    """Encrypt files anew, under a fresh key: what revokes somebody's access.

    Rewrapping does not: who opened a file before may have kept its key. Without --out
    each file is replaced, as a whole.
    """
    from envelope.files import reencrypt as verb

    job = Job(out, RENEWING, paths, files, work, keys, context, segment_length)
    return job.run(verb)


@examples(
    "envelope cat report.csv.env1 | head",
    "envelope cat part-*.env1 --trust local:lake > whole.csv",
    "envelope cat envelope://lake/2026/report.csv",
)
def cat(
    out: Output,
    paths: Paths,
    keys: KeyOptions,
    context: ContextOptions,
    work: WorkOptions,
    storage: StorageOptions,
) -> int:
    """Decrypt files to standard output, one after the other.

    Files of a mount or a chain are read as programs read them there.
    """
    from envelope.files import decrypt_file

    stores = stores_of(out, storage, list(paths), keys, context)
    handover = Handover(cache(lambda: keys.ring(out)), context.verb())
    if not all(map(enveloped, paths)):
        handover.ring()

    def show(found: Input, on_progress: OnProgress) -> Callable[[], None]:
        if found.place is not None and enveloped(found.path):
            with found.place.fs.open(found.place.path, "rb") as file, standard_output(out) as to:
                done = 0
                while piece := file.read(_PIECE):
                    to.write_all(piece)
                    done += len(piece)
                    on_progress(done, None)
            return lambda: None
        source: Any = standard_input(out) if found.path == "-" else found.place or found.path
        with standard_output(out) as file:
            given = handover.reading(source)
            decrypt_file(
                target=file.as_target(), on_progress=on_progress, **given, **work.verb(out)
            )
        return lambda: None

    out.data_goes_out()
    with progress_bar(out, work.progress, lambda: None) as bar:
        found = inputs(paths, recursive=False, stores=stores)
        several = len(paths) > 1 or any(is_url(path) and has_magic(path) for path in paths)
        return each(out, found, show, bar=bar, several=several)
