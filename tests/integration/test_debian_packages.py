"""Packages of other suites: what the tests that boot and read real programs are given."""

from pathlib import Path

import pytest

from tests.integration.debian import debian_files, debian_root

pytestmark = pytest.mark.network


def test_fixtures_are_what_their_names_say(
    qemu_11_root: Path, debian_13_firmware: bytes, debian_13_kernel: Path
) -> None:
    assert (qemu_11_root / "usr/bin/qemu-system-x86_64").is_file()
    assert (qemu_11_root / "usr/lib/x86_64-linux-gnu/libc.so.6").is_file(), "a root has what its programs depend on"
    assert b"_FVH" in debian_13_firmware
    assert debian_13_kernel.name.startswith("vmlinuz-6.12.")
    assert not list(debian_13_kernel.parents[1].glob("usr/lib/x86_64-linux-gnu/libc.so.6"))


def test_what_the_archive_does_not_have_is_a_skip_that_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="does not give ovmf of no-such-suite: apt-get ended .*no-such"):
            debian_root(tmp_path_factory, "no-suite", suites=["no-such-suite"], packages=["ovmf"])
    with pytest.raises(pytest.skip.Exception, match="does not give no-such-package of trixie: .*no-such-package"):
        debian_files(tmp_path_factory, "no-package", suites=["trixie"], packages=["no-such-package"])
