"""Options in sections: the --help of a command with many is shown in parts, each kept in its own file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Section:
    """A decorator: its options, shown under `title`.

    gathered: makes one object of their values, by option name, which the command gets as `name`; without it
    the command gets each value by itself.
    """

    def __init__(
        self, title: str, *options: Decorator, name: str = "", gathered: Callable[..., Any] | None = None
    ) -> None:
        self.title = title
        self._options = options
        self._name = name
        self._gathered = gathered

    def __call__(self, command: Callable[..., Any]) -> Callable[..., Any]:
        """Add the options to a function that click makes a command of."""
        own = _parameters(lambda: None, self._options)
        for parameter in own:
            setattr(parameter, _SECTION, self.title)
        decorated = command if self._gathered is None else self._gathering(command, own)
        existing = list(getattr(command, _PARAMETERS, ()))
        setattr(decorated, _PARAMETERS, [*existing, *reversed(own)])
        return decorated

    def _gathering(self, command: Callable[..., Any], own: list[click.Parameter]) -> Callable[..., Any]:
        names = [parameter.name for parameter in own]
        gathered = self._gathered
        assert gathered is not None

        @functools.wraps(command)
        def called(**values: Any) -> Any:
            values[self._name] = gathered(**{name: values.pop(name) for name in names if name})
            return command(**values)

        return called


_PARAMETERS = "__click_params__"  # where click's decorators leave parameters, the last one first
_SECTION = "section"


def _parameters(function: Callable[..., Any], options: tuple[Decorator, ...]) -> list[click.Parameter]:
    for option in reversed(options):
        function = option(function)
    return list(reversed(getattr(function, _PARAMETERS)))


class SectionedCommand(click.Command):
    """A command whose --help shows each section under its title, in the order of their decorators."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all of them; click calls this."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, _SECTION, "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
