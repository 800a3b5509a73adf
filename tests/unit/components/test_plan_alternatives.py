"""Choices of a recipe: each adds exactly the steps that it needs, and a recipe without it has none of them."""

import json
from typing import Any

import pytest

from builder.components.plan import plan_build
from builder.components.root_image import root_image_step
from builder.errors import DocumentError
from builder.model.plan import BuildPlan, OutputInput, SourceInput, Step, TextInput
from builder.model.recipe import Recipe
from builder.model.task import Content, RootTask, StepResult, TaskFrame, task_for
from builder.model.variation import VARIATION_A, VARIATION_B, without_axes
from tests.fakes.recipes import GROUPS, RECIPE, SOURCES, sample_lock, sample_recipe

GUEST_OS = b"{packages: [base-files/bookworm], files: files/guest_os, exclude: [usr/share/doc]}"
MKOSI = b"{packages: [base-files/bookworm], mkosi: files/mkosi, root: mkosi, files: files/guest_os}"
DISK = b"  disk_image: {packages: [systemd-boot-efi], stub: usr/lib/linuxx64.efi.stub}\ncommand_line:"


def changed(old: bytes, new: bytes) -> Recipe:
    assert RECIPE.count(old) == 1
    return sample_recipe(RECIPE.replace(old, new))


def planned(recipe: Recipe) -> BuildPlan:
    groups = {**GROUPS, "components.disk_image": ("systemd-boot-efi",), "roots.mkosi": ("mkosi",)}
    wanted = {name: groups[name] for name in recipe.package_groups()}
    return plan_build(recipe, sample_lock(wanted, (*SOURCES, "files/mkosi/mkosi.conf"), recipe))


def step_called(plan: BuildPlan, name: str) -> Step:
    (step,) = [step for step in plan.steps if step.name == name]
    return step


def parameters_of(step: Step) -> Any:
    (text,) = [item.text for item in step.inputs if isinstance(item, TextInput)]
    return json.loads(text)


def outputs_used(step: Step) -> set[tuple[str, str]]:
    return {(item.step, item.name) for item in step.inputs if isinstance(item, OutputInput)}


def test_erofs_is_made_in_the_place_of_squashfs() -> None:
    plan = planned(changed(GUEST_OS, GUEST_OS.replace(b"}", b", filesystem: erofs}")))
    script = step_called(plan, "root_image").argv[-1]
    assert "tar2sqfs" not in script
    assert " --tar=f " in script
    assert " -T1767225600 -U " in script
    assert "--workers=1" in script


def test_the_uuid_of_an_erofs_is_never_left_to_chance() -> None:
    tree = OutputInput("root_tree", "root.tar", "in/root.tar")
    scripts = {root_image_step(tree, filesystem="erofs", epoch=1).argv for _ in range(2)}
    assert len(scripts) == 1


def test_a_file_system_that_nobody_here_makes_is_refused() -> None:
    with pytest.raises(DocumentError, match="'ext4', wanted squashfs or erofs"):
        root_image_step(OutputInput("root_tree", "root.tar", "in/root.tar"), filesystem="ext4", epoch=1)


def test_without_a_disk_image_there_is_no_step_and_no_artefact_for_one() -> None:
    plan = planned(sample_recipe())
    assert not {"uki", "disk_image", "mkosi"} & {step.name for step in plan.steps}
    assert "disk_image" not in {artifact.component for artifact in plan.artifacts}


def test_a_disk_image_is_made_of_what_would_be_given_to_the_vmm() -> None:
    plan = planned(changed(b"command_line:", DISK))
    assert outputs_used(step_called(plan, "uki")) == {
        ("kernel", "vmlinuz"),
        ("initrd", "initrd.img"),
        ("cmdline", "cmdline"),
    }
    assert outputs_used(step_called(plan, "disk_image")) == {("uki", "uki.efi"), ("root_image", "rootfs.img")}
    made = [(artifact.component, artifact.output) for artifact in plan.artifacts]
    assert made[-2:] == [("disk_image", "uki.efi"), ("disk_image", "disk.img")]


def test_the_uki_says_which_image_it_is() -> None:
    parameters = parameters_of(step_called(planned(changed(b"command_line:", DISK)), "uki"))
    assert parameters["os_release"] == 'ID=sample\nVERSION_ID=1.2.3\nPRETTY_NAME="sample 1.2.3"\n'
    assert parameters["stub"] == "usr/lib/linuxx64.efi.stub"


def mkosi_plan() -> BuildPlan:
    text = RECIPE.replace(GUEST_OS, MKOSI).replace(b"  vmm: [qemu", b"  mkosi: [mkosi]\n  vmm: [qemu")
    return planned(sample_recipe(text))


def test_mkosi_gets_configuration_and_locked_packages_in_its_own_root() -> None:
    step = step_called(mkosi_plan(), "mkosi")
    assert step.root == "mkosi"
    assert [item.path for item in step.inputs if isinstance(item, SourceInput)] == ["files/mkosi/mkosi.conf"]
    parameters = parameters_of(step)
    assert parameters["packages"] == ["in/packages/base-files_amd64.deb", "in/packages/libc6_amd64.deb"]
    assert parameters["files"] == [
        {"path": "mkosi.conf", "input": "in/files/mkosi.conf", "executable": True},
    ]


def test_the_tree_of_mkosi_takes_the_place_of_packages() -> None:
    step = step_called(mkosi_plan(), "root_tree")
    parameters = parameters_of(step)
    assert (parameters["packages"], parameters["installed"]) == ([], ["in/mkosi.tar"])
    assert ("mkosi", "mkosi.tar") in outputs_used(step)


def test_only_the_step_of_mkosi_opts_out_of_anything() -> None:
    plan = mkosi_plan()
    assert {step.name for step in plan.steps if step.unvaried or step.user_namespaces} == {"mkosi"}
    assert not any(step.unvaried or step.user_namespaces for step in planned(sample_recipe()).steps)


def test_a_step_that_opts_out_says_so_in_its_task() -> None:
    plan = mkosi_plan()
    content = Content("0" * 64, 1)
    roots = {name: RootTask(name, ()) for name in ("tools", "mkosi")}
    sizes = {item.sha256: 1 for step in plan.steps for item in step.inputs if isinstance(item, SourceInput)}
    frame = TaskFrame(VARIATION_B, "bubblewrap", {}, roots, sizes, "programs")
    done = {
        step.name: StepResult(step.name, dict.fromkeys(step.outputs, content), "", (), {}, "bubblewrap", "1", 0, 0)
        for step in plan.steps
    }
    task = task_for(step_called(plan, "mkosi"), frame, done)
    assert (task.variation.old_kernel_release, task.variation.user_namespaces) == (False, True)
    assert [axis for axis, _ in task.unvaried] == ["kernel"]
    other = task_for(step_called(plan, "root_tree"), frame, done)
    assert other.variation == VARIATION_B
    assert not other.unvaried


def test_an_axis_that_is_left_alone_leaves_all_others_as_they_are() -> None:
    alone = without_axes(VARIATION_B, ["kernel"])
    assert {name for name in vars(alone) if vars(alone)[name] != vars(VARIATION_B)[name]} == {"old_kernel_release"}
    assert without_axes(VARIATION_A, []) == VARIATION_A


def test_no_step_can_opt_out_of_another_axis() -> None:
    with pytest.raises(DocumentError, match="axis 'time': no step can opt out"):
        without_axes(VARIATION_A, ["time"])
