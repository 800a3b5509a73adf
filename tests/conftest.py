"""Fixtures for every test."""

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# no deadline: a busy machine is no failure
settings.register_profile("project", deadline=None)
settings.load_profile("project")
# a shell that starts the tests in the background ignores interrupts, and every program they start would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of public test vectors, which is not part of the project."""
    folder = ROOT.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("the public test vectors are absent: ../shared/vectors, seen from the project's root")
    return folder
