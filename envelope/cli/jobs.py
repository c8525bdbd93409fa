"""Files through a verb: one, several, a folder, or standard input and output."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from envelope.cli.batch import each
from envelope.cli.filing import FileOptions, TargetOptions, stores_of
from envelope.cli.finished import is_done, keep_time
from envelope.cli.handover import Handover, Side
from envelope.cli.options import ContextOptions, KeyOptions, WorkOptions
from envelope.cli.output import Output, amount
from envelope.cli.progress import progress_bar
from envelope.cli.removal import remove_unchanged
from envelope.cli.standard import standard_input, standard_output
from envelope.cli.stores import Place, enveloped
from envelope.cli.targets import DEFAULT_SUFFIX, Direction, Targets, adding, in_place, removing
from envelope.cli.trees import Input, Skipped, is_remote, total_size
from envelope.errors import (
    ConfigurationError,
    KeyNotFound,
    KeyUnusable,
    VaultUnavailable,
)
from envelope.sources import OnProgress

if TYPE_CHECKING:
    from envelope.files import FileResult

__all__ = ["ENCRYPTING", "READING", "RENEWING", "Job"]

ENCRYPTING = Direction("encrypted", adding)
READING = Direction("decrypted", removing)
RENEWING = Direction("encrypted anew", in_place, repeats=False)

# While encrypting, these are about the keys and so about every input.
_ABOUT_KEYS = (KeyUnusable, KeyNotFound, VaultUnavailable)


class Job:
    """One command's work on files.

    Args:
        out: Prints.
        direction: What is done.
        paths: The inputs as they were given.
        files, work, keys, context: The options.
        segment_length: Of new files; ``None`` for the default.
    """

    def __init__(
        self,
        out: Output,
        direction: Direction,
        paths: list[str],
        files: TargetOptions,
        work: WorkOptions,
        keys: KeyOptions,
        context: ContextOptions,
        segment_length: int | None = None,
    ) -> None:
        defaults = out.configuration().files
        suffix, self._remove = "", False
        if isinstance(files, FileOptions):
            suffix = defaults.get("suffix", DEFAULT_SUFFIX)
            suffix = suffix if files.suffix is None else files.suffix
            self._remove = files.remove_source
        self._out, self._direction, self._paths = out, direction, paths
        self._files, self._work = files, work
        self._durable = not files.no_durable and defaults.get("durable", True)
        self._given = work.verb(out)
        stores = stores_of(out, files, [*paths, files.out], keys, context, segment_length)
        self._handover = Handover(cache(lambda: keys.ring(out)), context.verb(), segment_length)
        if not all(enveloped(path or "") for path in _sealed(direction, paths, files.out)):
            self._handover.ring()  # what is wrong with the keys is wrong for all
        self._targets = Targets(
            direction,
            paths,
            recursive=files.recursive,
            out=files.out,
            suffix=suffix,
            stores=stores,
            select=files,
        )
        self._stores = stores
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
        if targets.several and not self._out.options.json:
            self._out.result({}, self._summary(time.monotonic() - started))
        return status

    # --- One file -------------------------------------------------------------------------------

    def _one(
        self, verb: Callable[..., FileResult], found: Input, on_progress: OnProgress
    ) -> Callable[[], None]:
        files, source = self._files, found.place or found.path
        if files.dry_run:
            return self._planned(found)
        target = self._targets.claim(found)
        here = self._direction is RENEWING and files.out is None
        before = None if found.place is not None else os.stat(found.path)
        again = found.listed or files.resume
        if again and not here and self._direction.repeats and self._is_done(found, target):
            on_progress(found.size() or 0, None)
            if before and self._remove:
                remove_unchanged(found.path, before)
            return partial(
                self._out.skipped, Skipped(found.path, "done before", told=self._out.options.json)
            )
        given = self._handover.writing(
            self._direction, source, None if here else target, overwrite=files.force
        )
        result = verb(
            **given,
            overwrite=files.force or here,
            on_progress=on_progress,
            durable=self._durable,
            **self._given,
        )
        shown = target.url if isinstance(target, Place) else target
        result = replace(result, source=found.path, target=shown)
        if found.listed and not here:
            keep_time(found, target)
        if before and self._remove:
            self._prove(target)
            remove_unchanged(found.path, before)
        return partial(self._report, result, quiet=found.listed)

    def _planned(self, found: Input) -> Callable[[], None]:
        target, size = self._targets.of(found), found.size()

        def report() -> None:
            self._done += 1
            self._bytes += size or 0
            document = {"source": found.path, "target": target, "size": size, "dry_run": True}
            self._out.result(document, f"{found.path} -> {target}")

        return report

    def _report(self, result: FileResult, *, quiet: bool) -> None:
        self._done += 1
        self._bytes += result.size
        lines = [] if quiet else [f"{result.source} -> {result.target} ({amount(result.size)})"]
        self._out.result(result.to_json(), *lines)

    def _summary(self, seconds: float) -> str:
        files = "1 file" if self._done == 1 else f"{self._done} files"
        if self._files.dry_run:
            text = f"would have {self._direction.done} {files}, {amount(self._bytes)}"
        else:
            text = f"{self._direction.done} {files}, {amount(self._bytes)}, in {seconds:.1f} s"
        if self._out.skips:
            reasons = ", ".join(f"{why} {count}" for why, count in self._out.skips.items())
            text += f"; skipped {self._out.skips.total()} ({reasons})"
        if self._out.failures:
            text += f"; failed {self._out.failures}"
        return text

    def _is_done(self, found: Input, target: Side) -> bool:
        return is_done(
            found,
            target,
            self._handover,
            encrypting=self._direction is ENCRYPTING,
            resume=self._files.resume,
            all_of_it=self._remove,
        )

    # --- Removing sources -----------------------------------------------------------------------

    def _prove(self, target: Side) -> None:
        if self._direction is ENCRYPTING:
            from envelope.inspection import verify

            verify(**self._handover.reading(target), **self._given)

    def _check_removal(self) -> None:
        if not self._remove:
            return
        why = None
        urls = [path for path in (*self._paths, self._files.out) if path and is_remote(path)]
        if urls:
            why = "needs files on both sides; see envelope migrate"
        elif self._paths == ["-"] or self._files.out == "-":
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
        source: Any = standard_input(self._out) if path == "-" else self._side(path)
        if self._files.dry_run:
            document = {"source": path, "target": to or "-", "size": None, "dry_run": True}
            self._out.answer(document, f"{path} -> {to or '-'}")
            return 0
        force = self._files.force
        given = {**self._given, "durable": self._durable, "overwrite": force}
        with progress_bar(self._out, self._work.progress, lambda: None) as bar:
            given["on_progress"] = bar.track(path)
            if to not in (None, "-"):
                both = self._handover.writing(
                    self._direction, source, self._side(to), overwrite=force
                )
                result = verb(**both, **given)
            else:
                with standard_output(self._out, encrypted=self._direction is not READING) as file:
                    goes: Any = file.as_target()
                    both = self._handover.writing(self._direction, source, goes, overwrite=True)
                    result = verb(**both, **given)
        if to not in (None, "-"):
            self._report(replace(result, target=to), quiet=False)
        elif self._out.options.json:
            self._out.result(result.to_json())
        return 0

    def _side(self, path: str) -> Side:
        return self._stores.at(path) if is_remote(path) else path


def _sealed(direction: Direction, paths: list[str], to: str | None) -> list[str | None]:
    """The sides of a command that are encrypted files."""
    return [to] if direction is ENCRYPTING else list(paths)


def _is_device(path: str | None) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    if path is None or not os.path.exists(path):
        return False
    return not os.path.isfile(path) and not os.path.isdir(path)
