"""The command line: a root hash is measured only if two ways of computing it agree on the file that ships."""

from typing import Any

import pytest

from builder.normalize.verity import verity_root_hash
from tests.fakes.leg_directory import LegDirectory

DATA = b"".join(bytes([number]) * 4096 for number in range(5))
HASH = verity_root_hash((DATA,)).encode()


@pytest.fixture
def parameters(leg: LegDirectory) -> dict[str, Any]:
    return {
        "image": leg.put("in/rootfs.img", DATA + b"tree" * 1024),
        "root_hash": leg.put("in/root.hash", HASH + b"\n"),
        "root_size": leg.put("in/root.size", b"20480\n"),
        "command_line": "console=ttyS0 h={root_hash} s={root_size}",
    }


def test_hash_and_size_stand_in_their_places_with_no_newline(leg: LegDirectory, parameters: dict[str, Any]) -> None:
    leg.make("command_line", parameters)
    assert leg.output("cmdline") == b"console=ttyS0 h=" + HASH + b" s=20480"


@pytest.mark.parametrize(
    ("target", "data", "message"),
    [
        ("in/root.hash", b"0" * 64, "veritysetup gives the root hash 0000"),
        ("in/root.hash", HASH[:-1], "in/root.hash: "),
        ("in/root.hash", HASH.upper(), "in/root.hash: "),
        ("in/root.hash", b"", "in/root.hash: b'' does not fit"),
        ("in/root.size", b"0", "in/root.size: b'0' does not fit"),
        ("in/root.size", b"-4096", "in/root.size: "),
        ("in/root.size", b"16384", "veritysetup gives the root hash"),
        ("in/root.size", b"20000", "dm-verity: "),
        ("in/root.size", b"40960", "in/rootfs.img: 16384 bytes shorter than the data that was hashed"),
        ("in/rootfs.img", b"\1" + DATA[1:], "veritysetup gives the root hash"),
        ("in/rootfs.img", b"", "in/rootfs.img: 20480 bytes shorter"),
    ],
)
def test_a_root_hash_that_does_not_fit_is_refused(
    leg: LegDirectory, parameters: dict[str, Any], target: str, data: bytes, message: str
) -> None:
    leg.put(target, data)
    assert leg.refusal("command_line", parameters).startswith(message)
