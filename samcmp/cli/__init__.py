"""The command line. Each subcommand is a small module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

from samcmp.cli import diagnosis

try:
    import typer
    from typer.core import TyperCommand, TyperGroup
except Exception as error:  # without it no command can be read
    print(f"error: typer cannot be imported: {error}\nWhat is missing is marked so:", file=sys.stderr)
    diagnosis.print_plain()
    sys.exit(2)

from samcmp.cli import process, said
from samcmp.errors import SamcmpError, UsageError, unknown

HELP = {"help_option_names": ["-h", "--help"]}
# name -> (module, function, one line for --help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "compare": ("samcmp.cli.compare", "compare", "Compare optimizers on equal terms, and say which is worth it."),
    "train": ("samcmp.cli.train", "train", "Train one model with one optimizer."),
    "predict": ("samcmp.cli.predict", "predict", "Predict new molecules with trained models."),
    "profile": ("samcmp.cli.profile", "profile", "Measure throughput, memory and energy only, no accuracy."),
    "inspect": ("samcmp.cli.inspect", "inspect", "Look inside trainings: gradients, landscape, sharpness, attention."),
    "report": ("samcmp.cli.report", "report", "Render stored results again: tables, files, figures."),
    "fetch": ("samcmp.cli.fetch", "fetch", "Download datasets into the cache, or look into one."),
    "list": ("samcmp.cli.list", "list_", "Show the datasets, models, optimizers and suites."),
    "store": ("samcmp.cli.store", "store_", "Look after a store: list, size, prune."),
    "merge": ("samcmp.cli.merge", "merge", "Copy the results of several stores into one."),
    "doctor": ("samcmp.cli.doctor", "doctor", "Say what this machine has, what is missing and what to do."),
    "check": ("samcmp.cli.check", "check", "Try your own optimizer or model against every promise of the family."),
    "selfcheck": ("samcmp.cli.selfcheck", "selfcheck", "Measure the measuring: is this machine fit for comparisons?"),
}  # fmt: skip


class Single(TyperCommand):
    """A command that refuses a second value of an option that takes one: the first would be lost."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, given = self.make_parser(ctx).parse_args(args=[*args])
        for option in given:
            if option.param_type_name == "option" and _takes_one(option) and given.count(option) > 1:
                several = option.name in {"dataset", "model", "optimizer"}
                raise UsageError(
                    f"given {given.count(option)} times",
                    where=max(option.opts, key=len),
                    remedy=f"This command takes one{'; `samcmp compare` takes several' if several else ''}.",
                )
        if not ctx.resilient_parsing:
            from samcmp.cli.common import refuse_overwriting  # before anything is appended to a log that may be read

            refuse_overwriting({max(option.opts, key=len): values.get(option.name) for option in given})
        return super().parse_args(ctx, args)


def _takes_one(option: Any) -> bool:
    return not (option.multiple or option.is_flag or option.count)


class LazyGroup(TyperGroup):
    """Subcommands by name; ``samcmp --help`` lists them without importing one."""

    listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS]  # the module `list` hides the type here

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # completion asks for beginnings of names, too
                return None
            raise unknown("command", cmd_name, COMMANDS, where="samcmp")
        module, function, summary = COMMANDS[cmd_name]
        one = typer.Typer(add_completion=False, rich_markup_mode="rich")
        if self.listing:
            one.command(cmd_name, help=summary)(_listed)
        else:
            made = getattr(importlib.import_module(module), function)
            one.command(cmd_name, cls=Single, context_settings=HELP)(made)
        command = typer.main.get_command(one)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        _check_folder()
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError, OSError) as error:
            raise process.Carried from error
        except Exception as error:
            extra = re.search(r"unexpected extra arguments?.*\((.*)\)", str(getattr(error, "message", "")))
            if extra:
                raise UsageError(
                    f"{extra[1]!r} belongs to no option",
                    where=f"samcmp {ctx.invoked_subcommand}",
                    remedy="For several values repeat the option: -o adam -o sam.",
                ) from None
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False


def _listed() -> None:
    """Stand for a command in the list of ``samcmp --help``."""


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        from samcmp import __version__

        typer.echo(f"samcmp {__version__}")
        raise typer.Exit


@app.callback(
    context_settings=HELP,
    epilog="Start with [bold]samcmp compare[/bold]: it needs no download and takes about a minute.  "
    "Then, for example: [bold]samcmp compare --dataset esol --model gcn --optimizer adam --optimizer graphsam[/bold]",
)
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and leave.", is_eager=True, callback=_version
    ),
) -> None:
    """Which sharpness-aware optimizer is worth its cost on your molecular model, your data, your GPU?"""


def _check_folder() -> None:
    """Raise UsageError where the current folder has been deleted: nothing could be found or written from there."""
    try:
        os.getcwd()
    except OSError:
        raise UsageError(
            "has been deleted", where="the current folder", remedy="Change into one that is there: cd FOLDER."
        ) from None


def main() -> None:
    """Run the command line; a problem that the user can solve is one message and exit code 2, no traceback."""
    said.reset()
    process.open_streams()
    process.handle_signals()
    try:
        code = _run()
    except KeyboardInterrupt:
        process.say("\nInterrupted. Finished runs are kept; the same command goes on where it stopped.")
        code = process.exit_code(130)
    finally:
        process.close_streams()
    sys.exit(process.exit_code(code))


def _run() -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as carrier:
        error = carrier.__cause__ if isinstance(carrier, process.Carried) else carrier
        if isinstance(error, KeyboardInterrupt):
            raise error from None
        told = error if isinstance(error, SamcmpError) else process.explained(error or carrier)
        if sys.argv[1:2] == ["doctor"] and not isinstance(error, SamcmpError):
            diagnosis.print_plain()
            return 2
        if told is None:
            raise
        _print_error(told)
        return told.exit_code
    return 0


def _print_error(error: SamcmpError) -> None:
    try:
        from samcmp.cli.common import print_error

        print_error(error)
    except (ImportError, OSError, ValueError):  # a package is missing, or standard error takes nothing
        process.say(f"error: {error}")


if __name__ == "__main__":
    main()
