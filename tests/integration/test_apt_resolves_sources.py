"""apt finds sources and roots of other suites, and neither lets a package come from where it must not."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.apt.program import AptSettings
from builder.backends.apt.resolver import AptResolver
from builder.backends.atomic_file import write_atomically
from builder.backends.http_fetcher import HttpFetcher, HttpSettings
from builder.backends.local_store import LocalStore
from builder.backends.mirrors import find_locations, host_proxies
from builder.errors import BuilderError, DocumentError, FetchError
from builder.model.digest import sha256_hex
from builder.model.recipe import Archive, PackageGroup
from builder.pipeline.fetch import fetch_inputs
from builder.pipeline.inputs import load_locked_recipe, load_recipe
from builder.pipeline.lock import check_lock, lock_recipe
from builder.ports import Resolution, ResolvedPackage
from tests.fakes.debian_archive import DebianArchive, SourceStanza, Stanza
from tests.fakes.local_mirror import local_mirror
from tests.fakes.silent_progress import SilentProgress
from tests.fakes.source_recipe import FIRMWARE_SOURCE, RECIPE, make_source_recipe

EDK2 = SourceStanza(
    "edk2",
    "2025.02-8",
    (
        "edk2_2025.02-8.dsc",
        "edk2_2025.02.orig.tar.xz",
        "edk2_2025.02.orig-brotli.tar.gz",
        "edk2_2025.02.orig.tar.xz.asc",
        "edk2_2025.02-8.debian.tar.xz",
    ),
    binaries=("ovmf",),
)
OLD = (Stanza("gcc", "12", depends="lib"), Stanza("lib", "1.0"), Stanza("only-old"))
NEW = (Stanza("gcc", "14", depends="lib"), Stanza("lib", "2.0"), Stanza("only-new"))
ARCHIVE = Archive("debian", ("old",), ("main",), source_suites=("new", "new-backports"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianArchive]:
    missing = [name for name in ("apt-get", "apt-cache", "gpg", "gpgv") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"this machine has no {missing[0]}")
    with local_mirror() as mirror:
        made = DebianArchive(mirror, tmp_path_factory.mktemp("s") / "g")
        made.publish("old", OLD, sources=[SourceStanza("edk2", "2022-1", ("edk2_2022.orig.tar.xz",))])
        native = SourceStanza("native", "1.0", ("native_1.0.tar.xz",))
        older = replace(EDK2, version="2025.02-7", files=("edk2_2025.02.orig.tar.xz",))
        made.publish("new", NEW, sources=[EDK2, older, native], date="Wed, 21 May 2025 02:02:02 UTC")
        made.publish(
            "new-backports",
            [],
            sources=[EDK2, SourceStanza("linux", "6.18-1~bpo1", ("linux_6.18.orig.tar.xz",))],
            NotAutomatic="yes",
        )
        yield made
        made.close()


def resolve(archive: DebianArchive, groups: dict[str, PackageGroup], suites: Archive = ARCHIVE) -> Resolution:
    return AptResolver(AptSettings((suites,), {"debian": archive.url}, {}, archive.keyring)).resolve(groups)


def tarballs(archive: DebianArchive, request: str, suites: Archive = ARCHIVE) -> tuple[ResolvedPackage, ...]:
    groups = {"sources.firmware": PackageGroup((request,), source=True)}
    return resolve(archive, groups, suites).groups["sources.firmware"]


def test_source_is_its_orig_tarballs_and_nothing_of_debians_own(archive: DebianArchive) -> None:
    main, brotli = tarballs(archive, "edk2=2025.02-8")

    name = "edk2_2025.02.orig.tar.xz"
    assert main == ResolvedPackage(
        name="edk2",
        version="2025.02-8",
        architecture="source",
        archive="debian",
        suite="new",
        path=f"pool/main/e/edk2/{name}",
        size=len(name),
        sha256=sha256_hex(name.encode()),
    )
    assert brotli.path == "pool/main/e/edk2/edk2_2025.02.orig-brotli.tar.gz"


def test_exactly_the_version_that_is_asked_for_is_taken(archive: DebianArchive) -> None:
    (only,) = tarballs(archive, "edk2=2025.02-7")
    (backport,) = tarballs(archive, "linux=6.18-1~bpo1")

    assert only.version == "2025.02-7"
    assert backport.suite == "new-backports"


def test_unknown_version_is_refused_with_those_there_are(archive: DebianArchive) -> None:
    with pytest.raises(DocumentError, match=r"sources\.firmware: source edk2=9-9: not in new, new-backports") as caught:
        tarballs(archive, "edk2=9-9")

    assert "versions there are: 2025.02-8, 2025.02-7" in caught.value.message


@pytest.mark.parametrize("request_", ["ovmf=2025.02-8", "edk=2025.02-8", "edk.=2025.02-8", "edk2=2022-1"])
def test_other_name_or_suite_is_no_source(archive: DebianArchive, request_: str) -> None:
    """Nor is the name of a package that the source makes, nor a version that only a suite of packages has."""
    with pytest.raises(DocumentError, match=f"source {request_}: not in new, new-backports"):
        tarballs(archive, request_)


def test_native_source_cannot_be_locked(archive: DebianArchive) -> None:
    with pytest.raises(DocumentError, match=r"source native 1\.0: has no orig tarball"):
        tarballs(archive, "native=1.0")


def test_package_never_comes_from_a_suite_of_sources(archive: DebianArchive) -> None:
    groups = {"roots.tools": PackageGroup(("gcc",)), "sources.x": PackageGroup(("edk2=2025.02-8",), source=True)}
    resolution = resolve(archive, groups)

    assert [(each.name, each.version, each.suite) for each in resolution.groups["roots.tools"]] == [
        ("gcc", "12", "old"),
        ("lib", "1.0", "old"),
    ]
    for request in ("only-new", "gcc=14", "gcc/new"):
        with pytest.raises(DocumentError, match=r"roots\.tools: apt cannot satisfy"):
            resolve(archive, {"roots.tools": PackageGroup((request,))})


def test_root_with_suites_of_its_own_comes_from_these_alone(archive: DebianArchive) -> None:
    suites = replace(ARCHIVE, root_suites=("new",))
    groups = {"roots.tools": PackageGroup(("gcc",)), "roots.toolchain": PackageGroup(("gcc",), ("new",))}
    resolution = resolve(archive, groups, suites)

    found = {
        group: [(each.name, each.version, each.suite) for each in packages]
        for group, packages in resolution.groups.items()
    }
    assert found == {
        "roots.tools": [("gcc", "12", "old"), ("lib", "1.0", "old")],
        "roots.toolchain": [("gcc", "14", "new"), ("lib", "2.0", "new")],
    }
    with pytest.raises(DocumentError, match="apt cannot satisfy only-old"):
        resolve(archive, {"roots.toolchain": PackageGroup(("only-old",), ("new",))}, suites)
    with pytest.raises(DocumentError, match="apt cannot satisfy only-new"):
        resolve(archive, {"roots.tools": PackageGroup(("only-new",))}, suites)


def test_every_suite_has_one_date_whatever_comes_from_it(archive: DebianArchive) -> None:
    resolution = resolve(archive, {}, replace(ARCHIVE, root_suites=("new",)))

    assert resolution.suite_dates == {
        "old": "20250520T143011Z",
        "new": "20250521T020202Z",
        "new-backports": "20250520T143011Z",
    }


@pytest.mark.parametrize(
    ("stanza", "message"),
    [
        (replace(EDK2, directory="pool/../../etc"), "is no path in the pool"),
        (replace(EDK2, directory="/etc"), "is no path in the pool"),
        (
            replace(EDK2, files=("edk2_2025.02.orig.tar.xz", "edk2_2025.02.orig.tar.gz")),
            "two tarballs of one component",
        ),
        (replace(EDK2, files=("linux_2025.02.orig.tar.xz",)), "is not named edk2_2025.02.orig"),
        (replace(EDK2, files=()), "has no SHA-256 of its files"),
    ],
)
def test_signed_index_that_says_something_absurd_is_refused(
    archive: DebianArchive, stanza: SourceStanza, message: str
) -> None:
    archive.publish("absurd", [], sources=[stanza])
    with pytest.raises(BuilderError) as caught:
        tarballs(archive, "edk2=2025.02-8", replace(ARCHIVE, source_suites=("absurd",)))

    assert message in caught.value.message


def test_sources_index_that_was_changed_after_signing_is_refused(archive: DebianArchive) -> None:
    archive.publish("poisoned", [], sources=[EDK2])
    index = "/debian/dists/poisoned/main/source/Sources"
    archive.mirror.files[index] = archive.mirror.files[index].replace(b"2025.02-8", b"2025.02-9")
    with pytest.raises(FetchError):
        tarballs(archive, "edk2=2025.02-9", replace(ARCHIVE, source_suites=("poisoned",)))


REAL_SOURCE = "hello=2.10-3"
REAL_RECIPE = (
    RECIPE.replace("suites: [bookworm, bookworm-backports]\n    source_suites: [trixie]", "suites: [bookworm]")
    .replace("    components: [main]", "    source_suites: [bookworm]\n    components: [main]")
    .replace("[squashfs-tools]", "[hello]")
    .replace("[qemu-system-x86/bookworm-backports]", "[hello]")
    .replace("packages: [gcc, make], suites: [trixie]", "packages: [hello], suites: [bookworm]")
    .replace("packages: [busybox-static]", "packages: []")
    .replace("packages: [systemd]", "packages: []")
    .replace("[openssh-server]", "[]")
    .replace(FIRMWARE_SOURCE, FIRMWARE_SOURCE.replace("edk2=2025.02-8+deb13u1", REAL_SOURCE))
)


@pytest.mark.network
def test_real_source_is_locked_confirmed_and_fetched_through_the_mirror_of_this_host(tmp_path: Path) -> None:
    directory = make_source_recipe(tmp_path / "recipe", REAL_RECIPE)
    recipe = load_recipe(directory)
    locations = find_locations([], None, environment=os.environ)
    resolver = AptResolver(AptSettings(recipe.archives, {"debian": locations.mirror("debian")}, host_proxies()))
    lock_recipe(directory, recipe, resolver=resolver, write=write_atomically)
    lock = check_lock(directory, recipe, resolver=resolver)
    assert load_locked_recipe(directory).lock == lock

    (tarball,) = lock.group("sources.firmware")
    assert (tarball.key, tarball.path) == (f"{REAL_SOURCE}:source", "pool/main/h/hello/hello_2.10.orig.tar.gz")
    store = LocalStore(tmp_path / "store")
    source = replace(lock, packages={tarball.key: tarball}, files={})  # the kernel lies at an address that is none
    fetcher = HttpFetcher(HttpSettings(proxies=host_proxies()))
    assert fetch_inputs(source, store=store, fetcher=fetcher, locations=locations, progress=SilentProgress()) == 1
    stored = store.path(tarball.sha256)
    assert stored is not None
    assert stored.stat().st_size == tarball.size
    assert stored.read_bytes()[:2] == b"\x1f\x8b"
