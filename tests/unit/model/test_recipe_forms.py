"""What a recipe can say besides packages: sources, prebuilt files, roots of its own, links and flavours."""

from dataclasses import fields

import pytest

from builder.encoding.schema import load_schema
from builder.errors import DocumentError
from builder.model.components import (
    AppImageSpec,
    DiskImageSpec,
    FirmwarePackage,
    FirmwarePrebuilt,
    FirmwareSource,
    FlavourSpec,
    GuestOsSpec,
    InitrdSpec,
    KernelPackage,
    KernelPrebuilt,
    KernelSource,
    Prebuilt,
    RootSpec,
)
from builder.model.digest import sha256_hex
from builder.model.recipe import Archive, PackageGroup
from tests.fakes.recipe_directory import RECIPE as PLAIN
from tests.fakes.source_recipe import (
    FIRMWARE_SOURCE,
    KERNEL,
    KERNEL_SOURCE,
    KERNEL_URL,
    PREBUILT_PATH,
    PREBUILT_URL,
    RECIPE,
    parse_source_recipe,
)

DIGEST = sha256_hex(KERNEL)


def changed(old: str, new: str, text: str = RECIPE) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def refused(text: str) -> str:
    with pytest.raises(DocumentError, match=r"^recipe\.yaml: ") as caught:
        parse_source_recipe(text)
    return caught.value.message


def test_firmware_is_compiled_from_a_source() -> None:
    assert parse_source_recipe().firmware == FirmwareSource(
        source="edk2=2025.02-8+deb13u1",
        root="toolchain",
        files="files/firmware",
        platform="OvmfPkg/OvmfPkgX64.dsc",
        defines=(("CC_MEASUREMENT_ENABLE", "FALSE"), ("TPM2_ENABLE", "TRUE")),
        edk2="202502",
    )


def test_kernel_is_compiled_from_a_source() -> None:
    recipe = parse_source_recipe(changed(f"prebuilt: {PREBUILT_URL}", KERNEL_SOURCE))

    config = ("files/kernel/base.config", "files/kernel/tdx.config")
    assert recipe.kernel == KernelSource(
        "linux=6.18.15-1~bpo13+1", "toolchain", config, "files/kernel/required.config", "files/kernel/patches"
    )
    assert recipe.package_groups()["sources.kernel"] == PackageGroup(("linux=6.18.15-1~bpo13+1",), source=True)
    assert "components.kernel" not in recipe.package_groups()
    assert "files/kernel/patches" in recipe.file_trees()
    assert {*config, "files/kernel/required.config"} <= set(recipe.single_files())


def test_prebuilt_file_is_pinned_by_the_recipe_itself() -> None:
    from_url = parse_source_recipe()
    from_path = parse_source_recipe(changed(PREBUILT_URL, PREBUILT_PATH))

    assert from_url.kernel == KernelPrebuilt(Prebuilt(DIGEST, url=KERNEL_URL, size=len(KERNEL)))
    assert from_path.kernel == KernelPrebuilt(Prebuilt(DIGEST, path="files/vmlinuz"))
    assert "files/vmlinuz" not in from_url.single_files()
    assert "files/vmlinuz" in from_path.single_files()


def test_prebuilt_firmware_says_its_release() -> None:
    recipe = parse_source_recipe(
        changed(FIRMWARE_SOURCE, f"prebuilt: {PREBUILT_PATH}\n    edk2: 202505").replace(
            "  toolchain: {packages: [gcc, make], suites: [trixie]}\n", ""
        )
    )

    assert recipe.firmware == FirmwarePrebuilt(Prebuilt(DIGEST, path="files/vmlinuz"), "202505")
    assert recipe.prebuilt_files().keys() == {"firmware", "kernel"}


SPECS: dict[str, tuple[type, ...]] = {
    "firmware": (FirmwarePackage, FirmwareSource, FirmwarePrebuilt),
    "kernel": (KernelPackage, KernelSource, KernelPrebuilt),
    "initrd": (InitrdSpec,),
    "guest_os": (GuestOsSpec,),
    "app_image": (AppImageSpec,),
    "disk_image": (DiskImageSpec,),
}


@pytest.mark.parametrize("name", SPECS)
def test_every_field_that_the_schema_allows_has_its_place(name: str) -> None:
    schema = load_schema("recipe-v1")["properties"]["components"]["properties"]
    assert schema.keys() == SPECS.keys()
    assert set(schema[name]["properties"]) == {field.name for spec in SPECS[name] for field in fields(spec)}


def test_plain_recipe_has_none_of_it() -> None:
    recipe = parse_source_recipe(PLAIN)

    assert isinstance(recipe.kernel, KernelPackage)
    assert (recipe.flavour, recipe.flavours, recipe.disk_image) == ("prod", {}, None)
    assert recipe.guest_os.filesystem == "squashfs"
    assert recipe.single_files() == ()
    assert recipe.prebuilt_files() == {}


def test_root_with_suites_of_its_own_is_resolved_from_these_alone() -> None:
    recipe = parse_source_recipe()

    assert recipe.roots["toolchain"] == RootSpec(("gcc", "make"), ("trixie",))
    assert recipe.package_groups()["roots.toolchain"] == PackageGroup(("gcc", "make"), ("trixie",))
    assert recipe.package_groups()["roots.tools"] == PackageGroup(("squashfs-tools",))


def test_suite_of_sources_is_no_suite_of_packages() -> None:
    (archive,) = parse_source_recipe(changed(", suites: [trixie]}", ", suites: [bookworm]}")).archives

    assert archive == Archive("debian", ("bookworm", "bookworm-backports"), ("main",), ("trixie",), ())
    assert archive.every_suite == ("bookworm", "bookworm-backports", "trixie")


def test_suite_that_only_a_root_names_belongs_to_the_only_archive() -> None:
    (archive,) = parse_source_recipe(changed(", suites: [trixie]}", ", suites: [forky]}")).archives

    assert archive.root_suites == ("forky",)


def test_suite_of_a_root_that_could_be_of_two_archives_is_refused() -> None:
    two = changed("archives:\n", "archives:\n  other: {suites: [stable], components: [main]}\n")

    assert parse_source_recipe(two).archives[0].root_suites == ("trixie",)
    message = refused(two.replace(", suites: [trixie]}", ", suites: [forky]}"))
    assert "$.roots.toolchain.suites: 'forky' could be of any of the archives debian, other" in message


def test_disk_image_is_a_component_with_packages() -> None:
    text = changed("command_line: console", "  disk_image: {packages: [systemd-boot-efi], stub: usr/x.stub}\n#", PLAIN)
    recipe = parse_source_recipe(text + "\ncommand_line: x={root_hash}\n")

    assert recipe.disk_image == DiskImageSpec(("systemd-boot-efi",), "usr/x.stub")
    assert recipe.package_groups()["components.disk_image"].requests == ("systemd-boot-efi",)


def test_mkosi_makes_the_guest_os_in_a_root_of_its_own() -> None:
    text = changed("    files: files/guest_os\n", "    mkosi: files/mkosi\n    root: mkosi\n")
    recipe = parse_source_recipe(text.replace("roots:\n", "roots:\n  mkosi: [mkosi]\n"))

    assert (recipe.guest_os.mkosi, recipe.guest_os.root, recipe.guest_os.files) == ("files/mkosi", "mkosi", None)
    assert "files/mkosi" in recipe.file_trees()
    assert recipe.guest_os_trees == ()


def test_flavour_adds_packages_and_files_and_has_a_command_line_of_its_own() -> None:
    prod, dev = parse_source_recipe(), parse_source_recipe(flavour="dev")

    assert dev.flavours == {"dev": FlavourSpec(("openssh-server",), "files/dev", "debug roothash={root_hash}")}
    assert (prod.command_line, dev.command_line) == (
        "console=ttyS0 roothash={root_hash} size={root_size}",
        "debug roothash={root_hash}",
    )
    assert (prod.release_version, dev.release_version) == ("1.2.3", "1.2.3-dev")
    assert (prod.guest_os_group, dev.guest_os_group) == ("components.guest_os", "flavours.dev")
    assert (prod.guest_os_trees, dev.guest_os_trees) == (("files/guest_os",), ("files/guest_os", "files/dev"))
    assert dev.package_groups()["flavours.dev"] == PackageGroup(("systemd", "openssh-server"))


def test_one_lock_does_for_all_flavours() -> None:
    prod, dev = parse_source_recipe(), parse_source_recipe(flavour="dev")

    assert prod.package_groups() == dev.package_groups()
    assert prod.file_trees() == dev.file_trees()
    assert "files/dev" in prod.file_trees()
    assert prod.digest == dev.digest


def test_flavour_that_says_nothing_of_the_command_line_has_that_of_prod() -> None:
    dev = parse_source_recipe(changed(', command_line: "debug roothash={root_hash}"', ""), flavour="dev")

    assert dev.command_line == parse_source_recipe().command_line


def test_unknown_flavour_is_refused_with_those_there_are() -> None:
    with pytest.raises(DocumentError, match="no flavour 'debug'") as caught:
        parse_source_recipe(flavour="debug")

    assert "prod, dev" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  dev: {", "  prod: {", "$.flavours: 'prod' is what the recipe says itself"),
        ("  dev: {", "  Dev: {", "$.flavours"),
        ("  dev: {", "  de-v: {", "$.flavours"),
        ("version: 1.2.3", "version: 1.2.3-dev", "1.2.3-dev would be taken for the flavour 'dev'"),
        ("debug roothash={root_hash}", "debug", "$.flavours.dev.command_line: has no {root_hash}"),
        ("debug roothash={root_hash}", "{root_hash} {x}", "$.flavours.dev.command_line: "),
        ("files: files/dev", "files: ../dev", "$.flavours.dev.files"),
        ("files: files/dev", "file: files/dev", "$.flavours.dev: unknown field 'file'"),
    ],
)
def test_flavour_that_breaks_a_rule_is_refused(old: str, new: str, message: str) -> None:
    assert message in refused(RECIPE.replace(old, new))


def test_no_flavour_says_by_itself_what_a_rehearsal_waits_for() -> None:
    message = refused(RECIPE + "rehearse: {until: debug}\n")
    assert "$.rehearse.until: 'debug' is in the command line" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("root: toolchain", "root: toolchains", "$.components.firmware.root: no root 'toolchains'"),
        ("  toolchain: {", "  unused: [gcc]\n  toolchain: {", "$.roots.unused: no component has it as its `root`"),
        (", suites: [trixie]}", "}", "$.roots.toolchain: missing field 'suites'"),
        ("packages: [gcc, make], suites", "suites", "$.roots.toolchain: missing field 'packages'"),
        (", suites: [trixie]}", ", suites: []}", "$.roots.toolchain.suites"),
        (", suites: [trixie]}", ", suites: [tri/xie]}", "$.roots.toolchain.suites[0]"),
        ("  tools: [squashfs-tools]\n", "", "$.roots: missing field 'tools'"),
        ("    source_suites: [trixie]\n", "", "no archive has source_suites, wanted for edk2="),
        ("edk2=2025.02-8+deb13u1", "edk2", "$.components.firmware.source"),
        ("edk2=2025.02-8+deb13u1", "edk2/trixie", "$.components.firmware.source"),
        ("edk2=2025.02-8+deb13u1", "--help=1", "$.components.firmware.source"),
        ("OvmfPkg/OvmfPkgX64.dsc", "../OvmfPkgX64.dsc", "$.components.firmware.platform"),
        ("OvmfPkg/OvmfPkgX64.dsc", "-x.dsc", "$.components.firmware.platform"),
        ("TPM2_ENABLE: TRUE", "TPM2_ENABLE: 'TRUE -D X'", "$.components.firmware.defines.TPM2_ENABLE"),
        ("TPM2_ENABLE: TRUE", "-D: TRUE", "$.components.firmware.defines"),
        ("filesystem: erofs", "filesystem: ext4", "$.components.guest_os.filesystem"),
        ("compose: files/compose.yaml", "compose: /etc/compose.yaml", "$.components.app_image.compose"),
    ],
)
def test_root_or_source_that_breaks_a_rule_is_refused(old: str, new: str, message: str) -> None:
    assert message in refused(changed(old, new))


def test_three_forms_are_alternatives() -> None:
    one_of = "wanted exactly one of 'file', 'source', 'prebuilt'"
    source = FIRMWARE_SOURCE

    assert one_of in refused(changed(source, f"prebuilt: {PREBUILT_PATH}\n    {source}"))
    assert one_of in refused(changed(source, f"packages: [ovmf]\n    file: x\n    {source}"))
    assert one_of in refused(changed(source, "edk2: 202502"))
    assert "'packages'" in refused(changed(source, "file: x\n    edk2: 202502"))
    assert "'root'" in refused(changed(source, f"prebuilt: {PREBUILT_PATH}\n    root: toolchain\n    edk2: 202502"))
    assert "$.components.kernel: wanted exactly one of" in refused(changed(f"prebuilt: {PREBUILT_URL}", "root: x"))


@pytest.mark.parametrize(
    "prebuilt",
    [
        f"{{sha256: {DIGEST}}}",
        "{path: files/vmlinuz}",
        f"{{path: files/vmlinuz, url: '{KERNEL_URL}', size: 1, sha256: {DIGEST}}}",
        f"{{path: files/vmlinuz, size: 1, sha256: {DIGEST}}}",
        f"{{url: '{KERNEL_URL}', sha256: {DIGEST}}}",
        f"{{url: '{KERNEL_URL}', size: 0, sha256: {DIGEST}}}",
        f"{{url: '{KERNEL_URL}', size: 4294967297, sha256: {DIGEST}}}",
        f"{{path: ../vmlinuz, sha256: {DIGEST}}}",
        f"{{path: files/vmlinuz, sha256: {DIGEST[:-1]}}}",
        f"{{path: files/vmlinuz, sha256: {DIGEST.upper()}}}",
    ],
)
def test_prebuilt_file_that_is_not_pinned_is_refused(prebuilt: str) -> None:
    assert "$.components.kernel.prebuilt" in refused(changed(PREBUILT_URL, prebuilt))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/kernel",
        "HTTPS://example.org/kernel",
        "https://user:secret@example.org/kernel",
        "https://example.org",
        "https://example.org/",
        "https:///kernel",
        "https://example.org/a b",
        "https://example.org/kernel#part",
        "https://example.org/kernel\\n",
        "//example.org/kernel",
        "kernel",
    ],
)
def test_address_that_is_not_plain_http_is_refused(url: str) -> None:
    assert "$.components.kernel.prebuilt.url" in refused(changed(f"'{KERNEL_URL}'", f'"{url}"'))


@pytest.mark.parametrize("url", ["http://example.org/k", "https://example.org:8443/a/b%20c?x=1&y=2"])
def test_address_may_be_http_because_the_digest_is_the_pin(url: str) -> None:
    kernel = parse_source_recipe(changed(f"'{KERNEL_URL}'", f"'{url}'")).kernel

    assert isinstance(kernel, KernelPrebuilt)
    assert kernel.prebuilt.url == url


@pytest.mark.parametrize(
    "links",
    [
        "{../etc/passwd: x}",
        "{etc/../../passwd: x}",
        "{/etc/passwd: x}",
        "{etc/passwd: ../../x}",
        "{etc/passwd: /usr/../../x}",
        "{etc/passwd: x/..}",
        "{etc/passwd: ''}",
        "{etc//passwd: x}",
        "{etc/./passwd: x}",
        "{etc/passwd: 'a b'}",
        '{etc/passwd: "x\\n"}',
        "[etc/passwd]",
        "{etc: usr/etc, etc/passwd: x}",
        "{a/b: x, a/b/c/d: y}",
    ],
)
def test_link_that_leaves_its_place_is_refused(links: str) -> None:
    start, end = RECIPE.index("    links:\n"), RECIPE.index("    filesystem: ")

    assert "$.components.guest_os.links" in refused(f"{RECIPE[:start]}    links: {links}\n{RECIPE[end:]}")


def test_links_are_sorted_by_path() -> None:
    assert parse_source_recipe().guest_os.links == (
        ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
        ("sbin/init", "usr/lib/systemd/systemd"),
    )
