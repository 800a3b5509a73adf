"""Machine shapes: the ACPI tables of one in both ways, a matrix of a thousand, `measure` from the shell, a long log."""

import hashlib
import itertools
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Aim, Report, Row
from benchmarks.workplace import Setting, Workplace, packaged_file, workplace
from builder.backends.deb_root import unpack_root
from builder.backends.emulator.qemu import QemuAcpiReader
from builder.backends.local_store import LocalStore
from builder.inside.packages import Spool, unpack_packages
from builder.measure import BootFiles, parse_ccel, replay
from builder.measure.acpi.generator import generate_acpi
from builder.measure.acpi.machine import acpi_machine
from builder.pipeline.inputs import RecipeDirectory, load_locked_recipe
from builder.pipeline.measure import LaunchMatrix, reference_values
from builder.ports import MachineShape, Progress

_TURNS = 21
_VCPUS = 8
_MEMORY = 4 << 30
_MATRIX = 1000
_LOG_SIZE = 1 << 20
_RECORD = struct.pack("<IIIH48sI", 1, 4, 1, 0xC, hashlib.sha384(bytes(4)).digest(), 4) + bytes(4)
_SPEC_ID = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, 0xC, 48, 0)
_HEADER = struct.pack("<II20sI", 1, 3, bytes(20), len(_SPEC_ID)) + _SPEC_ID


def run(setting: Setting) -> Report:
    """Measure each as often as it takes for a steady median."""
    directory = load_locked_recipe(setting.recipe)
    files = _boot_files(setting, directory)
    with workplace(setting) as place:
        rows = [
            _row("one shape, generated", _generating(directory), aim=0.005),
            _row("one shape, read over qtest", _reading(setting, directory, place), aim=0.1),
            _row(f"{_MATRIX} shapes", lambda: _matrix(files, directory), aim=5.0, turns=1),
            _row("`measure` of one shape, from the shell", _command(place, files, directory), aim=0.4),
            _row("bare Python, from the shell", lambda: place.measure([sys.executable, "-c", "pass"])),
            _row("replay of a log of 1 MiB", _replaying()),
            _row("hashlib.sha384 as often as that replay", _hashing()),
        ]
    return Report([row for row, _ in rows], [aim for _, aim in rows if aim is not None])


def _row(
    name: str, work: Callable[[], object], *, aim: float | None = None, turns: int = _TURNS
) -> tuple[Row, Aim | None]:
    work()  # what is loaded and cached once is not what is asked for
    seconds = statistics.median(_seconds(work) for _ in range(turns))
    return Row(name, {"wall ms": 1000 * seconds}), None if aim is None else Aim(f"{name}, wall s", seconds, aim)


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _boot_files(setting: Setting, directory: RecipeDirectory) -> BootFiles:
    """Firmware and kernel as a leg takes them out of their packages; an initrd of zeros of the usual size."""
    recipe = directory.recipe
    firmware = _member(setting, directory, "components.firmware", packaged_file(recipe.firmware))
    kernel = _member(setting, directory, "components.kernel", packaged_file(recipe.kernel))
    return BootFiles(firmware, kernel, bytes(8 << 20), "console=ttyS0")


def _member(setting: Setting, directory: RecipeDirectory, group: str, file: str) -> bytes:
    tree = unpack_packages([str(path) for path in _debs(setting, directory, group)], Spool())
    data: bytes = tree.file(file, what="packages")[-1].read()
    return data


def _debs(setting: Setting, directory: RecipeDirectory, group: str) -> list[Path]:
    store = LocalStore(setting.store)
    paths = [store.path(package.sha256) for package in directory.lock.group(group)]
    return [path for path in paths if path is not None]


def _generating(directory: RecipeDirectory) -> Callable[[], object]:
    """Another machine at each call: what was generated before is kept, and would only be looked up."""
    vmm, edk2 = directory.recipe.measure.vmm, directory.recipe.firmware.edk2
    numbers = itertools.count(1)

    def generate() -> object:
        number = next(numbers)
        return generate_acpi(acpi_machine(vmm, vcpus=_VCPUS + number, memory=_MEMORY + (number << 28), edk2=edk2))

    return generate


def _reading(setting: Setting, directory: RecipeDirectory, place: Workplace) -> Callable[[], object]:
    root = place.path / "vmm"
    unpack_root(_debs(setting, directory, "roots.vmm"), root, _Silent())
    reader = QemuAcpiReader(root)
    shape = MachineShape(directory.recipe.measure.vmm, _VCPUS, _MEMORY, edk2=directory.recipe.firmware.edk2)
    return lambda: reader.read(shape)


def _matrix(files: BootFiles, directory: RecipeDirectory) -> object:
    recipe = directory.recipe
    vcpus = tuple(range(1, 101))
    memory = tuple(size << 30 for size in range(1, _MATRIX // len(vcpus) + 1))
    return reference_values(
        files, LaunchMatrix(recipe.measure.vmm, recipe.firmware.edk2, vcpus, memory), None, _Silent()
    )


def _command(place: Workplace, files: BootFiles, directory: RecipeDirectory) -> Callable[[], object]:
    arguments = ["--cmdline", files.command_line, "--vcpus", str(_VCPUS), "--memory", "4G"]
    for name, data in (("firmware", files.firmware), ("kernel", files.kernel), ("initrd", files.initrd or b"")):
        (place.path / name).write_bytes(data)
        arguments += [f"--{name}", str(place.path / name)]
    arguments += ["--qemu", directory.recipe.measure.vmm.version, "--edk2", directory.recipe.firmware.edk2]
    return lambda: place.run("measure", *arguments)


def _log() -> bytes:
    return _HEADER + _RECORD * ((_LOG_SIZE - len(_HEADER)) // len(_RECORD))


def _replaying() -> Callable[[], object]:
    log = _log()
    return lambda: replay(parse_ccel(log))


def _hashing() -> Callable[[], object]:
    count, data = len(parse_ccel(_log())), bytes(96)
    return lambda: [hashlib.sha384(data).digest() for _ in range(count)]


class _Silent(Progress):
    def start(self, task: str, total: int | None = None) -> None:
        pass

    def advance(self, task: str, amount: int) -> None:
        pass

    def finish(self, task: str, note: str = "") -> None:
        pass
