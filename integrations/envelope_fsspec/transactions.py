"""Transactions of the file system: what was closed in one is published at its end, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from fsspec.transaction import Transaction

from envelope.errors import UnfinishedWrite
from envelope_fsspec.writing import ObjectWriter

__all__ = ["Whole", "defer"]


class Whole(Transaction):  # type: ignore[misc]  # fsspec is not typed
    """A transaction that publishes only files that were closed in good order."""

    def complete(self, commit: bool = True) -> None:
        """Publish or discard.

        Raises:
            UnfinishedWrite: A file is still open, so nobody knows whether it is whole. Nothing of
                the transaction was published.
        """
        unfinished = [file.path for file in self.files if not file.closed] if commit else []
        super().complete(commit and not unfinished)
        if unfinished:
            raise UnfinishedWrite(
                "not closed when its transaction ended; nothing of that was published",
                path=unfinished[0],
            )


def defer(transaction: Any, start: Callable[[], ObjectWriter], data: Any) -> None:
    """Write a file, from a path or a binary file object, that the transaction publishes."""
    named = isinstance(data, (str, os.PathLike))
    with open(data, "rb") if named else nullcontext(data) as source, start() as writer:
        shutil.copyfileobj(source, writer)
    transaction.files.append(writer)
