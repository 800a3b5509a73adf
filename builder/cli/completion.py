"""`completion`: the script that makes a shell complete tdx-builder's commands and options."""

import click
from click.shell_completion import get_completion_class

from builder.errors import BuilderError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script of SHELL.

    For bash: `tdx-builder completion bash > ~/.local/share/bash-completion/completions/tdx-builder`
    """
    from builder.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise BuilderError(f"no completion for shell {shell!r}")
    click.echo(kind(cli, {}, "tdx-builder", "_TDX_BUILDER_COMPLETE").source())
    return 0
