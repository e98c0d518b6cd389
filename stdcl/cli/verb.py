"""What every verb is made of: its class, its groups, and the kinds of parameters they share."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from stdcl.errors import nearest


class Interrupted(Exception):
    """A verb was interrupted (Ctrl-C). The text says what to type, or what was left behind."""


class Refused(Exception):
    """The machine refuses what a verb needs: a full disk, a place that cannot be written. The text says which."""


_MACHINE_SAYS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
)
"""Errors of the machine and its file systems, whichever line of the program meets them."""


class Verb(click.Command):
    """A command whose function returns its exit code, or None for 0.

    Args:
        on_interrupt: what Ctrl-C leaves behind, and how to continue.
    """

    def __init__(self, *args: Any, on_interrupt: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self.on_interrupt = on_interrupt

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the name of each option of the class ``Several`` before every further value of it."""
        several = {name for option in self.params if isinstance(option, Several) for name in option.opts}
        return super().parse_args(ctx, list(_repeated(args, several)))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; Ctrl-C, and what the machine refuses, is said in the verb's own words."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(self.on_interrupt) from None
        except OSError as error:
            if error.errno not in _MACHINE_SAYS:
                raise
            named = error.filename2 or error.filename  # of two, the one that was to be replaced
            where = f"{named}: " if named else ""
            after = f"; {self.on_interrupt}" if self.on_interrupt else ""
            raise Refused(f"{where}{os.strerror(error.errno).lower()}{after}") from None


class Several(click.Option):
    """An option with one or more values: ``--baseline RUN RUN``, or the option repeated."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "multiple": True})

    def make_metavar(self, ctx: click.Context) -> str:
        """Return ``RUN...``."""
        return f"{super().make_metavar(ctx)}..."


def _repeated(words: Sequence[str], several: set[str]) -> Iterator[str]:
    current, bare = "", False
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        if word.startswith("-") and len(word) > 1:
            current, bare = (word if word in several else ""), True
        elif current and not bare:
            yield current
        elif current:
            bare = False
        yield word


class VerbGroup(click.Group):
    """Verbs of one noun. Unknown ones get the nearest spelling, also of verbs a level further down."""

    command_class = Verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return (name, verb, words left).

        Raises:
            UsageError: there is no such verb.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(f"there is no '{ctx.command_path} {name}'{self._meant(ctx, name)}", ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, name: str) -> str:
        own = self.list_commands(ctx)
        further = {
            word: f"{group} {word}"
            for group in own
            if isinstance(command := self.get_command(ctx, group), click.Group)
            for word in command.list_commands(ctx)
        }
        if name not in further and (found := nearest(name, own)):
            return found
        meant = nearest(name, further)
        for word, path in further.items():
            meant = meant.replace(f"'{word}'", f"'{path}'")
        return meant


def listed(names: Callable[[], Sequence[str]]) -> Callable[[click.Context, click.Parameter, str], str]:
    """Return a callback that accepts only the names that ``names`` returns when a value is given, and import paths."""

    def check(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
        allowed = names()
        if value not in allowed and ":" not in value:
            raise click.BadParameter(
                f"'{value}' is not one of {', '.join(allowed)}{nearest(value, allowed)}", ctx, parameter
            )
        return value

    return check


def command_line(*words: str | Path) -> str:
    """Return a ``stdcl`` command as a shell takes it."""
    return shlex.join(["stdcl", *map(str, words)])


class DataPath(click.ParamType[Path]):
    """A folder of prepared data, by the rule of ``data.path``: under $STDCL_DATA, then under the current folder.

    Args:
        made: the folder will be made, so the first place counts whether anything is there or not.
    """

    name = "path"

    def __init__(self, *, made: bool = False) -> None:
        self._made = made

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the folder that ``value`` means."""
        from stdcl.config.paths import data_path, data_places

        what = param.get_error_hint(ctx) if param is not None and ctx is not None else "path"
        return data_places(str(value), what=what)[0] if self._made else data_path(str(value), what=what)


STORE = DataPath()
"""A store that is there."""

NEW_STORE = DataPath(made=True)
"""A store to be made."""

PATH = click.Path(path_type=Path)
"""A path; what is there is checked by the code that reads it, whose messages say more."""

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one key, for example --set training.epochs=5 (repeatable).",
)
