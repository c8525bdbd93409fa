"""``encrypt``, ``decrypt``, ``reencrypt`` and ``cat``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envelope.cli.batch import each
from envelope.cli.jobs import ENCRYPTING, READING, RENEWING, FileOptions, Job, Paths, TargetOptions
from envelope.cli.options import ContextOptions, KeyOptions, WorkOptions, WritingKeyOptions
from envelope.cli.output import Output
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.standard import standard_input, standard_output
from envelope.cli.trees import Input, inputs
from envelope.sources import OnProgress

__all__ = ["cat", "decrypt", "encrypt", "reencrypt"]


@examples(
    "envelope encrypt report.csv",
    "envelope encrypt report.csv --key local:lake --out report.env1 --context table=orders",
    "envelope encrypt -r data --out sealed --jobs 4",
    "tar c data | envelope encrypt - --out data.tar.env1",
)
def encrypt(
    out: Output,
    paths: Paths,
    files: FileOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    work: WorkOptions,
) -> int:
    """Encrypt files, folders or standard input.

    Without --out, FILE becomes FILE.env1 beside it. A folder's files go into the
    folder --out under the same names, or stay beside their sources. What -r finds done and
    intact it skips, so an interrupted run can be repeated.
    """
    from envelope.files import encrypt_file

    job = Job(out, ENCRYPTING, paths, files, work, keys.ring(out), context.verb())
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

    job = Job(out, READING, paths, files, work, keys.ring(out), context.verb())
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
) -> int:
    """Encrypt files anew, under a fresh key: what revokes somebody's access.

    Rewrapping does not: who opened a file before may have kept its key. Without --out
    each file is replaced, as a whole.
    """
    from envelope.files import reencrypt as verb

    job = Job(out, RENEWING, paths, files, work, keys.ring(out), context.verb())
    return job.run(verb)


@examples(
    "envelope cat report.csv.env1 | head",
    "envelope cat part-*.env1 --trust local:lake > whole.csv",
)
def cat(
    out: Output, paths: Paths, keys: KeyOptions, context: ContextOptions, work: WorkOptions
) -> int:
    """Decrypt files to standard output, one after the other."""
    from envelope.files import decrypt_file

    given = {"keys": keys.ring(out), **context.verb(), **work.verb(out)}

    def show(found: Input, on_progress: OnProgress) -> Callable[[], None]:
        source: Any = standard_input(out) if found.path == "-" else found.path
        with standard_output(out) as file:
            decrypt_file(source, file.as_target(), on_progress=on_progress, **given)
        return lambda: None

    out.data_goes_out()
    with progress_bar(out, work.progress, lambda: None) as bar:
        found = inputs(paths, recursive=False)
        return each(out, found, show, bar=bar, several=len(paths) > 1)
