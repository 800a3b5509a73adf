"""Versions and files of Debian source packages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.model.source_package import orig_component, parse_source_request, path_component, upstream_version


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("2025.02-8+deb13u1", "2025.02"),
        ("6.18.15-1~bpo13+1", "6.18.15"),
        ("1:2.0-3", "2.0"),
        ("1.0-rc1-2", "1.0-rc1"),
        ("2.10", "2.10"),
        ("1:2-a:b-1", "2-a:b"),
    ],
)
def test_upstream_version_has_neither_epoch_nor_revision(version: str, upstream: str) -> None:
    assert upstream_version(version) == upstream


def test_request_is_a_name_and_a_version() -> None:
    assert parse_source_request("linux=6.18.15-1~bpo13+1", what="lock") == ("linux", "6.18.15-1~bpo13+1")


@pytest.mark.parametrize("text", ["linux", "linux=", "=1.0", ""])
def test_request_without_a_version_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="^lock: .*is not NAME=VERSION"):
        parse_source_request(text, what="lock")


@pytest.mark.parametrize(
    ("file_name", "component"),
    [
        ("edk2_2025.02.orig.tar.xz", ""),
        ("edk2_2025.02.orig.tar.gz", ""),
        ("edk2_2025.02.orig-brotli.tar.bz2", "brotli"),
        ("edk2_2025.02.orig-a-b0.tar.zst", "a-b0"),
    ],
)
def test_tarball_is_of_a_component(file_name: str, component: str) -> None:
    assert orig_component(file_name, name="edk2", version="1:2025.02-8", what="index") == component
    assert path_component(f"pool/main/e/edk2/{file_name}") == component


@pytest.mark.parametrize(
    "file_name",
    [
        "edk2_2025.02-8.dsc",
        "edk2_2025.02-8.debian.tar.xz",
        "edk2_2025.02.orig.tar.xz.asc",
        "edk2_2025.02.orig.tar",
        "edk2_2025.02.orig.tar.lzma",
        "edk2_2025.02.orig.tar.xz\n",
        "edk2_2025.02.orig-a.b.tar.xz",
        "edk2_2025.02.orig-.tar.xz",
        "x/edk2_2025.02.orig.tar.xz",
        "",
    ],
)
def test_other_file_is_no_tarball(file_name: str) -> None:
    assert orig_component(file_name, name="edk2", version="2025.02-8", what="index") is None


@pytest.mark.parametrize(
    "file_name", ["edk3_2025.02.orig.tar.xz", "edk2_2025.05.orig.tar.xz", "edk2-x_2025.02.orig.tar.xz"]
)
def test_tarball_of_another_source_is_refused(file_name: str) -> None:
    with pytest.raises(DocumentError, match="index: tarball"):
        orig_component(file_name, name="edk2", version="2025.02-8", what="index")


@given(st.text(max_size=60))
def test_only_the_name_of_the_source_makes_a_tarball(file_name: str) -> None:
    try:
        component = orig_component(file_name, name="edk2", version="2025.02-8", what="index")
    except DocumentError:
        return
    assert component is None or file_name.startswith("edk2_2025.02.orig")
