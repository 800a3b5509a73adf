"""What apt prints, read strictly where it is a pin and tolerantly where it is a place to look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.backends.apt.output import (
    ChosenPackage,
    PackageSource,
    Source,
    parse_index_targets,
    parse_install_uris,
    parse_madison,
    parse_proxies,
    parse_release_time,
    parse_update_uris,
    snapshot_in_comments,
    snapshot_in_options,
)
from builder.errors import FetchError

SHA = "ab" * 32


def test_packages_to_install_are_read_with_their_pin() -> None:
    line = (
        f"'http://mirror.example/debian/pool/main/g/gcc/g%2b%2b_12.2.0-3_amd64.deb' "
        f"g++_4%3a12.2.0-3_amd64.deb 1356 SHA256:{SHA}"
    )

    assert parse_install_uris(f"Reading package lists...\n{line} \n") == [
        ChosenPackage(
            name="g++",
            version="4:12.2.0-3",
            architecture="amd64",
            uri="http://mirror.example/debian/pool/main/g/gcc/g++_12.2.0-3_amd64.deb",
            size=1356,
            sha256=SHA,
        )
    ]


@pytest.mark.parametrize(
    "line",
    [
        "'http://m/p_1_all.deb' p_1_all.deb 10 MD5Sum:8e7e741807b1e1939df8f58323affdcb",
        "'http://m/p_1_all.deb' p_1_all.deb 10 ",
        f"'http://m/p_1_all.deb' p_1_all.deb 10 SHA256:{SHA[:-1]}",
        f"'http://m/p_1_all.deb' p_1_all.deb ten SHA256:{SHA}",
        f"'http://m/p_1_all.rpm' p_1_all.rpm 10 SHA256:{SHA}",
        f"'http://m/p.deb' p.deb 10 SHA256:{SHA}",
    ],
)
def test_package_that_cannot_be_pinned_is_never_left_out(line: str) -> None:
    with pytest.raises(FetchError, match="does not name a package with size and SHA-256"):
        parse_install_uris(line)


def test_madison_lists_every_suite_that_has_a_version() -> None:
    text = """
      ovmf | 2025.02-8~bpo12+1 | http://mirror.example/debian bookworm-backports/main amd64 Packages
      ovmf | 2022.11-6 | http://mirror.example/debian bookworm/main amd64 Packages
      edk2 | 2022.11-6 | http://mirror.example/debian bookworm/main Sources
    """

    assert parse_madison(text) == [
        PackageSource("ovmf", "2025.02-8~bpo12+1", "http://mirror.example/debian", "bookworm-backports"),
        PackageSource("ovmf", "2022.11-6", "http://mirror.example/debian", "bookworm"),
    ]


def test_madison_lists_sources_apart_from_packages() -> None:
    text = """
      edk2 | 2025.02-8+deb13u1 | http://mirror.example/debian trixie/main Sources
      edk2 | 2025.02-8+deb13u1 | http://mirror.example/debian trixie/main amd64 Packages
      edk2 | 2025.02-8+deb13u1 | http://mirror.example/debian Sources
    """

    assert parse_madison(text, index="Sources") == [
        PackageSource("edk2", "2025.02-8+deb13u1", "http://mirror.example/debian", "trixie")
    ]


def test_suite_with_a_slash_keeps_it() -> None:
    assert parse_madison("a | 1 | http://m/debian-security bookworm/updates/main amd64 Packages") == [
        PackageSource("a", "1", "http://m/debian-security", "bookworm/updates")
    ]


def test_downloaded_sources_are_read_with_their_label() -> None:
    text = "http://mirror.example/debian/|bookworm|Debian\nhttp://other.example/x/|./|$(LABEL)\nnonsense\n"

    assert parse_index_targets(text) == [
        Source("http://mirror.example/debian", "bookworm", "Debian"),
        Source("http://other.example/x", "./", "$(LABEL)"),
    ]


def test_sources_to_download_are_read_from_their_release_files() -> None:
    text = """
'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_debian_dists_bookworm_InRelease 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.example_debian_Packages 0
'http://flat.example/x/./InRelease' flat.example_x_._InRelease 0
E: The method driver /usr/lib/apt/methods/tor+http could not be found.
"""

    assert parse_update_uris(text) == [Source("http://mirror.example/debian", "bookworm")]


def test_date_of_a_release_file_becomes_a_snapshot_time() -> None:
    text = "-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: Debian\nDate: Tue, 20 May 2025 14:30:11 UTC\nValid-Until: x\n"

    assert parse_release_time(text, what="Release") == "20250520T143011Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Origin: Debian\n",
        "Date: yesterday\n",
        "Date: \n",
        "Date: Tue, 20 May 2025 14:30:11 +0200\n",
        "Date: Tue, 20 May 2025 14:30:11\n",
        "Date: Tue, 99 May 2025 14:30:11 UTC\n",
        "Date: Tue, 20 May 2025 14:30:11 UTC\nDate: Wed, 21 May 2025 14:30:11 UTC\n",
    ],
)
def test_release_file_without_one_date_in_utc_is_refused(text: str) -> None:
    with pytest.raises(FetchError, match="Release of sid"):
        parse_release_time(text, what="Release of sid")


def test_proxies_are_read_by_scheme_and_by_host() -> None:
    dump = (
        "Acquire::http::Proxy http://proxy.example:3128\n"
        "Acquire::HTTPS::proxy DIRECT\n"
        "Acquire::http::Proxy::local.example DIRECT\n"
        "Acquire::http::Proxy-Auto-Detect /usr/bin/detect\n"
        "Acquire::ftp::Proxy ftp://proxy.example\n"
        "Acquire::http::Timeout 3\n"
    )

    assert parse_proxies(dump) == {"http": "http://proxy.example:3128", "https": "", "http://local.example": ""}


def test_empty_proxy_option_is_no_proxy_setting() -> None:
    assert parse_proxies("Acquire::http::Proxy \nAcquire::http::Proxy\n") == {}


@pytest.mark.parametrize(
    "value",
    [
        "https://snapshot.example/archive/debian/@SNAPSHOTID@/",
        "https://snapshot.example/archive/@PATH@/@SNAPSHOTID@/",
    ],
)
def test_snapshot_base_is_read_from_apts_own_option(value: str) -> None:
    other = "https://snapshots.other.example/ubuntu/@SNAPSHOTID@/"

    assert snapshot_in_options(f"\n{other}\n{value}\n") == "https://snapshot.example"
    assert snapshot_in_options(f"{other}\n") is None


def test_snapshot_base_is_read_from_the_comment_of_container_images() -> None:
    texts = ["# a comment\n", "Types: deb\n# http://snapshot.example/archive/debian/20250520T000000Z\nURIs: x\n"]

    assert snapshot_in_comments(texts) == "http://snapshot.example"


@pytest.mark.parametrize(
    "line",
    [
        "http://snapshot.example/archive/debian/20250520T000000Z",
        "# see http://snapshot.example/archive/debian/20250520T000000Z",
        "# http://snapshot.example/archive/debian/",
        "# ftp://snapshot.example/archive/debian/20250520T000000Z",
    ],
)
def test_other_lines_name_no_snapshot_archive(line: str) -> None:
    assert snapshot_in_comments([line]) is None


@given(st.text())
def test_any_other_text_is_no_source_and_no_package(text: str) -> None:
    text = "x" + text.replace("\n", " ").replace("'", "").replace("|", "")
    assert parse_update_uris(text) == []
    assert parse_madison(text) == []
    assert parse_index_targets(text) == []
    assert parse_install_uris(text) == []
