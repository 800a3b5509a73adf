"""Help in groups: a person looks for what to measure, then for its machine, then for the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

Groups = Mapping[str, Sequence[str]]


class GroupedCommand(click.Command):
    """A command whose options stand under headings. `groups` names the parameters of each; the others come last."""

    def __init__(self, *arguments: Any, groups: Groups, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every group that has options, in the order of `groups`."""
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None
        }
        for title, names in self._groups.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(name) for name in names if name in records])
        with formatter.section("Other options"):
            formatter.write_dl(list(records.values()))


def given_options(context: click.Context) -> dict[str, str]:
    """The options on the command line: how each is spelled, by the name of its parameter."""
    return {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None
        and isinstance(parameter, click.Option)
        and context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
    }
