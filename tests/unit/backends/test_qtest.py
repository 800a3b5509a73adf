"""The qtest protocol against a QEMU in memory that answers badly."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.backends.emulator.qtest import PciAddress, Qtest
from builder.errors import NotProvenError
from tests.fakes.fake_qtest import HOST_BRIDGE_ID, FakeQemu


def qemu_answering(answer: Callable[[str], str]) -> FakeQemu:
    qemu = FakeQemu(build=lambda _: {})
    qemu.answer = lambda _, honest: answer(honest)
    return qemu


def test_memory_is_read_back_as_it_was_written() -> None:
    qtest = Qtest(FakeQemu(build=lambda _: {}))
    qtest.write_memory(0x1234, bytes(range(256)) * 20)
    assert qtest.read_memory(0x1234, 5120) == bytes(range(256)) * 20


def test_configuration_space_is_reached_byte_by_byte() -> None:
    qtest = Qtest(FakeQemu(build=lambda _: {}))
    bridge = PciAddress(0, 0)
    assert qtest.read_config(bridge, 0) == HOST_BRIDGE_ID
    qtest.write_config(bridge, 0x52, 0xAB, size=1)
    qtest.write_config(bridge, 0x50, 0x1234, size=2)
    assert qtest.read_config(bridge, 0x50) == 0x00AB1234


def test_interrupt_lines_before_an_answer_are_skipped() -> None:
    qtest = Qtest(qemu_answering(lambda honest: "IRQ raise 4\nIRQ lower 4\n" + honest))
    assert qtest.read_memory(0, 2) == bytes(2)
    assert qtest.read_port(0x80) == 0


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "OK",
        "OK\n",
        "OK 0x\n",
        "OK 0x00\n",
        "OK 0x00000000000000000\n",
        "OK 0x000000000000000\n",
        "OK 0x00000000000000zz\n",
        "OK 000000000000000000\n",
        "OK 0x 00000000000000\n",
        "OK -0x00000000000000\n",
        "OKAY 0x0000000000000000\n",
        "ok 0x0000000000000000\n",
        "FAIL Unknown command 'read'\n",
        "ERR\n",
        "\n",
        "\0\xff\n",
        "IRQ raise 4\n",
    ],
)
def test_anything_but_the_whole_answer_is_an_error(answer: str) -> None:
    with pytest.raises(NotProvenError):
        Qtest(qemu_answering(lambda _: answer)).read_memory(0x10, 8)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_answer_makes_up_memory(answer: str) -> None:
    qtest = Qtest(qemu_answering(lambda _: answer + "\n"))
    if answer.startswith("OK 0x"):
        return
    with pytest.raises(NotProvenError):
        qtest.read_memory(0x10, 8)


@given(st.integers(0, 20))
def test_a_truncated_answer_is_an_error(kept: int) -> None:
    whole = "OK 0x0000000000000000\n"
    with pytest.raises(NotProvenError):
        Qtest(qemu_answering(lambda _: whole[:kept])).read_memory(0x10, 8)


@pytest.mark.parametrize("answer", ["OK\n", "OK zero\n", "OK 12\n", "OK 0x12 0x13\n", "OK 0x\n"])
def test_a_port_gives_a_number_or_an_error(answer: str) -> None:
    with pytest.raises(NotProvenError, match="wanted a number"):
        Qtest(qemu_answering(lambda _: answer)).read_port(0x80)


def test_a_line_without_end_is_not_read_for_ever() -> None:
    with pytest.raises(NotProvenError, match="a line of more than"):
        Qtest(qemu_answering(lambda _: "OK " + "0" * 100_000)).read_port(0x80)


def test_interrupt_lines_without_end_are_not_read_for_ever() -> None:
    with pytest.raises(NotProvenError, match="after the IRQ lines"):
        Qtest(qemu_answering(lambda _: "IRQ raise 4\n" * 100_000)).read_port(0x80)


def test_the_error_shows_command_and_answer() -> None:
    with pytest.raises(NotProvenError, match=r"'FAIL no\\x00such' .* to 'outb 0x80 0x1', wanted OK"):
        Qtest(qemu_answering(lambda _: "FAIL no\0such\n")).write_port(0x80, 1, size=1)
