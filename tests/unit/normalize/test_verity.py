"""The root hash of dm-verity: equal to what veritysetup computed, and refused where it would leave bytes out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import DocumentError
from builder.normalize.verity import verity_root_hash

# `veritysetup format --salt=- --no-superblock` of cryptsetup 2.6.1 on n blocks, block i = 1024 times i as u32, little
# endian; 128 digests fill one hash block, so 129 and 300 blocks have two levels
ROOTS = {
    1: "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7",
    2: "fe081ebb4d3b623191033e4c9493ea5ad5cee59080a09afd89a4c1a5ae8ce699",
    127: "104b063f8099f683d7253d8aa91920be961d818da84175c3921ce05d9d7fe494",
    128: "99e169f0bd63cb40fe0a04da6a105de97280a7d846d5b528085684f258ac6390",
    129: "a4775aa2f6a70f893550e19227f60ae929c00bdf832531ae81731d34f751a502",
    300: "b12d642d5f8c8d56adb16c1c107116a40d15de70a97661268c5fb84d66180c57",
}


def sample(blocks: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") * 1024 for number in range(blocks))


@pytest.mark.parametrize("blocks", ROOTS)
def test_root_hash_is_that_of_veritysetup(blocks: int) -> None:
    assert verity_root_hash((sample(blocks),)) == ROOTS[blocks]


@given(st.integers(0, 3 * 4096 * 8 - 1))
def test_every_bit_counts(bit: int) -> None:
    data = bytearray(sample(3))
    data[bit // 8] ^= 1 << bit % 8
    assert verity_root_hash((bytes(data),)) != verity_root_hash((sample(3),))


@given(st.lists(st.integers(0, 5 * 4096), max_size=6))
def test_the_size_of_chunks_does_not_matter(cuts: list[int]) -> None:
    data = sample(5)
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert verity_root_hash(chunks) == verity_root_hash((data,))


@pytest.mark.parametrize("size", [0, 1, 4095, 4097, 8191])
def test_data_that_is_not_whole_blocks_is_refused(size: int) -> None:
    with pytest.raises(DocumentError, match="dm-verity"):
        verity_root_hash((bytes(size),))
