"""What the guest's root is planned from: packages that are not unpacked, links, and the app's description."""

import json
from typing import Any

import pytest

from builder.components.plan import plan_build
from builder.components.steps import packages_except
from builder.errors import DocumentError
from builder.model.plan import BuildPlan, OutputInput, SourceInput, TextInput
from tests.fakes.recipes import RECIPE, SOURCES, sample_lock, sample_recipe

GUEST = b"guest_os: {packages: [base-files/bookworm], "
COMPOSED = RECIPE.replace(b"entrypoint: [/app, --fast]}", b"entrypoint: [/app, --fast], compose: files/compose.yaml}")


def plan_of(text: bytes) -> BuildPlan:
    recipe = sample_recipe(text)
    return plan_build(recipe, sample_lock(recipe=recipe, sources=(*SOURCES, "files/compose.yaml")))


def parameters_of(plan: BuildPlan, name: str) -> dict[str, Any]:
    (step,) = [step for step in plan.steps if step.name == name]
    (text,) = [item.text for item in step.inputs if isinstance(item, TextInput)]
    parameters: dict[str, Any] = json.loads(text)
    return parameters


def test_a_package_that_nothing_needs_is_not_unpacked() -> None:
    plan = plan_of(RECIPE.replace(GUEST, GUEST + b"without: [libc6], "))
    assert parameters_of(plan, "root_tree")["packages"] == ["in/packages/base-files_amd64.deb"]
    assert len(parameters_of(plan_of(RECIPE), "root_tree")["packages"]) == 2


def test_what_the_recipe_asks_for_itself_is_always_unpacked() -> None:
    (item,) = packages_except(sample_lock(), "components.guest_os", ["base-files", "libc6"]).inputs
    assert item.target == "in/packages/base-files_amd64.deb"


def test_doing_without_a_package_that_is_not_there_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"lock: components\.guest_os has no perl to do without"):
        packages_except(sample_lock(), "components.guest_os", ["perl"])


def test_links_reach_the_root_sorted() -> None:
    plan = plan_of(RECIPE.replace(GUEST, GUEST + b"links: {usr/bin/sed: busybox, etc/resolv.conf: /run/resolv.conf}, "))
    assert parameters_of(plan, "root_tree")["links"] == [
        {"path": "etc/resolv.conf", "target": "/run/resolv.conf"},
        {"path": "usr/bin/sed", "target": "busybox"},
    ]


def test_the_description_of_the_app_is_an_artefact_and_in_the_root() -> None:
    plan = plan_of(COMPOSED)
    app, root = (next(step for step in plan.steps if step.name == name) for name in ("app_image", "root_tree"))
    assert ("app_image", "app-compose.json") in [(each.component, each.output) for each in plan.artifacts]
    assert app.outputs == ("app.oci.tar", "app.digest", "app-compose.json")
    assert "files/compose.yaml" in [item.path for item in app.inputs if isinstance(item, SourceInput)]
    assert "app-compose.json" in [item.name for item in root.inputs if isinstance(item, OutputInput)]
    assert parameters_of(plan, "app_image")["compose"] == ["in/own/files/compose.yaml"]
    assert parameters_of(plan, "root_tree")["app_compose"] == ["in/app-compose.json"]


def test_without_a_compose_file_there_is_no_description() -> None:
    plan = plan_of(RECIPE)
    assert "app-compose.json" not in [each.output for each in plan.artifacts]
    assert parameters_of(plan, "app_image")["compose"] == parameters_of(plan, "root_tree")["app_compose"] == []
