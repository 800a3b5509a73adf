"""Fixtures for public data that is not in the vectors."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def debian_ovmf() -> bytes:
    """The whole OVMF.fd of Debian's package ovmf, or the file that TDX_BUILDER_OVMF names."""
    path = Path(os.environ.get("TDX_BUILDER_OVMF", "/usr/share/ovmf/OVMF.fd"))
    if not path.is_file():
        pytest.skip(f"no firmware at {path}: install Debian's package ovmf, or set TDX_BUILDER_OVMF")
    return path.read_bytes()
