"""The entry point: every exit of every command goes through `main`."""

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

import click

from builder import __version__
from builder.cli.output import emit_error
from builder.cli.streams import note, prepare_streams
from builder.errors import BuilderError, ExitStatus

# verb -> (module, one-line help): a verb's module is imported only when it is used, so that --help starts fast
_VERBS = {
    "lock": ("builder.cli.inputs", "Pin every input of a recipe by digest."),
    "fetch": ("builder.cli.inputs", "Fetch the locked inputs into the store."),
    "export-inputs": ("builder.cli.inputs", "Write the locked inputs to one archive, for building without a network."),
    "build": ("builder.cli.build", "Build one leg, or both legs side by side."),
    "measure": ("builder.cli.measure", "Predict MRTD and RTMR0-2."),
    "rehearse": ("builder.cli.rehearse", "Boot under emulation and compare every measured event with the prediction."),
    "release": ("builder.cli.build", "Build twice, compare, measure, rehearse, sign and publish a manifest."),
    "verify": ("builder.cli.verify", "Check a manifest, and artefacts against it."),
    "diff": ("builder.cli.verify", "Compare two manifests, files or directories of artefacts."),
    "key": ("builder.cli.key", "Make and show signing keys."),
    "eventlog": ("builder.cli.evidence", "Show, replay or explain an event log."),
    "quote": ("builder.cli.evidence", "Show the registers of a quote."),
    "completion": ("builder.cli.completion", "Print the completion script of a shell."),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        command = getattr(import_module(_VERBS[cmd_name][0]), cmd_name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tdx-builder")
def cli() -> None:
    """Build confidential-VM images that a stranger can check.

    Exit status: 0 checked and good; 1 bytes differ; 2 usage or bad document; 3 a build failed; 4 an input could not be
    fetched; 5 a tool, key or engine is absent; 6 a register differs; 7 not verified; 8 not proven; 70 a bug;
    130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with one of `ExitStatus`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    prepare_streams()
    try:
        status = int(run(arguments))
    except KeyboardInterrupt:  # a second one, while the first was being told
        status = int(ExitStatus.INTERRUPTED)
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run the command line; gives the exit status, and lets no exception through."""
    signal.signal(signal.SIGTERM, _interrupt)
    as_json = "--json" in arguments
    try:
        status: Any = cli.main(args=arguments, prog_name="tdx-builder", standalone_mode=False)
        return int(status) if isinstance(status, int) else ExitStatus.OK
    except BuilderError as error:
        return emit_error(error, as_json=as_json)
    except click.ClickException as error:
        return _usage(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        return emit_error(_InterruptedError("interrupted"), as_json=as_json)
    except SystemExit:  # click's way to end on a closed pipe, with a status that would be a verdict
        return emit_error(_SystemError("the output could not be printed: Broken pipe"), as_json=as_json)
    except (OSError, MemoryError) as error:
        return emit_error(_system_error(error), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug must not look like a verdict
        return _bug(error, as_json=as_json)


class _InterruptedError(BuilderError):
    status = ExitStatus.INTERRUPTED


class _SystemError(BuilderError):
    status = ExitStatus.MISSING


class _BugError(BuilderError):
    status = ExitStatus.BUG


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _usage(error: click.ClickException, *, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context is not None else "see `tdx-builder --help`"
    return emit_error(BuilderError(error.format_message(), hint=hint), as_json=as_json)


def _system_error(error: OSError | MemoryError) -> BuilderError:
    """A full disk, a missing permission: the machine lacks something, and nothing was found out."""
    if isinstance(error, MemoryError):
        return _SystemError("out of memory", hint="this is no verdict; give it more memory and run again")
    where = f"{error.filename}: " if error.filename else ""
    return _SystemError(
        f"{where}{error.strerror or error}", hint="this is no verdict; make room or access and run again"
    )


def _bug(error: Exception, *, as_json: bool) -> int:
    import traceback

    note("".join(traceback.format_exception(error)).rstrip())
    return emit_error(
        _BugError(
            f"{type(error).__name__}: {error}",
            hint="this is a bug in tdx-builder; please report it with the lines above",
        ),
        as_json=as_json,
    )
