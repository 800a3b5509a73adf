"""Real disk images with a partition table and an EFI system partition, made by sfdisk and mtools."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

ESP_START = 1 << 20
_MIB = 1 << 20
_LAYOUT = "label: gpt\nlabel-id: {guid}\nstart=2048, size={sectors}, type=uefi, uuid={guid}, name=ESP\n"
_GUID = "11111111-2222-3333-4444-555555555555"


def require_disk_tools() -> None:
    """Skip the test out loud without the programs that make and read disk images."""
    absent = [name for name in ("sfdisk", "mformat", "mmd", "mcopy", "mdir") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (packages fdisk and mtools)")


def make_disk(path: Path, files: Mapping[str, bytes], *, mebibytes: int = 64) -> Path:
    """An image at `path` with these files, by their paths from `/` on, on its EFI system partition."""
    require_disk_tools()
    with path.open("wb") as image:
        image.truncate(mebibytes * _MIB)
    sectors = (mebibytes - 2) * _MIB // 512
    _run("sfdisk", "--quiet", str(path), input_text=_LAYOUT.format(guid=_GUID, sectors=sectors))
    partition = f"{path}@@{ESP_START}"
    _run("mformat", "-i", partition, "-T", str(sectors), "-F", "-h", "64", "-s", "32", "::")
    directories = {str(parent) for name in files for parent in PurePosixPath(name).parents if str(parent) != "/"}
    for directory in sorted(directories):
        _run("mmd", "-i", partition, f"::{directory}")
    for name, content in files.items():
        source = path.with_suffix(".file")
        source.write_bytes(content)
        _run("mcopy", "-i", partition, str(source), f"::{name}")
        source.unlink()
    return path


def _run(*argv: str, input_text: str = "") -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLSRC": os.devnull}
    subprocess.run(argv, env=environment, input=input_text, text=True, check=True, capture_output=True)
