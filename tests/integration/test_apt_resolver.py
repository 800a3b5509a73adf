"""apt itself resolves, against an archive of the test's own that is signed with a key of the test's own."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.apt.program import AptSettings
from builder.backends.apt.resolver import AptResolver
from builder.backends.mirrors import find_locations, host_proxies
from builder.errors import DocumentError, FetchError, MissingError
from builder.model.digest import sha256_hex
from builder.model.recipe import Archive, PackageGroup
from builder.ports import Resolution
from tests.fakes.debian_archive import DebianArchive, Stanza
from tests.fakes.local_mirror import local_mirror

STABLE = (
    Stanza("app", "1:1.0-1", depends="lib (>= 1.0), data | other", recommends="extra"),
    Stanza("lib", "1.0+dfsg-2~deb1"),
    Stanza("data", architecture="all"),
    Stanza("other"),
    Stanza("extra"),
    Stanza("base", essential=True),
    Stanza("broken", depends="nowhere"),
    Stanza("mawk-like", depends=""),
    Stanza("g++"),
)
BACKPORTS = (
    Stanza("app", "1:2.0-1~bpo1", depends="lib (>= 2.0~)"),
    Stanza("lib", "2.0~bpo1"),
    Stanza("lib", "1.5~bpo1"),
)
UPDATES = (Stanza("data", "1.1", architecture="all"), Stanza("other"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianArchive]:
    missing = [name for name in ("apt-get", "apt-cache", "gpg", "gpgv") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"this machine has no {missing[0]}")
    with local_mirror() as mirror:
        # the socket of gpg's agent lives in the directory, and its path has to be short
        home = tmp_path_factory.mktemp("k") / "g"
        made = DebianArchive(mirror, home)
        made.publish("stable", STABLE)
        made.publish("stable-updates", UPDATES, date="Wed, 21 May 2025 02:02:02 UTC")
        made.publish("stable-backports", BACKPORTS, NotAutomatic="yes", ButAutomaticUpgrades="yes")
        yield made
        made.close()


def settings(archive: DebianArchive, *suites: str) -> AptSettings:
    recipe = Archive("debian", suites or ("stable", "stable-backports"), ("main",))
    return AptSettings((recipe,), {"debian": archive.url}, {}, archive.keyring)


def resolve(archive: DebianArchive, *requests: str, suites: tuple[str, ...] = ()) -> Resolution:
    return AptResolver(settings(archive, *suites)).resolve({"group": PackageGroup(requests)})


def names(resolution: Resolution, group: str = "group") -> list[str]:
    return [f"{package.name}={package.version}" for package in resolution.groups[group]]


def test_package_comes_with_what_it_depends_on_and_nothing_else(archive: DebianArchive) -> None:
    resolution = resolve(archive, "app")

    assert names(resolution) == ["app=1:1.0-1", "data=1.0", "lib=1.0+dfsg-2~deb1"]


def test_package_is_pinned_as_the_signed_index_has_it(archive: DebianArchive) -> None:
    lib = resolve(archive, "app").groups["group"][2]

    data = b"lib 1.0+dfsg-2~deb1 amd64"
    assert (lib.name, lib.version, lib.architecture) == ("lib", "1.0+dfsg-2~deb1", "amd64")
    assert (lib.archive, lib.suite) == ("debian", "stable")
    assert lib.path == "pool/main/l/lib/lib_1.0+dfsg-2~deb1_amd64.deb"
    assert (lib.size, lib.sha256) == (len(data), sha256_hex(data))


def test_dates_are_those_of_the_signed_release_files(archive: DebianArchive) -> None:
    resolution = resolve(archive, "lib", suites=("stable", "stable-updates"))

    assert resolution.suite_dates == {"stable": "20250520T143011Z", "stable-updates": "20250521T020202Z"}


def test_groups_are_resolved_each_from_an_empty_system(archive: DebianArchive) -> None:
    groups = {"one": PackageGroup(("lib", "other")), "two": PackageGroup(("app",)), "none": PackageGroup(())}
    resolution = AptResolver(settings(archive)).resolve(groups)

    assert names(resolution, "one") == ["lib=1.0+dfsg-2~deb1", "other=1.0"]
    assert names(resolution, "two") == ["app=1:1.0-1", "data=1.0", "lib=1.0+dfsg-2~deb1"]
    assert resolution.groups["none"] == ()


def test_backports_are_used_only_on_request(archive: DebianArchive) -> None:
    groups = {
        "plain": PackageGroup(("lib",)),
        "suite": PackageGroup(("lib/stable-backports",)),
        "version": PackageGroup(("lib=1.5~bpo1",)),
    }
    resolution = AptResolver(settings(archive)).resolve(groups)

    assert names(resolution, "plain") == ["lib=1.0+dfsg-2~deb1"]
    assert names(resolution, "suite") == ["lib=2.0~bpo1"]
    assert names(resolution, "version") == ["lib=1.5~bpo1"]


def test_package_from_backports_is_pinned_with_its_suite(archive: DebianArchive) -> None:
    resolution = resolve(archive, "app/stable-backports", "lib=2.0~bpo1")

    assert [(package.name, package.version, package.suite) for package in resolution.groups["group"]] == [
        ("app", "1:2.0-1~bpo1", "stable-backports"),
        ("lib", "2.0~bpo1", "stable-backports"),
    ]


def test_updates_are_preferred_and_the_first_suite_where_versions_are_equal(archive: DebianArchive) -> None:
    resolution = resolve(archive, "data", "other", suites=("stable", "stable-updates"))

    assert [(package.name, package.version, package.suite) for package in resolution.groups["group"]] == [
        ("data", "1.1", "stable-updates"),
        ("other", "1.0", "stable"),
    ]


def test_order_of_requests_and_runs_does_not_matter(archive: DebianArchive) -> None:
    assert resolve(archive, "app", "other", "g++") == resolve(archive, "g++", "other", "app")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("nowhere", "Package 'nowhere' has no installation candidate"),
        ("unheard-of", "Unable to locate package unheard-of"),
        ("broken", "Depends: nowhere but it is not installable"),
        ("lib=9.9", "Version '9.9' for 'lib' was not found"),
        ("lib/stable-updates", "'stable-updates' for 'lib' was not found"),
        ("li.", "Unable to locate package li."),
        ("lib-", "apt chose no package of the name 'lib-'"),
        ("mawk-lik", "Unable to locate package mawk-lik"),
    ],
)
def test_name_that_apt_cannot_satisfy_is_an_error_of_its_group(
    archive: DebianArchive, request_: str, message: str
) -> None:
    with pytest.raises(DocumentError, match="group: ") as caught:
        resolve(archive, request_)

    assert message in caught.value.message


def test_hint_about_backports_is_given_where_a_suite_was_asked_for(archive: DebianArchive) -> None:
    with pytest.raises(DocumentError) as caught:
        resolve(archive, "lib/stable-updates")
    assert "name/suite" in str(caught.value.hint)

    with pytest.raises(DocumentError) as caught:
        resolve(archive, "unheard-of")
    assert caught.value.hint is None


def test_suite_signed_by_another_key_is_never_used(
    archive: DebianArchive, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = DebianArchive(archive.mirror, tmp_path_factory.mktemp("o") / "g")
    try:
        with pytest.raises(FetchError, match="signatures couldn't be verified|not signed"):
            AptResolver(replace(settings(archive), keyring=other.keyring)).resolve({"group": PackageGroup(("lib",))})
    finally:
        other.close()


def publish_damaged(archive: DebianArchive, suite: str, *, old: bytes, new: bytes, name: str = "InRelease") -> None:
    archive.publish(suite, STABLE)
    path = f"/debian/dists/{suite}/{name}"
    assert old in archive.mirror.files[path]
    archive.mirror.files[path] = archive.mirror.files[path].replace(old, new, 1)


def test_release_file_changed_after_signing_is_never_used(archive: DebianArchive) -> None:
    publish_damaged(archive, "changed", old=b"20 May 2025", new=b"20 May 2026")
    with pytest.raises(FetchError, match="changed"):
        resolve(archive, "lib", suites=("changed",))


def test_index_changed_after_signing_is_never_used(archive: DebianArchive) -> None:
    publish_damaged(
        archive, "poisoned", old=b"Package: other", new=b"Package: 0ther", name="main/binary-amd64/Packages"
    )
    with pytest.raises(FetchError, match="poisoned"):
        resolve(archive, "lib", suites=("poisoned",))


def test_unsigned_suite_is_never_used(archive: DebianArchive) -> None:
    archive.publish("unsigned", STABLE)
    signed = archive.mirror.files.pop("/debian/dists/unsigned/InRelease").decode()
    text = signed.split("\n\n", 1)[1].split("-----BEGIN PGP SIGNATURE")[0]
    archive.mirror.files["/debian/dists/unsigned/Release"] = text.encode()
    with pytest.raises(FetchError, match="unsigned"):
        resolve(archive, "lib", suites=("unsigned",))


def test_frozen_suite_whose_lists_expired_can_still_be_used(archive: DebianArchive) -> None:
    archive.publish("frozen", STABLE, Valid_Until="Tue, 27 May 2025 14:30:11 UTC")

    assert names(resolve(archive, "lib", suites=("frozen",))) == ["lib=1.0+dfsg-2~deb1"]


def test_suite_that_is_not_there_is_an_error_even_if_others_are(archive: DebianArchive) -> None:
    with pytest.raises(FetchError, match="missing"):
        resolve(archive, "lib", suites=("stable", "missing"))


def test_mirror_that_cannot_be_reached_is_an_error(archive: DebianArchive) -> None:
    unreachable = replace(settings(archive), mirrors={"debian": "http://127.0.0.1:9/debian"})
    with pytest.raises(FetchError, match="127.0.0.1"):
        AptResolver(unreachable).resolve({"group": PackageGroup(("lib",))})


def test_keyring_that_is_not_there_is_not_passed_over(archive: DebianArchive, tmp_path: Path) -> None:
    with pytest.raises((FetchError, MissingError)):
        AptResolver(replace(settings(archive), keyring=tmp_path / "none.gpg")).resolve(
            {"group": PackageGroup(("lib",))}
        )


def test_configuration_of_the_host_has_no_say(archive: DebianArchive, tmp_path: Path) -> None:
    """Recommends, pins and another architecture would all change the answer."""
    preferences = tmp_path / "preferences"
    preferences.write_text("Package: *\nPin: release n=stable-backports\nPin-Priority: 999\n")
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        'APT::Install-Recommends "true"; APT::Default-Release "stable-backports"; APT::Architecture "arm64";\n'
        f'Dir::Etc::preferences "{preferences}"; Acquire::AllowInsecureRepositories "true";\n'
    )
    os.environ["APT_CONFIG"] = str(configuration)
    try:
        assert names(resolve(archive, "app")) == ["app=1:1.0-1", "data=1.0", "lib=1.0+dfsg-2~deb1"]
    finally:
        del os.environ["APT_CONFIG"]


def test_proxy_is_used(archive: DebianArchive) -> None:
    """The proxy is the mirror itself, asked for whole addresses of a host that does not exist."""
    files = archive.mirror.files
    files.update({f"http://mirror.example{path}": data for path, data in files.items() if path.startswith("/debian/")})
    proxied = replace(
        settings(archive), mirrors={"debian": "http://mirror.example/debian"}, proxies={"http": archive.mirror.url}
    )
    resolution = AptResolver(proxied).resolve({"group": PackageGroup(("lib",))})

    assert names(resolution) == ["lib=1.0+dfsg-2~deb1"]
    assert resolution.groups["group"][0].path.startswith("pool/main/l/lib/")


def test_password_of_a_mirror_is_not_part_of_a_pin(archive: DebianArchive) -> None:
    url = archive.url.replace("http://", "http://user:secret@")
    resolution = AptResolver(replace(settings(archive), mirrors={"debian": url})).resolve(
        {"group": PackageGroup(("lib",))}
    )

    assert resolution.groups["group"][0].path == "pool/main/l/lib/lib_1.0+dfsg-2~deb1_amd64.deb"


@pytest.mark.network
def test_real_archive_resolves_through_the_mirror_of_this_host() -> None:
    locations = find_locations([], None, environment={})
    archives = (Archive("debian", ("bookworm", "bookworm-backports"), ("main",)),)
    resolver = AptResolver(AptSettings(archives, {"debian": locations.mirror("debian")}, host_proxies()))
    resolution = resolver.resolve(
        {
            "tools": PackageGroup(
                ("squashfs-tools", "cryptsetup-bin", "kmod", "python3-minimal", "libfaketime", "locales")
            ),
            "kernel": PackageGroup(("linux-image-cloud-amd64/bookworm-backports",)),
        }
    )

    tools = {package.name: package for package in resolution.groups["tools"]}
    assert "libc6" in tools
    assert all(package.path.startswith("pool/") for package in tools.values())
    assert any(package.suite == "bookworm-backports" for package in resolution.groups["kernel"])
