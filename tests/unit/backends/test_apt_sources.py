"""Orig tarballs out of a Sources index, which is signed and all the same not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.backends.apt.sources import Tarball, parse_tarballs
from builder.errors import BuilderError, DocumentError, FetchError

A, B, C = "a" * 64, "b" * 64, "c" * 64
NAME, VERSION = "edk2", "2025.02-8+deb13u1"
DIRECTORY = "pool/main/e/edk2"


def record(
    *files: tuple[str, object, str], name: str = NAME, version: str = VERSION, directory: str = DIRECTORY
) -> str:
    checksums = "".join(f" {sha256} {size} {file}\n" for sha256, size, file in files)
    return (
        f"Package: {name}\nFormat: 3.0 (quilt)\nBinary: ovmf,\n qemu-efi\nVersion: {version}\n"
        f"Files:\n {'d' * 32} 10 edk2_2025.02.orig.tar.xz\nChecksums-Sha256:\n{checksums}Directory: {directory}\n\n"
    )


MAIN = (A, 100, "edk2_2025.02.orig.tar.xz")
BROTLI = (B, 200, "edk2_2025.02.orig-brotli.tar.gz")
DEBIAN = (C, 300, "edk2_2025.02-8+deb13u1.debian.tar.xz")


def parse(text: str) -> tuple[Tarball, ...]:
    return parse_tarballs(text, name=NAME, version=VERSION)


def test_tarballs_are_taken_and_nothing_of_debians_own() -> None:
    signature = (C, 5, "edk2_2025.02.orig.tar.xz.asc")
    assert parse(record(BROTLI, DEBIAN, signature, MAIN)) == (
        Tarball("", f"{DIRECTORY}/edk2_2025.02.orig.tar.xz", 100, A),
        Tarball("brotli", f"{DIRECTORY}/edk2_2025.02.orig-brotli.tar.gz", 200, B),
    )


def test_other_versions_and_names_are_passed_over() -> None:
    others = record((C, 9, "edk2_2024.orig.tar.xz"), version="2024-1") + record(MAIN, name="edk2-other")
    assert parse(others + record(MAIN) + others)[0].sha256 == A


def test_the_same_record_in_two_suites_is_one() -> None:
    assert parse(record(MAIN) + record(MAIN)) == parse(record(MAIN))


def test_two_records_that_disagree_are_none() -> None:
    with pytest.raises(FetchError, match="2 different records"):
        parse(record(MAIN) + record((B, 100, MAIN[2])))


@pytest.mark.parametrize("text", ["", "\n\n", "garbage", record(MAIN, version="1")])
def test_source_that_is_not_there_is_an_error(text: str) -> None:
    with pytest.raises(FetchError, match="0 different records"):
        parse(text)


@pytest.mark.parametrize(
    "directory",
    ["../main/e/edk2", "pool/../../etc", "pool/main/..", "/pool/main/e", "main/e/edk2", "pool//edk2", "", "."],
)
def test_path_that_leaves_the_pool_is_refused(directory: str) -> None:
    with pytest.raises(FetchError, match="is no path in the pool of an archive"):
        parse(record(MAIN, directory=directory))


def test_directory_that_stands_twice_is_refused() -> None:
    text = record(MAIN).replace("Directory:", "Directory: pool/x\nDirectory:")
    with pytest.raises(FetchError, match="is no path in the pool"):
        parse(text)


def test_two_tarballs_of_one_component_are_refused() -> None:
    for extra in ((B, 100, "edk2_2025.02.orig.tar.gz"), (B, 100, "edk2_2025.02.orig.tar.xz")):
        with pytest.raises(FetchError, match="two tarballs of one component"):
            parse(record(MAIN, extra))


@pytest.mark.parametrize("name", ["linux_2025.02.orig.tar.xz", "edk2_2025.05.orig.tar.xz"])
def test_tarball_that_is_named_after_another_source_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="is not named edk2_2025.02.orig"):
        parse(record(MAIN, (B, 1, name)))


def test_source_without_a_main_tarball_cannot_be_locked() -> None:
    for files in ((DEBIAN,), (BROTLI,), ((A, 100, "edk2_2025.02-8+deb13u1.tar.xz"),)):
        with pytest.raises(DocumentError, match="has no orig tarball"):
            parse(record(*files))


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64])
def test_digest_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(FetchError, match="is not SHA-256, size and name"):
        parse(record((digest, 100, MAIN[2])))


def test_record_without_sha256_is_refused() -> None:
    for text in (record(), record(MAIN).replace("Checksums-Sha256", "Checksums-Sha1")):
        with pytest.raises(FetchError, match="has no SHA-256 of its files"):
            parse(text)


@pytest.mark.parametrize("size", [0, (1 << 32) + 1, 999999999999])
def test_absurd_size_is_refused(size: int) -> None:
    with pytest.raises(FetchError, match=rf"says {size} bytes, wanted 1 to"):
        parse(record((A, size, MAIN[2])))


@pytest.mark.parametrize("size", ["-1", "9" * 13, "1e3", "", "0x10"])
def test_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(FetchError, match="is not SHA-256, size and name"):
        parse(record((A, size, MAIN[2])))


@given(st.integers(0, len(record(MAIN, BROTLI))), st.sampled_from(["", "\n", "\n\n", ":", " ", "../", "\x00", "é"]))
def test_no_damage_gives_another_pin(position: int, insertion: str) -> None:
    """An index cut off, or with something stuck in, gives the tarballs it had, fewer components, or an error."""
    text = record(MAIN, BROTLI)
    whole = parse(text)
    for damaged in (text[:position] + insertion, text[:position] + insertion + text[position:]):
        try:
            found = parse(damaged)
        except BuilderError:
            continue
        assert all(tarball.path.startswith("pool/") for tarball in found)
        assert {tarball.sha256 for tarball in found} <= {tarball.sha256 for tarball in whole}
