"""The published schemas decide the types of a recipe's text, and name the path of every deviation."""

import re
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from builder.encoding.schema import coerce, load_schema, validate
from builder.encoding.strict_yaml import parse_yaml
from builder.errors import DocumentError
from tests.fakes.recipe_directory import RECIPE

NAMES = sorted(entry.name.removesuffix(".json") for entry in resources.files("builder").joinpath("schemas").iterdir())


def coerced(text: str) -> Any:
    return coerce(parse_yaml(text.encode(), what="recipe.yaml"), schema_name="recipe-v1", what="recipe.yaml")


def changed(old: str, new: str) -> str:
    assert RECIPE.count(old) == 1, f"{old!r} has to be there once"
    return RECIPE.replace(old, new)


def test_there_are_schemas_to_check() -> None:
    assert {"recipe-v1", "lock-v1"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_itself_valid(name: str) -> None:
    Draft202012Validator.check_schema(load_schema(name))


@pytest.mark.parametrize("name", ["recipe-v1", "lock-v1"])
def test_every_object_of_a_schema_says_what_it_allows(name: str) -> None:
    """An object without `additionalProperties` would let unknown fields pass."""

    def objects(schema: Any) -> Any:
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for value in schema.values():
                yield from objects(value)

    found = list(objects(load_schema(name)))
    assert found
    assert all("additionalProperties" in schema for schema in found)


def test_text_becomes_a_number_only_where_the_schema_says_so() -> None:
    document = coerced(RECIPE)

    assert document["source_date_epoch"] == 1700000000
    assert document["version"] == "1.2.3"
    assert document["measure"]["vcpus"] == [1, 2]
    assert document["components"]["firmware"]["edk2"] == "202211"


@pytest.mark.parametrize(
    "number", ["'1700000000'", '"1700000000"', "1_700_000_000", "01700000000", "0x6553F100", "1.7e9", "+1700000000",
               " ", "yes", "1700000000.0", "[1700000000]", "{a: 1}", "1700000000000000000000", "１７００００００００"]
)  # fmt: skip
def test_number_has_one_spelling(number: str) -> None:
    with pytest.raises(DocumentError, match=r"recipe\.yaml: \$\.source_date_epoch: "):
        coerced(changed("source_date_epoch: 1700000000", f"source_date_epoch: {number}"))


@pytest.mark.parametrize("text", ["True", "yes", "on", "1", "'true'", "", "TRUE"])
def test_boolean_has_one_spelling(text: str) -> None:
    """No recipe field is a boolean yet; the lock's schema has one."""
    source = f"sources: {{a: {{executable: {text}, size: 1, sha256: x}}}}"
    with pytest.raises(DocumentError, match=r"\$\.sources\.a\.executable: .* is not `true` or `false`"):
        coerce(parse_yaml(source.encode(), what="x"), schema_name="lock-v1", what="x")


UNKNOWN = {
    "$": ("image: sample", "image: sample\nimages: x", "images"),
    "$.archives.debian": ("components: [main]", "components: [main]\n    mirror: http://x", "mirror"),
    "$.components.kernel": ("{packages: [linux-image-cloud-amd64],", "{packages: [x1], extra: 1,", "extra"),
    "$.components": ("components:\n  firmware", "components:\n  bootloader: x\n  firmware", "bootloader"),
    "$.measure.vmm": ("vmm: {name: qemu,", "vmm: {name: qemu, accel: kvm,", "accel"),
    "$.roots.tools": ("tools: [squashfs-tools, kmod]", "tools: {packages: [kmod], suites: [a], list: x}", "list"),
}


@pytest.mark.parametrize(("path", "change"), UNKNOWN.items())
def test_unknown_field_is_refused_with_its_path(path: str, change: tuple[str, str, str]) -> None:
    old, new, name = change
    with pytest.raises(DocumentError, match=re.escape(f"{path}: unknown field {name!r}")) as caught:
        coerced(changed(old, new))

    assert "manifests/schema/recipe-v1.json" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["schema", "image", "version", "source_date_epoch", "command_line"])
def test_missing_field_is_named(name: str) -> None:
    without = "".join(line for line in RECIPE.splitlines(keepends=True) if not line.startswith(f"{name}:"))
    with pytest.raises(DocumentError, match=re.escape(f"$: missing field {name!r}")):
        coerced(without)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("image: sample", "image: Sample", "$.image"),
        ("image: sample", "image: |\n  sample\n", "$.image"),
        ("image: sample", "image:", "$.image"),
        ("image: sample", "image: [sample]", "$.image"),
        ("image: sample", "image: ../sample", "$.image"),
        ("version: 1.2.3", "version: 1.2", "$.version"),
        ("version: 1.2.3", "version: 1.2.3/../..", "$.version"),
        ("1700000000", "315532799", "$.source_date_epoch"),
        ("1700000000", "4294967296", "$.source_date_epoch"),
        ("suites: [bookworm, bookworm-backports]", "suites: []", "$.archives.debian.suites"),
        ("suites: [bookworm, bookworm-backports]", "suites: [bookworm, bookworm]", "$.archives.debian.suites"),
        ("suites: [bookworm, bookworm-backports]", 'suites: ["a b"]', "$.archives.debian.suites[0]"),
        ("[squashfs-tools, kmod]", "[squashfs-tools, --help]", "$.roots.tools[1]"),
        ("[squashfs-tools, kmod]", "[kmod, 'kmod dummy']", "$.roots.tools[1]"),
        ("[squashfs-tools, kmod]", "kmod", "$.roots.tools"),
        ("file: boot/vmlinuz", "file: /boot/vmlinuz", "$.components.kernel.file"),
        ("file: boot/vmlinuz", "file: boot/../vmlinuz", "$.components.kernel.file"),
        ("file: boot/vmlinuz", "file: boot//vmlinuz", "$.components.kernel.file"),
        ("file: boot/vmlinuz", "file: boot/./vmlinuz", "$.components.kernel.file"),
        ("file: boot/vmlinuz", "file: boot/vmlinuz/", "$.components.kernel.file"),
        ("file: boot/vmlinuz", 'file: "boot/vmlinuz\\n"', "$.components.kernel.file"),
        ("files: files/app", "files: ..", "$.components.app_image.files"),
        ("files: files/app", "files: .", "$.components.app_image.files"),
        ("files: files/app", "files: files/.", "$.components.app_image.files"),
        ("entrypoint: [/app]", "entrypoint: []", "$.components.app_image.entrypoint"),
        ('edk2: "202211"', "edk2: 202213", "$.components.firmware.edk2"),
        ("command_line: console", 'command_line: "a\\tb', "recipe.yaml"),
        ("vcpus: [1, 2]", "vcpus: [0]", "$.measure.vcpus[0]"),
        ("vcpus: [1, 2]", "vcpus: [1, 1]", "$.measure.vcpus"),
        ("memory: [512M, 2G]", "memory: [512]", "$.measure.memory[0]"),
        ("name: qemu", "name: bhyve", "$.measure.vmm.name"),
        ("machine: q35", "machine: 'q35 -kernel x'", "$.measure.vmm.machine"),
        ("schema: tdx-builder/recipe/v1", "schema: tdx-builder/recipe/v2", "$.schema"),
    ],
)
def test_value_that_does_not_fit_is_refused_with_its_path(old: str, new: str, path: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(path)):
        coerced(changed(old, new))


def test_text_does_not_match_with_one_more_newline() -> None:
    """Python's `$` would let it pass, that of a JSON Schema (ECMA 262) does not."""
    digest = "a" * 64
    for text in (digest + "\n", "\n" + digest, digest + "\0"):
        with pytest.raises(DocumentError, match=r"\$\.recipe\.sha256: "):
            validate({"recipe": {"sha256": text}}, schema_name="lock-v1", what="lock.json")
    with pytest.raises(DocumentError) as caught:
        validate({"recipe": {"sha256": digest}}, schema_name="lock-v1", what="lock.json")
    assert "sha256" not in caught.value.message


def test_missing_fields_of_one_object_are_listed_once() -> None:
    with pytest.raises(DocumentError) as caught:
        validate({}, schema_name="lock-v1", what="lock.json")

    assert caught.value.message.count("missing field") == 1


def test_at_most_five_deviations_are_listed() -> None:
    document = {f"field{number}": 1 for number in range(9)} | {"measure": {"vcpus": [0] * 8}}
    with pytest.raises(DocumentError, match="; and [0-9]+ more$"):
        validate(document, schema_name="recipe-v1", what="recipe.yaml")


@pytest.mark.parametrize("document", ["text", "- a\n- b", "''", "~"])
def test_document_that_is_no_mapping_is_refused(document: str) -> None:
    with pytest.raises(DocumentError, match=r"recipe\.yaml: \$: "):
        coerced(document)


def test_very_long_value_does_not_fill_the_screen() -> None:
    with pytest.raises(DocumentError) as caught:
        coerced(changed("image: sample", f"image: {'x' * 50_000}"))

    assert len(caught.value.message) < 1000
