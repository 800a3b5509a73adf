"""Fixtures for every test."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of public test vectors, which is not part of the project."""
    folder = ROOT.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("the public test vectors are absent: ../shared/vectors, seen from the project's root")
    return folder


@pytest.fixture(scope="session")
def debian_ovmf() -> bytes:
    """The whole OVMF.fd of Debian's package ovmf, or the file that TDX_BUILDER_OVMF names."""
    path = Path(os.environ.get("TDX_BUILDER_OVMF", "/usr/share/ovmf/OVMF.fd"))
    if not path.is_file():
        pytest.skip(f"no firmware at {path}: install Debian's package ovmf, or set TDX_BUILDER_OVMF")
    return path.read_bytes()
