"""`rehearse` on the command line: options that are refused, and what people are shown."""

from dataclasses import replace
from pathlib import Path

import click
import pytest

from builder.cli.rehearse import Machine, events_table, rehearse, serial_tail, summary_lines
from builder.measure.rehearsal import rehearsal_of
from builder.model.rehearsal import BootEnd, Rehearsal
from tests.fakes.emulated_boot import acpi_with_tpm, honest_observation, observation, predicted, tpm_log
from tests.fakes.recipes import sample_recipe

HONEST = rehearsal_of(predicted(), honest_observation(predicted()))
LOG = tpm_log(predicted(), acpi_with_tpm())


def differing() -> Rehearsal:
    place = next(place for place, each in enumerate(LOG) if each.name == "kernel")
    return rehearsal_of(
        predicted(), observation((*LOG[:place], replace(LOG[place], digest="f" * 96), *LOG[place + 1 :]))
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kernel", "k"], "plain files need --firmware, --cmdline, --edk2 too"),
        (["--cmdline", ""], "plain files need --firmware, --kernel, --cmdline, --edk2 too"),
        (["--disk", "d", "--firmware", "f", "--kernel", "k", "--cmdline", "c"], "plain files need --edk2 too"),
        (["--edk2", "202502", "--artifacts", "a"], "--artifacts are those of RECIPE"),
        (
            ["--firmware", "f", "--kernel", "k", "--cmdline", "c", "--edk2", "202502", "--flavour", "dev"],
            "--flavour is of the artefacts of RECIPE",
        ),
        (["--timeout", "0"], "0.0 is not in the range"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        rehearse.main([str(tmp_path), *options], standalone_mode=False)
    assert message in raised.value.format_message()


def test_without_options_the_machine_is_the_smallest_of_the_recipe() -> None:
    recipe = sample_recipe()
    machine = Machine(None, None, None, ())
    assert machine.vmm(recipe) == recipe.measure.vmm
    assert machine.shape(recipe) == ((min(recipe.measure.vcpus),), (min(recipe.measure.memory),))


def test_options_of_the_machine_are_never_ignored() -> None:
    machine = Machine(0, "3G", "", ("serial",))
    assert machine.shape(sample_recipe()) == ((0,), (3 << 30,))
    assert (machine.vmm(sample_recipe()).machine, machine.vmm(sample_recipe()).devices) == ("", ("serial",))


def test_every_event_is_a_row() -> None:
    table = events_table(HONEST)
    assert len(table.rows) == len(HONEST.events)
    assert table.rows[0][:3] == ("mrtd", "-", "MRTD")
    assert {row[5] for row in table.rows} == {"agrees", "not rehearsable", "TPM only"}


def test_the_outcome_is_told_in_words() -> None:
    assert "rehearsal: what was measured is what was predicted (agrees: 19" in "\n".join(summary_lines(HONEST))
    lines = "\n".join(summary_lines(differing()))
    assert "something else was measured than was predicted" in lines
    assert "first: rtmr1: EV_EFI_BOOT_SERVICES_APPLICATION 'kernel' differs" in lines
    cut = summary_lines(rehearsal_of(predicted(), observation(LOG[:9], end=BootEnd.TIME_LIMIT)))
    assert "not proven" in cut[-2]
    assert "had not left boot services" in cut[-1]


def test_firmware_that_measures_no_tables_is_said_to() -> None:
    old = predicted("202211")
    assert any("measures no ACPI tables" in line for line in summary_lines(rehearsal_of(old, honest_observation(old))))
    assert not any("no ACPI tables" in line for line in summary_lines(HONEST))


def test_the_end_of_the_serial_log_is_shown(tmp_path: Path) -> None:
    assert serial_tail(tmp_path) == []
    (tmp_path / "serial.log").write_bytes(b"x" * 100_000 + b"\r\n\r\nlast \xff words\r\n")
    first, *lines = serial_tail(tmp_path)
    assert first == f"serial log: {tmp_path / 'serial.log'}"
    assert lines[-1] == "  | last � words"
    assert sum(map(len, lines)) < 9000


def test_registers_that_were_not_compared_to_their_end_are_named() -> None:
    assert not any("not derivable" in line for line in summary_lines(HONEST))
    lines = summary_lines(replace(HONEST, open_registers=("rtmr1", "rtmr2")))
    assert "not derivable, and not compared to the end: rtmr1, rtmr2" in lines
