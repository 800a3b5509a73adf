"""Our writers against the programs that wrote such files first, taken from a pinned root."""

import hashlib
from pathlib import Path

import pytest

from builder.backends.process import run
from builder.normalize.tar import encode_tar
from builder.normalize.tree import Member, Tree, file_member, symlink_member
from builder.normalize.verity import verity_root_hash

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("pinned_root")]

EPOCH = 1_767_225_600
FILES = {"a": b"", "dir/b": b"x" * 513, f"dir/{'n' * 90}": b"name", "dir/sub/ü": bytes(4096)}


def in_root(root: Path, directory: Path, script: str) -> str:
    """What a shell script prints that runs in the pinned root, with `directory` as its own."""
    mounts = ["--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--bind", str(directory), "/mnt"]
    command = ["bwrap", "--unshare-all", *mounts, "--tmpfs", "/run", "--chdir", "/mnt", "--", "sh", "-euc", script]
    return run(command, environment={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"}, timeout=300).stdout.decode()


def members() -> tuple[Member, ...]:
    tree = Tree()
    for path, data in FILES.items():
        tree.add(file_member(path, data), origin="test")
    tree.add(symlink_member("link", "/" + "t" * 90), origin="test")
    return tree.members()


@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 1000])
def test_root_hash_is_that_of_veritysetup(pinned_root: Path, tmp_path: Path, blocks: int) -> None:
    data = b"".join(hashlib.sha256(b"%d" % number).digest() * 128 for number in range(blocks))
    (tmp_path / "data").write_bytes(data)
    script = "veritysetup format --salt=- --no-superblock --root-hash-file=hash data tree >/dev/null; cat hash"
    assert in_root(pinned_root, tmp_path, script).strip() == verity_root_hash((data,))


def test_tar_is_that_of_gnu_tar_for_names_that_fit_a_header(pinned_root: Path, tmp_path: Path) -> None:
    for path, data in FILES.items():
        place = tmp_path / "tree" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o644)
        place.parent.chmod(0o755)
    (tmp_path / "tree/link").symlink_to("/" + "t" * 90)
    options = f"--sort=name --mtime=@{EPOCH} --owner=0 --group=0 --numeric-owner --format=gnu"
    in_root(pinned_root, tmp_path, f"cd tree; tar {options} -cf ../tree.tar a dir link")
    written = (tmp_path / "tree.tar").read_bytes()
    assert b"".join(encode_tar(members(), epoch=EPOCH)) == written
