"""Where to fetch from: what the user names, then what the host's apt has; never an address of our own."""

import os
import shutil
from pathlib import Path

import pytest

from builder.backends.apt.output import Source
from builder.backends.mirrors import (
    checked_url,
    debian_mirrors,
    find_locations,
    host_proxies,
    host_snapshot,
    host_sources,
    named_mirrors,
)
from builder.errors import DocumentError, MissingError
from builder.model.location import Locations

MIRROR = "http://mirror.example/debian"


def test_mirror_with_a_debian_release_file_is_taken() -> None:
    sources = [Source(MIRROR, "bookworm", "Debian"), Source(MIRROR, "bookworm-backports", "Debian Backports")]

    assert debian_mirrors(sources) == {"debian": (MIRROR,)}


def test_security_archive_is_an_archive_of_its_own() -> None:
    security = "http://mirror.example/debian-security"
    sources = [Source(security, "bookworm-security", "Debian-Security"), Source(MIRROR, "bookworm", "Debian")]

    assert debian_mirrors(sources) == {"debian": (MIRROR,), "debian-security": (security,)}


@pytest.mark.parametrize("label", ["Docker CE", "Ubuntu", "Node Source", "$(LABEL)"])
def test_archive_of_somebody_else_is_never_taken_for_debians(label: str) -> None:
    assert debian_mirrors([Source("http://other.example/debian", "bookworm", label)]) == {}


def test_without_release_files_the_suites_name_decides() -> None:
    sources = [
        Source("http://other.example/x", "nodistro"),
        Source("http://other.example/flat", "./"),
        Source("http://ubuntu.example/ubuntu", "noble-updates"),
        Source(MIRROR, "trixie"),
        Source("http://mirror.example/debian-security", "trixie-security"),
    ]

    assert debian_mirrors(sources) == {
        "debian": (MIRROR,),
        "debian-security": ("http://mirror.example/debian-security",),
    }


def test_without_release_files_an_address_with_updates_comes_first() -> None:
    other = "http://other.example/linux/debian"
    sources = [Source(other, "bookworm"), Source(MIRROR, "bookworm"), Source(MIRROR, "bookworm-updates")]

    assert debian_mirrors(sources) == {"debian": (MIRROR, other)}


@pytest.mark.parametrize(
    "base",
    ["file:/srv/debian", "cdrom://Debian", "tor+http://mirror.example/debian", "copy:/srv", "http://", "http://[x"],
)
def test_address_that_is_not_http_is_never_a_mirror(base: str) -> None:
    assert debian_mirrors([Source(base, "bookworm", "Debian")]) == {}


def test_mirrors_are_named_for_the_archive_debian_or_for_another() -> None:
    options = [f"{MIRROR}/", "debian-security=https://other.example/sec", "http://second.example/d"]

    assert named_mirrors(options) == {
        "debian": (MIRROR, "http://second.example/d"),
        "debian-security": ("https://other.example/sec",),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mirror.example/debian",
        "file:///srv/debian",
        "ftp://mirror.example/debian",
        "http://",
        "http://mirror.example/debian?x=1",
        "http://mirror.example/a=b c",
        'http://mirror.example/"; evil',
        "http://[::1/x",
        "debian=",
        "debian=file:/srv",
    ],
)
def test_mirror_that_is_no_http_directory_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="mirror: "):
        named_mirrors([text])


def test_address_loses_its_final_slash_and_nothing_else() -> None:
    assert checked_url("https://user:pw@mirror.example:8080/debian//", what="mirror") == (
        "https://user:pw@mirror.example:8080/debian"
    )


@pytest.fixture
def host(tmp_path: Path) -> "Host":
    if shutil.which("apt-get") is None:
        pytest.skip("this machine has no apt")
    return Host(tmp_path)


class Host:
    """A host's apt, told through APT_CONFIG to look at directories of the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "sources").mkdir()
        (path / "state" / "lists" / "partial").mkdir(parents=True)
        self.lines = [
            f'Dir::Etc::sourceparts "{path}/sources";',
            f'Dir::Etc::sourcelist "{path}/sources.list";',
            f'Dir::State "{path}/state";',
            'Dir::Etc::parts "/dev/null";',
            "#clear Acquire::Snapshots;",  # newer apt comes with one
        ]

    def __enter__(self) -> "Host":
        (self.path / "apt.conf").write_text("\n".join(self.lines) + "\n")
        os.environ["APT_CONFIG"] = str(self.path / "apt.conf")
        return self

    def __exit__(self, *_: object) -> None:
        del os.environ["APT_CONFIG"]


DEB822 = """\
Types: deb
# http://snapshot.example/archive/debian/20250520T000000Z
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
"""


def test_hosts_sources_are_read_before_anything_was_downloaded(host: Host) -> None:
    (host.path / "sources" / "debian.sources").write_text(DEB822)
    (host.path / "sources.list").write_text("deb https://second.example/debian trixie main contrib\n")
    with host:
        locations = find_locations([], None, environment={})

    assert locations.mirrors == {"debian": (MIRROR, "https://second.example/debian")}
    assert locations.snapshot == "http://snapshot.example"
    assert locations.notes == ()


def test_list_of_mirrors_is_read(host: Host) -> None:
    mirrors = host.path / "mirrors.txt"
    mirrors.write_text("# ours\nhttp://one.example/debian/\tpriority:1\n\nhttp://two.example/debian\n")
    (host.path / "sources.list").write_text(f"deb mirror+file:{mirrors} bookworm main\n")
    with host:
        locations = find_locations([], None, environment={})

    assert locations.mirrors == {"debian": ("http://one.example/debian", "http://two.example/debian")}


def test_source_that_cannot_be_used_is_named_when_a_mirror_is_wanted(host: Host) -> None:
    (host.path / "sources.list").write_text("deb file:/srv/debian bookworm main\n")
    with host:
        locations = find_locations([], None, environment={})

    with pytest.raises(MissingError, match="file:/srv/debian is not reached over http or https") as caught:
        locations.mirror("debian")
    assert "--mirror URL" in str(caught.value.hint)


def test_list_of_mirrors_that_is_not_there_is_named_too(host: Host) -> None:
    (host.path / "sources.list").write_text("deb mirror+file:/nonexistent/list bookworm main\n")
    with host:
        locations = find_locations([], None, environment={})

    assert locations.mirrors == {}
    assert "mirror+file:/nonexistent/list" in locations.notes[0]


def test_named_mirror_goes_before_the_hosts(host: Host) -> None:
    (host.path / "sources" / "debian.sources").write_text(DEB822)
    with host:
        locations = find_locations(["http://mine.example/d"], None, environment={})

    assert locations.mirrors == {"debian": ("http://mine.example/d",)}


def test_snapshot_named_goes_before_the_environment_and_the_host(host: Host) -> None:
    (host.path / "sources" / "debian.sources").write_text(DEB822)
    environment = {"TDX_BUILDER_SNAPSHOT": "http://environment.example/"}
    with host:
        assert find_locations([], "http://named.example/", environment=environment).snapshot == "http://named.example"
        assert find_locations([], None, environment=environment).snapshot == "http://environment.example"
        assert find_locations([], None, environment={}).snapshot == "http://snapshot.example"


def test_snapshot_that_is_no_address_is_refused(host: Host) -> None:
    with host, pytest.raises(DocumentError, match="snapshot archive: 'nonsense'"):
        find_locations([], "nonsense", environment={})


def test_snapshot_option_of_newer_apt_is_read(host: Host) -> None:
    host.lines.append('Acquire::Snapshots::URI::Origin::Debian "https://snap.example/archive/debian/@SNAPSHOTID@/";')
    with host:
        assert host_snapshot() == "https://snap.example"


def test_host_that_knows_no_snapshot_archive_has_none(host: Host) -> None:
    with host:
        assert host_snapshot() is None


def test_proxies_of_the_host_are_read(host: Host) -> None:
    host.lines.append('Acquire::http::Proxy "http://proxy.example:3128";')
    host.lines.append('Acquire::http::Proxy::mirror.example "DIRECT";')
    with host:
        assert host_proxies() == {"http": "http://proxy.example:3128", "http://mirror.example": ""}


def test_host_without_sources_has_no_mirror(host: Host) -> None:
    with host:
        assert host_sources() == []
        assert find_locations([], None, environment={}) == Locations()


def test_broken_configuration_of_apt_is_a_note_and_no_crash(host: Host) -> None:
    host.lines.append("this is { not a configuration")
    with host:
        locations = find_locations([MIRROR], None, environment={})

    assert locations.mirrors == {"debian": (MIRROR,)}
    with pytest.raises(MissingError, match="Syntax error"):
        locations.mirror("other")
