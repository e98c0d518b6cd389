"""The command itself: finds the verbs, runs one, and turns what it raises into a message and an exit code."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache

import click

from stdcl import specs
from stdcl.cli.account import provide_account
from stdcl.cli.codes import BAD_INPUT, DONE, FAILED, INTERRUPTED
from stdcl.cli.console import outliving_streams
from stdcl.cli.verb import Interrupted, Refused, VerbGroup
from stdcl.errors import UserError

_FIRST = ("data", "runs", "sweeps", "operate", "reports")
"""Nouns in the order of help, before all others."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the process's exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    with outliving_streams() as streams:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        logging.getLogger("stdcl").setLevel(logging.INFO)
        if home := provide_account():
            print(f"note: no home folder is known; HOME is {home} for this command", file=sys.stderr)
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        for said in specs.passed_over():
            print(f"note: {said}; it is passed over", file=sys.stderr)
    return code or (FAILED if streams.incomplete() else DONE)


def _run(words: list[str]) -> int:
    try:
        with root().make_context("stdcl", words) as context:
            code = root().invoke(context)
        return DONE if code is None else int(code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return BAD_INPUT
    except click.UsageError as error:
        where = "" if error.ctx is None else f"; see '{error.ctx.command_path} --help'"
        print(f"error: {' '.join(error.format_message().split())}{where}", file=sys.stderr)
        return BAD_INPUT
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except Interrupted as error:
        print(f"interrupted{f'; {error}' if str(error) else ''}", file=sys.stderr)
        return INTERRUPTED
    except click.exceptions.Abort:
        print("interrupted; the question was not answered", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def nouns() -> Iterator[tuple[str, tuple[click.Command, ...]]]:
    """Yield (title, verbs) of each module of this package that has both, in the order of help."""
    names = [module.name for module in pkgutil.iter_modules([*importlib.import_module("stdcl.cli").__path__])]
    for name in sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)):
        module = importlib.import_module(f"stdcl.cli.{name}")
        if verbs := getattr(module, "VERBS", ()):
            yield module.TITLE, verbs


class _Root(VerbGroup):
    """All verbs, listed by noun."""

    def __init__(self) -> None:
        super().__init__(
            name="stdcl",
            help="Distributed sweeps for contrastive learning on skeleton sequences.",
            epilog="Prepared data are made under $STDCL_DATA, and looked up there, then in the current folder;"
            " results go to $STDCL_STORAGE (default: ./runs).",
            subcommand_metavar="VERB ...",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
            params=[
                click.Option(
                    ["--version"],
                    is_flag=True,
                    expose_value=False,
                    is_eager=True,
                    callback=_show_version,
                    help="Show the release and the code's digest, and exit.",
                )
            ],
        )
        self.sections: dict[str, list[str]] = {}
        for title, verbs in nouns():
            for verb in verbs:
                self.sections.setdefault(title, []).append(str(verb.name))
                self.add_command(verb)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in self.sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:<{width}}", self.commands[name].get_short_help_str(formatter.width)) for name in names]
                )


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from stdcl.version import code_version

        print(f"stdcl {code_version()}")
        ctx.exit()


@cache
def root() -> VerbGroup:
    """Return the command with every verb."""
    return _Root()
