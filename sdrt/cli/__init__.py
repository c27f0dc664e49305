"""The command line. Commands are loaded when they are run, so that `sdrt --help` is quick."""

from __future__ import annotations

import errno
import importlib
import sys
import traceback
import warnings
from typing import NoReturn

import click

import sdrt
from sdrt.cli.stopping import Stopping, stopping
from sdrt.cli.terminal import echo, echo_lines, output_failure, prepare_streams
from sdrt.errors import InputError, SdrtError

# name -> where the command is, what it does in a line
COMMANDS = {
    "export": ("sdrt_export.cli:export", "Turn a checkpoint into a bundle of graphs."),
    "generate": ("sdrt.cli.generate:generate", "Make pictures from a prompt."),
    "info": ("sdrt.cli.info:info", "Show what a bundle holds, or how a picture was made."),
    "verify": ("sdrt.cli.verify:verify", "Check every file of a bundle."),
    "samplers": ("sdrt.cli.samplers:samplers", "List the samplers, or show one in numbers."),
    "bench": ("sdrt_bench.cli:bench", "Measure speed and sameness against other programs."),
    "doctor": ("sdrt.cli.doctor:doctor", "Show what is installed, what is missing and how to get it."),
}

_NO_NAME = {errno.ENAMETOOLONG, errno.ELOOP}  # whatever asked for it, the user gave it


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        for one in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            if not any(parameter.name == "debug" for parameter in one.params):
                one.params.append(_debug_option())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _debug_option() -> click.Option:
    return click.Option(["--debug"], is_flag=True, expose_value=False, help="Show where an error comes from.")


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, params=[_debug_option()]
)
@click.version_option(sdrt.__version__, prog_name="sdrt")
def cli() -> None:
    """Stable Diffusion from exported graphs, without torch.

    \b
    sdrt generate "a large red circle on a blue background"
    sdrt export ./my-checkpoint -o engines/mine
    sdrt generate "a cat" -m mine --steps 20 --seed 1
    """


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong input, 128 + its number after a signal."""
    arguments = sys.argv[1:]
    before_prompt = arguments[: arguments.index("--")] if "--" in arguments else arguments
    prepare_streams()
    warnings.showwarning = _show_warning
    with stopping() as asked:
        try:
            code = _run(arguments, asked, debug="--debug" in before_prompt)
        except (click.exceptions.Abort, KeyboardInterrupt):
            code, asked.is_final = asked.exit_code, asked.number is not None
        sys.exit(code)


def _run(arguments: list[str], asked: Stopping, *, debug: bool) -> int:
    """The exit code of a command, after its error was printed. An error after a signal is none."""
    try:
        code = cli.main(arguments, prog_name="sdrt", standalone_mode=False)
    except click.exceptions.Abort:
        raise
    except (SdrtError, click.ClickException, MemoryError) as error:
        asked.check()
        if debug:
            echo_lines(traceback.format_exc(), err=True)
        return _report(error)
    except Exception as error:
        asked.check()
        if debug:
            echo_lines(traceback.format_exc(), err=True)
        if isinstance(error, OSError) and (failure := output_failure(error)) is not None:
            return _report(SdrtError(f"cannot write to standard output: {failure}"))
        if isinstance(error, OSError) and error.errno in _NO_NAME:
            return _report(
                InputError(f"cannot use the name {error.filename!r}: {error.strerror}; give another")
            )
        text = " ".join(str(error).split())
        echo(f"Error: {type(error).__name__}: {text}; this is a bug, --debug shows where", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _report(error: SdrtError | click.ClickException | MemoryError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        usage = f" See: {context.command_path} --help" if context else ""
        echo(f"Error: {' '.join(error.format_message().split())}{usage}", err=True)
        return error.exit_code
    if isinstance(error, MemoryError):
        echo("Error: out of memory; lower the width and height or the count", err=True)
        return 1
    echo(f"Error: {' '.join(str(error).splitlines())}", err=True)
    return error.exit_code


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    # only sdrt's own warnings are for the user; those of libraries are for their developers
    if category is UserWarning:
        echo(f"Warning: {' '.join(str(message).splitlines())}", err=True)
