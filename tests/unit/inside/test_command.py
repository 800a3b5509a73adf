"""Starting programs inside a leg: what they say goes to the log, and a failure is never passed over."""

import os
import sys
from pathlib import Path

import pytest

from builder.errors import BuildFailedError, MissingError
from builder.inside.command import cpus, run

PYTHON = sys.executable


def test_command_and_output_are_in_the_log_in_their_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run((PYTHON, "-c", "import sys; print('out'); print('err', file=sys.stderr)"), cwd=tmp_path)
    out, err = capfd.readouterr()
    assert out.splitlines()[0].startswith(f"+ {PYTHON} -c ")
    assert out.splitlines()[1:] == ["out"]
    assert err == "err\n"


def test_it_runs_where_it_is_told_to(tmp_path: Path) -> None:
    run((PYTHON, "-c", "open('here', 'w').close()"), cwd=tmp_path)
    assert (tmp_path / "here").exists()


def test_the_environment_is_added_to_that_of_the_leg(tmp_path: Path) -> None:
    script = "import os, sys; sys.exit(os.environ['NEW'] != 'value' or os.environ['PATH'] != sys.argv[1])"
    run((PYTHON, "-c", script, os.environ["PATH"]), cwd=tmp_path, environment={"NEW": "value"})
    assert "NEW" not in os.environ


def test_nothing_can_be_asked_of_a_person(tmp_path: Path) -> None:
    run((PYTHON, "-c", "import sys; sys.exit(sys.stdin.read() != '')"), cwd=tmp_path)


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("raise SystemExit(7)", "exit status 7"),
        ("import os; os.kill(os.getpid(), 9)", "signal SIGKILL"),
        ("import os; os.kill(os.getpid(), 40)", "signal 40"),
    ],
)
def test_a_failure_names_the_command_and_how_it_ended(tmp_path: Path, script: str, how: str) -> None:
    with pytest.raises(BuildFailedError) as caught:
        run((PYTHON, "-c", script), cwd=tmp_path)
    assert caught.value.message.startswith(f"{PYTHON} -c ")
    assert caught.value.message.endswith(f" ended with {how}")
    assert "\n" not in caught.value.message


def test_a_program_that_the_root_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"^cannot run no-such-program --fast in .*: No such file") as caught:
        run(("no-such-program", "--fast"), cwd=tmp_path)
    assert "no-such-program" in (caught.value.hint or "")


def test_there_are_as_many_jobs_as_processors_that_may_be_used(tmp_path: Path) -> None:
    one = min(os.sched_getaffinity(0))
    script = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); from builder.inside.command import cpus; assert cpus() == 1"
    )
    run((PYTHON, "-c", script), cwd=Path(__file__).parents[3])
    assert cpus() == len(os.sched_getaffinity(0))
