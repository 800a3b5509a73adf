"""The command runner: errors one can act on, and nothing left running."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from builder.backends.output_pump import read_pipe
from builder.backends.process import run, start
from builder.errors import BuildFailedError, FetchError, MissingError


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie that waits for whoever inherits it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_killed(pid: int) -> bool:
    """Whether a process goes away: the kernel may still be at it when the kill returns, so this waits, but not for
    ever, and far less than the 1000 seconds that the processes here would live."""
    for _ in range(3000):
        if not is_running(pid):
            return True
        time.sleep(0.01)
    return False


def running_with(argument: str) -> list[int]:
    """The processes that have `argument` somewhere in their command line."""
    lines = {path: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if is_running(int(path.parts[2]))}
    return [int(path.parts[2]) for path, line in lines.items() if argument.encode() in line]


def test_output_and_status_are_returned() -> None:
    completed = run(["sh", "-c", "echo out; echo err >&2; exit 3"], accept=(3,))

    assert (completed.status, completed.stdout, completed.stderr) == (3, b"out\n", b"err\n")


def test_input_larger_than_a_pipe_reaches_the_program() -> None:
    data = os.urandom(1 << 20)

    assert run(["cat"], input=data).stdout == data


def test_program_that_does_not_read_its_input_is_no_error() -> None:
    assert run(["true"], input=bytes(1 << 20)).status == 0


def test_failure_prints_a_command_that_can_be_pasted_and_fails_the_same_way(tmp_path: Path) -> None:
    argv = ["sh", "-c", 'echo "$X"; pwd; exit 7', "a b", "it's"]
    with pytest.raises(BuildFailedError) as caught:
        run(argv, environment={"X": "1 2", "PATH": os.environ["PATH"]}, cwd=tmp_path)

    pasted = caught.value.message.split("command: ", 1)[1].splitlines()[0]
    again = subprocess.run(["sh", "-c", pasted], capture_output=True, check=False)
    assert again.returncode == 7
    assert again.stdout.decode() == f"1 2\n{tmp_path}\n"


def test_failure_shows_the_end_of_the_output_and_not_its_beginning() -> None:
    with pytest.raises(BuildFailedError) as caught:
        run(["sh", "-c", "seq 1 100000; echo the reason >&2; exit 1"])

    assert "exit status 1" in caught.value.message
    assert "the reason" in caught.value.message
    assert "    100000" in caught.value.message
    assert "\n    5\n" not in caught.value.message


def test_failure_raises_the_callers_kind_of_error() -> None:
    with pytest.raises(FetchError):
        run(["false"], failure=FetchError)


def test_death_by_a_signal_is_named() -> None:
    with pytest.raises(BuildFailedError, match="signal SIGKILL"):
        run(["sh", "-c", "kill -9 $$"])


def test_missing_program_names_the_debian_package_to_install() -> None:
    with pytest.raises(MissingError, match="cannot run bwrap") as caught:
        run(["bwrap"], environment={"PATH": "/nonexistent"})

    assert "bubblewrap" in str(caught.value.hint)


def test_missing_directory_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(BuildFailedError, match="nowhere"):
        run(["true"], cwd=tmp_path / "nowhere")


def test_file_that_is_not_executable_is_missing(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("")

    with pytest.raises(MissingError, match="Permission denied"):
        run([str(tmp_path / "program")])


def test_environment_is_exactly_the_one_given() -> None:
    assert run(["/usr/bin/env"], environment={"ONLY": "this"}).stdout == b"ONLY=this\n"


def test_messages_are_not_translated_by_default() -> None:
    assert b"LC_ALL=C.UTF-8\n" in run(["/usr/bin/env"]).stdout


def test_umask_and_directory_are_the_programs(tmp_path: Path) -> None:
    assert run(["sh", "-c", "umask; pwd"], umask=0o027, cwd=tmp_path).stdout == f"0027\n{tmp_path}\n".encode()


def test_descriptors_are_passed_on_request_only() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        with pytest.raises(BuildFailedError):
            run(["sh", "-c", f"echo hello >/dev/fd/{writer}"])
        run(["sh", "-c", f"echo hello >/dev/fd/{writer}"], pass_fds=(writer,))
        assert os.read(reader, 100) == b"hello\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_log_gets_both_streams_and_nothing_is_kept() -> None:
    chunks: list[bytes] = []
    completed = run(["sh", "-c", "echo one; echo two >&2; echo three"], log=chunks.append)

    assert b"".join(chunks) == b"one\ntwo\nthree\n"
    assert (completed.stdout, completed.stderr) == (b"", b"")


def test_failure_with_a_log_still_shows_the_end() -> None:
    with pytest.raises(BuildFailedError, match="last words"):
        run(["sh", "-c", "echo last words; exit 1"], log=lambda _: None)


def test_log_that_fails_is_an_error_of_the_run_and_does_not_block_the_program() -> None:
    def full(_: bytes) -> None:
        raise MissingError("log: No space left on device")

    with pytest.raises(MissingError, match="No space"):
        run(["head", "-c", "1000000", "/dev/zero"], log=full)


def test_log_of_a_started_program_that_fails_is_an_error_at_the_end_of_the_block() -> None:
    def full(_: bytes) -> None:
        raise MissingError("log: No space left on device")

    def work() -> None:
        with start(["echo", "hello"], log=full) as program:
            program.wait(30)

    with pytest.raises(MissingError, match="No space"):
        work()


def test_program_can_be_killed_from_another_thread() -> None:
    with start(["sleep", "1000"]) as program:
        threading.Thread(target=program.kill).start()
        assert program.wait(60) == -signal.SIGKILL
        program.kill()  # harmless once it has ended


def test_timeout_kills_the_whole_process_group() -> None:
    mark = f"1000.{os.getpid()}"  # found again in the command line of every process of the group
    with pytest.raises(BuildFailedError, match="did not end within"):
        run(["sh", "-c", f"sleep {mark} & sleep {mark}; true"], timeout=0.5)

    assert all(is_killed(pid) for pid in running_with(mark))


def test_what_a_program_leaves_in_the_background_is_killed_when_it_ends() -> None:
    pid = int(run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]).stdout)

    assert is_killed(pid)


def test_background_child_that_holds_the_output_open_does_not_block_the_run() -> None:
    assert run(["sh", "-c", "sleep 1000 & echo done"]).stdout == b"done\n"


def test_exception_in_the_block_kills_the_program() -> None:
    pids = []

    def fail() -> None:
        with start(["sleep", "1000"]) as program:
            pids.append(program.pid)
            assert program.running()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert is_killed(pids[0])


def test_end_of_the_block_kills_the_program() -> None:
    with start(["sleep", "1000"]) as program:
        assert program.wait(0) is None

    assert is_killed(program.pid)
    assert not program.running()


def test_keyboard_interrupt_kills_the_program(tmp_path: Path) -> None:
    """In a process of its own, since the interrupt is a real one."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from builder.backends.process import run\n"
        "def log(data):\n"
        "    sys.stdout.buffer.write(data); sys.stdout.flush()\n"
        "run(['sh', '-c', 'echo $$; exec sleep 1000'], log=log)\n"
    )
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert is_running(pid)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)

    assert b"KeyboardInterrupt" in errors
    assert is_killed(pid)


def test_interactive_program_answers_while_it_runs() -> None:
    errors: list[bytes] = []
    with start(
        ["sh", "-c", "read x; echo got $x; echo aside >&2; read y"], interactive=True, log=errors.append
    ) as program:
        program.stdin.write(b"hello\n")
        assert program.stdout.readline() == b"got hello\n"
        program.stdin.write(b"\n")
        assert program.wait(30) == 0

    assert b"".join(errors) == b"aside\n"


def test_program_that_is_not_interactive_has_no_pipes_for_the_caller() -> None:
    with start(["cat"]) as program:
        assert program.wait(30) == 0  # its input is empty


def test_status_of_a_started_program_can_be_asked_for_twice() -> None:
    with start(["sh", "-c", "exit 5"]) as program:
        assert program.wait(30) == 5
        assert program.wait(30) == 5


def test_programs_run_side_by_side_do_not_share_output() -> None:
    outputs: dict[int, bytes] = {}

    def work(number: int) -> None:
        outputs[number] = run(["sh", "-c", f"seq 1 2000; echo {number}"]).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [outputs[number].splitlines()[-1] for number in range(8)] == [b"%d" % number for number in range(8)]
    assert all(output.count(b"\n") == 2001 for output in outputs.values())


def test_command_in_the_error_is_quoted_word_by_word() -> None:
    with pytest.raises(BuildFailedError) as caught:
        run(["false", "a b", "$HOME", ""])

    assert shlex.join(["false", "a b", "$HOME", ""]) in caught.value.message


def test_a_program_whose_log_refuses_what_it_says_is_ended() -> None:
    """Else one that never stops talking would run for ever, with nobody listening."""

    def refuse(data: bytes) -> None:
        raise BuildFailedError(f"enough after {data[:1]!r}")

    with pytest.raises(BuildFailedError, match="enough after b'y'"):
        run(["yes"], log=refuse)
    with pytest.raises(BuildFailedError, match="enough after b'y'"), start(["yes"], log=refuse) as program:
        assert program.wait(60) == -signal.SIGKILL


def test_a_pipe_that_is_closed_while_somebody_still_holds_the_other_end_is_an_end() -> None:
    """Such as one who left the group of the program: a thread that read on must not end as a bug on stderr."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb", buffering=0) as held:
        pipe = os.fdopen(read_end, "rb", buffering=0)
        output = read_pipe(pipe)
        held.write(b"early")
        assert next(output) == b"early"
        pipe.close()
        assert list(output) == []
