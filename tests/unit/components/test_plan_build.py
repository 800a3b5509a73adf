"""The build plan: what a step gets, what it may not get, and that its options are those that make it deterministic."""

import json
from dataclasses import replace
from typing import Any

import pytest

from builder.components.plan import plan_build
from builder.errors import DocumentError
from builder.model.plan import BuildPlan, OutputInput, PackageInput, SourceInput, Step, TextInput
from tests.fakes.recipes import GROUPS, RECIPE, SOURCES, sample_lock, sample_recipe


def sample_plan() -> BuildPlan:
    return plan_build(sample_recipe(), sample_lock())


def step_called(name: str, plan: BuildPlan | None = None) -> Step:
    (step,) = [step for step in (plan or sample_plan()).steps if step.name == name]
    return step


def parameters_of(step: Step) -> dict[str, Any]:
    (text,) = [item.text for item in step.inputs if isinstance(item, TextInput)]
    parameters: dict[str, Any] = json.loads(text)
    return parameters


def texts_below(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        members = value.values() if isinstance(value, dict) else value
        return [text for member in members for text in texts_below(member)]
    return [value] if isinstance(value, str) else []


def test_the_artefacts_are_those_of_a_release() -> None:
    assert [(artifact.component, artifact.output) for artifact in sample_plan().artifacts] == [
        ("firmware", "OVMF.fd"),
        ("kernel", "vmlinuz"),
        ("initrd", "initrd.img"),
        ("app_image", "app.oci.tar"),
        ("guest_os", "rootfs.img"),
        ("guest_os", "cmdline"),
    ]


def test_the_same_recipe_and_lock_give_the_same_plan() -> None:
    assert sample_plan() == sample_plan()


def test_the_order_of_the_lock_does_not_matter() -> None:
    lock = sample_lock()
    turned = replace(
        lock,
        groups={name: tuple(reversed(keys)) for name, keys in reversed(list(lock.groups.items()))},
        sources=dict(reversed(list(lock.sources.items()))),
    )
    assert plan_build(sample_recipe(), turned) == sample_plan()


def test_every_step_uses_only_outputs_of_earlier_steps() -> None:
    made: set[tuple[str, str]] = set()
    for step in sample_plan().steps:
        assert {(item.step, item.name) for item in step.inputs if isinstance(item, OutputInput)} <= made
        made |= {(step.name, output) for output in step.outputs}
    assert {(artifact.step, artifact.output) for artifact in sample_plan().artifacts} <= made


def test_names_of_steps_and_places_of_inputs_are_unique() -> None:
    steps = sample_plan().steps
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        targets = [item.target for item in step.inputs]
        assert len(set(targets)) == len(targets)
        assert all(target.startswith("in/") for target in targets)


def test_every_path_in_the_parameters_is_an_input() -> None:
    for step in sample_plan().steps:
        if step.argv[0] == "python3":
            named = {text for text in texts_below(parameters_of(step)) if text.startswith("in/")}
            assert named == {item.target for item in step.inputs} - {"in/parameters.json"}


def test_no_step_knows_a_path_of_its_leg() -> None:
    for step in sample_plan().steps:
        assert not any(word.startswith("/") or "/build" in word or "/tmp" in word for word in step.argv)
        assert step.root == "tools"


@pytest.mark.parametrize(("step", "package"), [("firmware", "ovmf"), ("kernel", "linux-image")])
def test_a_file_is_taken_only_from_packages_that_the_recipe_names(step: str, package: str) -> None:
    packages = [item.target for item in step_called(step).inputs if isinstance(item, PackageInput)]
    assert packages == [f"in/packages/{package}_amd64.deb"]


def test_initrd_and_guest_get_what_their_packages_depend_on() -> None:
    assert parameters_of(step_called("initrd"))["packages"] == [
        "in/packages/busybox-static_amd64.deb",
        "in/packages/libc6_amd64.deb",
    ]
    assert parameters_of(step_called("initrd"))["kernel_packages"] == ["in/kernel/linux-image_amd64.deb"]


def test_only_files_of_the_component_itself_are_placed() -> None:
    placed = [item.path for item in step_called("initrd").inputs if isinstance(item, SourceInput)]
    assert placed == ["files/initrd/init"]  # not those of files/initrd-other
    assert parameters_of(step_called("initrd"))["files"] == [
        {"path": "init", "input": "in/files/init", "executable": True}
    ]


def test_the_guest_pins_the_app_image_of_the_same_plan() -> None:
    inputs = [item for item in step_called("root_tree").inputs if isinstance(item, OutputInput)]
    assert {(item.step, item.name) for item in inputs} == {("app_image", "app.oci.tar"), ("app_image", "app.digest")}


def test_nothing_about_the_root_image_is_left_to_defaults_or_chance() -> None:
    script = step_called("root_image").argv[-1]
    for option in ("--salt=-", "--no-superblock", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"):
        assert option in script
    for option in ("--compressor zstd", "--comp-extra level=15", "--block-size 131072", "--no-skip", "uid=0,gid=0"):
        assert option in script
    assert step_called("root_image").argv[:2] == ("sh", "-euc")  # a failing command ends the step


def test_the_command_line_is_the_recipes_with_its_places_still_open() -> None:
    assert parameters_of(step_called("cmdline"))["command_line"] == "console=ttyS0 root={root_hash} size={root_size}"


@pytest.mark.parametrize("group", ["components.firmware", "components.kernel"])
def test_a_lock_without_the_package_of_the_recipe_is_refused(group: str) -> None:
    with pytest.raises(DocumentError, match=f"lock: {group} has no (ovmf|linux-image)"):
        plan_build(sample_recipe(), sample_lock({**GROUPS, group: ("kmod",)}))


@pytest.mark.parametrize("tree", ["files/initrd/", "files/guest_os/", "files/app/"])
def test_a_lock_without_the_files_of_a_component_is_refused(tree: str) -> None:
    sources = [path for path in SOURCES if not path.startswith(tree)]
    with pytest.raises(DocumentError, match=f"no file of the recipe lies in {tree.rstrip('/')}"):
        plan_build(sample_recipe(), sample_lock(sources=sources))


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (b"[squashfs]", b"[overlay]", {"initrd"}),
        (b"--fast", b"--slow", {"app_image"}),
        (b"exclude: [usr/share/doc]", b"exclude: []", {"root_tree"}),
        (b"console=ttyS0", b"console=tty0", {"cmdline"}),
        (b"1767225600", b"1767225601", {"initrd", "app_image", "root_tree", "root_image"}),
        (b"version: 1.2.3", b"version: 1.2.4", {"app_image"}),
    ],
)
def test_a_change_of_the_recipe_changes_the_steps_it_concerns(old: bytes, new: bytes, changed: set[str]) -> None:
    recipe = sample_recipe(RECIPE.replace(old, new))
    plan = plan_build(recipe, sample_lock(recipe=recipe))
    assert {one.name for one, other in zip(plan.steps, sample_plan().steps, strict=True) if one != other} == changed
