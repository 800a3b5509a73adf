"""Pinned roots of a machine, unpacked once."""

import lzma
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from builder.backends.local_site import UnpackedRoots, root_identity
from builder.backends.local_store import LocalStore
from builder.errors import BuildFailedError, MissingError
from builder.model.task import Content, RootTask, task_digest, task_for
from tests.fakes.deb_files import DEBIAN_BINARY, ar_archive, member, tar_archive
from tests.fakes.silent_progress import SilentProgress
from tests.fakes.step_graphs import frame_of, step_of

TASK = task_for(step_of("step"), frame_of("a"), {})


def store_package(store: LocalStore, path: Path) -> Content:
    control = lzma.compress(tar_archive([member("./control", b"Package: a\nVersion: 1\n")]))
    data = lzma.compress(tar_archive([member("./usr/share/file", b"content")]))
    path.write_bytes(ar_archive([DEBIAN_BINARY, ("control.tar.xz", control), ("data.tar.xz", data)]))
    return Content(*store.add_file(path))


def test_a_root_is_unpacked_once_for_all_that_ask_for_it(tmp_path: Path) -> None:
    store, progress = LocalStore(tmp_path / "store"), SilentProgress()
    task = RootTask("tools", (store_package(store, tmp_path / "a.deb"),))
    roots = UnpackedRoots(tmp_path / "roots", store, progress)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(roots.path, [task] * 8))
    (path,) = paths
    assert (path / "usr/share/file").read_bytes() == b"content"
    assert progress.finished == ["unpack tools"]


def test_a_root_that_is_there_needs_no_package(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    task = RootTask("tools", (store_package(store, tmp_path / "a.deb"),))
    path = UnpackedRoots(tmp_path / "roots", store, SilentProgress()).path(task)
    empty = LocalStore(tmp_path / "empty")
    assert UnpackedRoots(tmp_path / "roots", empty, SilentProgress()).path(task) == path


def test_a_package_that_is_not_in_the_store_is_said(tmp_path: Path) -> None:
    roots = UnpackedRoots(tmp_path / "roots", LocalStore(tmp_path / "store"), SilentProgress())
    with pytest.raises(MissingError, match=f"root tools: package sha256:{'1' * 64}"):
        roots.path(RootTask("tools", (Content("1" * 64, 1),)))


def test_other_packages_or_another_order_are_another_root() -> None:
    task = RootTask("tools", (Content("1" * 64, 1), Content("2" * 64, 1)))
    assert root_identity(replace(task, debs=task.debs[::-1])) != root_identity(task)
    assert root_identity(replace(task, debs=task.debs[:1])) != root_identity(task)


def test_a_root_in_another_layout_is_another_root_and_not_one_of_this_version(tmp_path: Path) -> None:
    task = RootTask("tools", (Content("1" * 64, 1),))
    other = replace(task, layout=task.layout + 1)
    assert root_identity(other) != root_identity(task)
    assert task_digest(replace(TASK, root=other)) != task_digest(replace(TASK, root=task))
    roots = UnpackedRoots(tmp_path / "roots", LocalStore(tmp_path / "store"), SilentProgress())
    with pytest.raises(MissingError, match="layout"):
        roots.path(other)


def test_a_cancelled_unpacking_ends_and_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    roots = UnpackedRoots(tmp_path / "roots", store, SilentProgress())
    roots.cancel()
    with pytest.raises(BuildFailedError, match="cancelled"):
        roots.path(RootTask("tools", (store_package(store, tmp_path / "a.deb"),)))
    assert [path for path in (tmp_path / "roots").rglob("*") if "tools" in path.name] == []
