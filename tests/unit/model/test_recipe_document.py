"""A recipe's text and the values it becomes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.model.digest import sha256_hex
from builder.model.recipe import Archive, Recipe, parse_recipe
from tests.fakes.recipe_directory import RECIPE


def parse(text: str = RECIPE) -> Recipe:
    return parse_recipe(text.encode(), what="recipe.yaml")


def with_command_line(text: str) -> str:
    return re.sub(r"(?m)^command_line: .*$", lambda _: f"command_line: {text}", RECIPE)


def test_recipe_becomes_values() -> None:
    recipe = parse()

    assert (recipe.image, recipe.version, recipe.source_date_epoch) == ("sample", "1.2.3", 1700000000)
    assert recipe.archives == (Archive("debian", ("bookworm", "bookworm-backports"), ("main",)),)
    assert recipe.firmware.edk2 == "202211"
    assert recipe.guest_os.exclude == ("usr/share/doc",)
    assert recipe.measure.memory == (512 << 20, 2 << 30)
    assert recipe.measure.vcpus == (1, 2)
    assert recipe.required_axes == ("build_path", "time")


def test_digest_is_that_of_the_bytes_comments_included() -> None:
    assert parse().digest == sha256_hex(RECIPE.encode())
    assert parse(RECIPE + "# remark\n").digest != parse().digest


def test_every_group_is_resolved_on_its_own() -> None:
    assert {name: group.requests for name, group in parse().package_groups().items()} == {
        "roots.tools": ("squashfs-tools", "kmod"),
        "roots.vmm": ("qemu-system-x86/bookworm-backports",),
        "components.firmware": ("ovmf",),
        "components.kernel": ("linux-image-cloud-amd64",),
        "components.initrd": ("busybox-static",),
        "components.app_image": (),
        "components.guest_os": ("libc6=1.0",),
    }


def test_file_trees_are_those_of_the_components() -> None:
    assert parse().file_trees() == ("files/initrd", "files/app", "files/guest_os")


def test_what_a_guest_os_leaves_out_may_be_left_out() -> None:
    assert parse(RECIPE.replace(", exclude: [usr/share/doc]", "")).guest_os.exclude == ()


def test_unknown_axis_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DocumentError, match=r"\$\.legs\.require: unknown axis 'weather'") as caught:
        parse(RECIPE.replace("[build_path, time]", "[build_path, weather]"))

    assert "build_path" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["x={root_hash}", "'{root_hash} {root_size} {root_hash}'", "'{{brace}} {root_hash}'"])
def test_command_line_with_the_two_placeholders_is_accepted(text: str) -> None:
    assert parse(with_command_line(text)).command_line == text.strip("'")


@pytest.mark.parametrize(
    "text",
    [
        "'{root_hash} {other}'",
        "'{root_hash} {}'",
        "'{root_hash} {0}'",
        "'{root_hash.__class__}'",
        "'{root_hash.missing} {root_hash}'",
        "'{root_hash[0]}'",
        "'{root_hash!r}'",
        "'{root_hash:>999999999}'",
        "'{root_hash:{root_size}}'",
    ],
)
def test_command_line_with_another_placeholder_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match=r"\$\.command_line: .* placeholder other than"):
        parse(with_command_line(text))


@pytest.mark.parametrize("text", ["'{root_hash'", "'root_hash}'", "'{root_hash} }'", "'{root_hash!}'"])
def test_command_line_with_a_lone_brace_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match=r"\$\.command_line: "):
        parse(with_command_line(text))


@pytest.mark.parametrize("text", ["quiet", "'{root_size}'", "'{{root_hash}}'"])
def test_command_line_that_does_not_measure_the_root_file_system_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match=r"has no \{root_hash\}"):
        parse(with_command_line(text))


def with_ready_text(text: str, command_line: str) -> str:
    return f"{with_command_line(command_line)}\nrehearse:\n  until: {text}\n"


@pytest.mark.parametrize("text", ["console", "a={root_hash}", "'{x}'", "'{root_'", "console=ttyS0 a={root_hash} {x}"])
def test_a_text_that_the_kernel_says_by_itself_is_nothing_to_wait_for(text: str) -> None:
    with pytest.raises(DocumentError, match=r"\$\.rehearse\.until: .* is in the command line"):
        parse(with_ready_text(text, "'console=ttyS0 a={root_hash} {{x}}'"))


@pytest.mark.parametrize("text", ["consoles", "Console", "'{{x}}'"])
def test_a_text_that_is_not_in_the_command_line_is_waited_for(text: str) -> None:
    assert parse(with_ready_text(text, "'console=ttyS0 a={root_hash} {{x}}'")).ready_text == text.strip("'")


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_parser(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"recipe\.yaml: "):
        parse_recipe(data, what="recipe.yaml")


@given(st.integers(0, len(RECIPE)), st.sampled_from(["", "\n", ":", "{", "\t", "!", "&x ", "- ", "\x00"]))
def test_no_damage_crashes_the_parser(position: int, insertion: str) -> None:
    """A recipe cut off, or with something stuck in, is a recipe or a DocumentError."""
    for text in (RECIPE[:position] + insertion, RECIPE[:position] + insertion + RECIPE[position:]):
        try:
            parse(text)
        except DocumentError as error:
            assert error.message.startswith("recipe.yaml: ")
