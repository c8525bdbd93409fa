"""Files through a verb: one, several, a folder, or standard input and output."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envelope.cli.batch import each
from envelope.cli.options import WorkOptions
from envelope.cli.output import Output, amount
from envelope.cli.progress import progress_bar
from envelope.cli.removal import remove_unchanged
from envelope.cli.standard import standard_input, standard_output
from envelope.cli.targets import DEFAULT_SUFFIX, Direction, Targets, adding, in_place, removing
from envelope.cli.trees import Input, Skipped, is_remote, total_size
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyNotFound,
    KeyUnusable,
    VaultUnavailable,
)
from envelope.sources import OnProgress

if TYPE_CHECKING:
    from envelope.files import FileResult
    from envelope.ring import KeyRing

__all__ = [
    "ENCRYPTING",
    "READING",
    "RENEWING",
    "FileOptions",
    "Job",
    "Paths",
    "Recursive",
    "TargetOptions",
]

ENCRYPTING = Direction("encrypted", adding)
READING = Direction("decrypted", removing)
RENEWING = Direction("encrypted anew", in_place, repeats=False)

# While encrypting, these are about the keys and so about every input.
_ABOUT_KEYS = (KeyUnusable, KeyNotFound, VaultUnavailable)

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files, URLs, folders with -r, or - for a pipe."),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Go through folders. Symbolic links are skipped.")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Files at a time.")]


@dataclass(frozen=True)
class TargetOptions:
    """From where to where."""

    recursive: Recursive = False
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="PATH", help="Target file or folder; - for a pipe."),
    ] = None
    jobs: Jobs = 1
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing targets.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")
    ] = False
    no_durable: Annotated[
        bool, typer.Option("--no-durable", help="Do not wait until targets are on the disk.")
    ] = False


@dataclass(frozen=True)
class FileOptions(TargetOptions):
    """The same where sources and targets have different names."""

    suffix: Annotated[
        str | None,
        typer.Option("--suffix", metavar="TEXT", help="Suffix of encrypted files [.env1]."),
    ] = None
    remove_source: Annotated[
        bool,
        typer.Option("--remove-source", help="Remove each source once its target is proven."),
    ] = False


class Job:
    """One command's work on files.

    Args:
        out: Prints.
        direction: What is done.
        paths: The inputs as they were given.
        files, work: The options.
        ring: The keys.
        bound: What is bound to the data, as the verbs take it.
    """

    def __init__(
        self,
        out: Output,
        direction: Direction,
        paths: list[str],
        files: TargetOptions,
        work: WorkOptions,
        ring: KeyRing,
        bound: dict[str, Any],
    ) -> None:
        defaults = out.configuration().files
        suffix, self._remove = "", False
        if isinstance(files, FileOptions):
            suffix = defaults.get("suffix", DEFAULT_SUFFIX)
            suffix = suffix if files.suffix is None else files.suffix
            self._remove = files.remove_source
        self._out, self._direction, self._paths = out, direction, paths
        self._files, self._work, self._ring, self._bound = files, work, ring, bound
        self._durable = not files.no_durable and defaults.get("durable", True)
        self._given = {**bound, **work.verb(out), "keys": ring}
        self._targets = Targets(
            direction, paths, recursive=files.recursive, out=files.out, suffix=suffix
        )
        self._done = self._bytes = 0
        self._check_removal()

    def run(self, verb: Callable[..., FileResult]) -> int:
        """Do it; returns the exit status."""
        if self._paths == ["-"] or self._files.out == "-":
            return self._stream(verb)
        targets, started = self._targets, time.monotonic()
        with progress_bar(
            self._out, self._work.progress, lambda: total_size(targets.inputs())
        ) as bar:
            status = each(
                self._out,
                targets.inputs(),
                partial(self._one, verb),
                bar=bar,
                several=targets.several,
                jobs=self._files.jobs,
                fatal=_ABOUT_KEYS if self._direction is ENCRYPTING else (),
            )
        if targets.several and not self._out.options.json and not self._files.dry_run:
            self._out.result({}, self._summary(time.monotonic() - started))
        return status

    # --- One file -------------------------------------------------------------------------------

    def _one(
        self, verb: Callable[..., FileResult], found: Input, on_progress: OnProgress
    ) -> Callable[[], None]:
        source, files = found.path, self._files
        if files.dry_run:
            target = self._targets.of(found)
            document = {"source": source, "target": target, "dry_run": True}
            return partial(self._out.result, document, f"{source} -> {target}")
        target = self._targets.claim(found)
        here = target if self._direction is RENEWING and files.out is None else None
        before = None if is_remote(source) else os.stat(source)
        if before and found.status and self._direction.repeats and self._is_done(source, target):
            on_progress(before.st_size, None)
            if self._remove:
                remove_unchanged(source, before)
            return partial(
                self._out.skipped, Skipped(source, "done before", told=self._out.options.json)
            )
        result = verb(
            source,
            None if here else target,
            overwrite=files.force or here is not None,
            on_progress=on_progress,
            durable=self._durable,
            **self._given,
        )
        if before and found.status and not here:
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        if before and self._remove:
            self._prove(target)
            remove_unchanged(source, before)
        return partial(self._report, result, quiet=found.status is not None)

    def _report(self, result: FileResult, *, quiet: bool) -> None:
        self._done += 1
        self._bytes += result.size
        lines = [] if quiet else [f"{result.source} -> {result.target} ({amount(result.size)})"]
        self._out.result(result.to_json(), *lines)

    def _summary(self, seconds: float) -> str:
        files = "1 file" if self._done == 1 else f"{self._done} files"
        text = f"{self._direction.done} {files}, {amount(self._bytes)}, in {seconds:.1f} s"
        if self._out.skips:
            reasons = ", ".join(f"{why} {count}" for why, count in self._out.skips.items())
            text += f"; skipped {self._out.skips.total()} ({reasons})"
        if self._out.failures:
            text += f"; failed {self._out.failures}"
        return text

    # --- Done before, and proven ----------------------------------------------------------------

    def _is_done(self, source: str, target: str) -> bool:
        """Whether an earlier run finished this file: its target opens, and is that of the source.

        Opening proves header and end. The same modification time then says that
        the source was not changed since; otherwise, and before a source is
        removed, all of the plaintext is compared.
        """
        from envelope.streams import open as open_encrypted

        encrypting = self._direction is ENCRYPTING
        plain, sealed = (source, target) if encrypting else (target, source)
        if not os.path.isfile(target):
            return False
        try:
            with open_encrypted(sealed, keys=self._ring, **self._bound) as inside:
                status, other = os.stat(plain), os.stat(sealed)
                if inside.size != status.st_size:
                    return False
                if status.st_mtime_ns == other.st_mtime_ns and not self._remove:
                    return True
                if not _same_bytes(plain, inside):
                    return False
            read = status if encrypting else other
            os.utime(target, ns=(read.st_atime_ns, read.st_mtime_ns))
            return True
        except (EnvelopeError, OSError):
            return False  # what is wrong with it, the verb finds and says

    def _prove(self, target: str) -> None:
        if self._direction is ENCRYPTING:
            from envelope.inspection import verify

            verify(target, **self._given)

    def _check_removal(self) -> None:
        if not self._remove:
            return
        why = None
        if self._paths == ["-"] or self._files.out == "-" or any(map(is_remote, self._paths)):
            why = "needs files on both sides"
        elif self._files.no_durable:
            why = "does not go with --no-durable: a crash could take both files"
        elif _is_device(self._files.out):
            why = "needs files on both sides"
        if why:
            raise ConfigurationError(f"--remove-source {why}")

    # --- Pipes ----------------------------------------------------------------------------------

    def _stream(self, verb: Callable[..., FileResult]) -> int:
        if len(self._paths) > 1 or self._targets.several:
            raise ConfigurationError("--out - takes one input", next_step="See: envelope cat.")
        path, to = self._paths[0], self._files.out
        source: Any = standard_input(self._out) if path == "-" else path
        if self._files.dry_run:
            document = {"source": path, "target": to or "-", "dry_run": True}
            self._out.answer(document, f"{path} -> {to or '-'}")
            return 0
        given = {**self._given, "durable": self._durable, "overwrite": self._files.force}
        with progress_bar(self._out, self._work.progress, lambda: None) as bar:
            on_progress = bar.track(path)
            if to not in (None, "-"):
                result = verb(source, to, on_progress=on_progress, **given)
            else:
                with standard_output(self._out, encrypted=self._direction is not READING) as file:
                    result = verb(source, file.as_target(), on_progress=on_progress, **given)
        if to not in (None, "-"):
            self._report(result, quiet=False)
        elif self._out.options.json:
            self._out.result(result.to_json())
        return 0


def _is_device(path: str | None) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    if path is None or not os.path.exists(path):
        return False
    return not os.path.isfile(path) and not os.path.isdir(path)


def _same_bytes(plain: str, inside: Any) -> bool:
    with open(plain, "rb") as file:
        while True:
            one, other = file.read(2**20), inside.read(2**20)
            if one != other:
                return False
            if not one:
                return True
