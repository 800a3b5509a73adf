"""Progress on stderr: which steps run, and what became of them."""

import pytest

from builder.cli.progress import _Bars, progress_display


def test_in_a_pipe_each_step_has_a_line_when_it_starts_and_one_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display() as progress:
        progress.start("leg a", 2)
        progress.start("leg a: kernel")
        progress.finish("leg a: kernel")
        progress.advance("leg a", 1)
        progress.finish("leg a", "6 artefacts")
    out, errors = capsys.readouterr()
    lines = [line.rpartition(" (")[0] or line for line in errors.splitlines()]
    assert lines == ["leg a ...", "leg a: kernel ...", "leg a: kernel: done", "leg a: 6 artefacts"]
    assert out == ""


def test_on_a_terminal_a_step_that_ended_leaves_a_line_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with _Bars() as bars:
        bars.start("leg a", 2)
        bars.start("leg a: kernel")
        bars.finish("leg a: kernel", "nothing to do [at all]")
        bars.advance("leg a", 2)
        bars.finish("leg a", "6 artefacts")
    _, errors = capsys.readouterr()
    assert errors.count("leg a: kernel") == 1
    assert "leg a: kernel: nothing to do [at all] (" in errors
    assert "6 artefacts" in errors


def test_a_task_may_come_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with _Bars() as bars:
        for _ in range(2):
            bars.start("unpack tools", 10)
            bars.advance("unpack tools", 10)
            bars.finish("unpack tools", "3 packages")
    assert capsys.readouterr().err.count("3 packages") == 2
