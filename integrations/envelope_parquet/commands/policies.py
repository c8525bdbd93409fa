"""The options that say which columns are under which keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from envelope.cli.output import Output
from envelope.errors import ConfigurationError
from envelope_parquet.commands.options import pairs, verb_of

if TYPE_CHECKING:
    from envelope_parquet.policy import ColumnPolicy

__all__ = ["FormOptions", "PolicyOptions"]


@dataclass(frozen=True)
class PolicyOptions:
    """Which columns are under which keys: a policy of the configuration, or these options."""

    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", metavar="NAME", help="The column policy of this name in the configuration."
        ),
    ] = None
    footer: Annotated[
        str | None,
        typer.Option(
            "--footer",
            metavar="KEY",
            help="A key or alias for the footer, and columns that nothing names.",
        ),
    ] = None
    column: Annotated[
        list[str],
        typer.Option(
            "--column",
            metavar="PATH=KEY",
            help="A key or alias for this column, all that are in it, or a glob's; several with "
            "commas. May be repeated.",
        ),
    ] = field(default_factory=list)
    tag: Annotated[
        list[str],
        typer.Option(
            "--tag",
            metavar="TAG=KEY",
            help="A key or alias for columns whose metadata has envelope.key=TAG. May be repeated.",
        ),
    ] = field(default_factory=list)
    others: Annotated[
        str | None,
        typer.Option(
            "--others",
            metavar="KEY",
            help="For columns that nothing names, instead of the footer's key; plain leaves them.",
        ),
    ] = None
    require: Annotated[
        list[str],
        typer.Option(
            "--require",
            metavar="PATH",
            help="Refuse files of which this column has no key of its own. May be repeated.",
        ),
    ] = field(default_factory=list)
    plaintext_footer: Annotated[
        bool,
        typer.Option("--plaintext-footer", help="Sign the footer, and leave it readable."),
    ] = False

    def made_or_kept(self, out: Output) -> ColumnPolicy | None:
        """The policy; ``None`` where no option says anything: files keep theirs.

        Raises:
            ConfigurationError: Both kinds.
        """
        return self.made(out) if self != PolicyOptions() else None

    def made(self, out: Output) -> ColumnPolicy:
        """The policy.

        Raises:
            ConfigurationError: There is none, or both kinds.
        """
        given = bool(self.column or self.tag or self.others or self.require)
        if self.policy is not None:
            if given or self.footer or self.plaintext_footer:
                raise ConfigurationError("--policy says all of it; leave the other options out")
            from envelope_parquet.policy import from_config

            return from_config(out.configuration().parquet, self.policy)
        if self.footer is None:
            raise ConfigurationError(
                "which columns are under which keys is not said",
                next_step="Give --footer KEY and --column PATH=KEY, or --policy NAME.",
            )
        columns: dict[str, list[str]] = {}
        for paths, key in pairs(self.column, "--column").items():
            columns.setdefault(key, []).extend(paths.split(","))
        policy: ColumnPolicy = verb_of("ColumnPolicy")(
            footer=self.footer,
            columns=columns,
            tags=pairs(self.tag, "--tag"),
            others=self.others,
            require=self.require,
            plaintext_footer=self.plaintext_footer,
        )
        return policy


@dataclass(frozen=True)
class FormOptions:
    """For whom key material is written."""

    interop: Annotated[
        str | None,
        typer.Option(
            "--interop",
            metavar="spark",
            help="Write key material that Spark reads with a client of the same vault.",
        ),
    ] = None
    external: Annotated[
        bool,
        typer.Option(
            "--external", help="With --interop, put key material into a file beside each."
        ),
    ] = False

    def given(self) -> dict[str, str | None]:
        """The arguments of the verbs."""
        return {"interop": self.interop, "material": "external" if self.external else "internal"}
