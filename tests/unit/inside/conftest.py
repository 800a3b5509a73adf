"""What the tests of the programs share: a build directory."""

from pathlib import Path

import pytest

from tests.fakes.leg_directory import LegDirectory


@pytest.fixture
def leg(tmp_path: Path) -> LegDirectory:
    return LegDirectory(tmp_path / "build")
