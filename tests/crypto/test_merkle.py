"""Merkle trees: published vectors, a naive implementation beside, and every way to get a proof wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.crypto import merkle
from strongroom.crypto.merkle import EMPTY_ROOT, Frontier, Place, leaf_hash, node_hash
from strongroom.errors import CryptoError

# Leaves, roots and proofs of github.com/transparency-dev/merkle, which are those of Certificate Transparency.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]
SIZES = st.integers(0, 300)
OTHER = hashlib.sha256(b"other").digest()


class Tree:
    """A tree in memory, which keeps what `Frontier` says is complete."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = [leaf_hash(leaf) for leaf in leaves]
        self.frontier = Frontier()
        self.nodes = dict(node for leaf in self.leaves for node in self.frontier.add(leaf))

    def fetch(self, places: Sequence[Place]) -> list[bytes]:
        return [self.nodes[place] for place in places]


def tree(size: int) -> Tree:
    return Tree([number.to_bytes(4, "big") for number in range(size)])


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else EMPTY_ROOT
    middle = max(1 << bit for bit in range(30) if 1 << bit < len(leaves))
    return node_hash(naive_root(leaves[:middle]), naive_root(leaves[middle:]))


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    middle = max(1 << bit for bit in range(30) if 1 << bit < len(leaves))
    if index < middle:
        return [*naive_path(index, leaves[:middle]), naive_root(leaves[middle:])]
    return [*naive_path(index - middle, leaves[middle:]), naive_root(leaves[:middle])]


def naive_consistency(old: int, leaves: Sequence[bytes], complete: bool = True) -> list[bytes]:
    """RFC 6962, section 2.1.2."""
    if old == len(leaves):
        return [] if complete else [naive_root(leaves)]
    middle = max(1 << bit for bit in range(30) if 1 << bit < len(leaves))
    if old <= middle:
        return [*naive_consistency(old, leaves[:middle], complete), naive_root(leaves[middle:])]
    return [*naive_consistency(old - middle, leaves[middle:], False), naive_root(leaves[:middle])]


def test_hashes_of_rfc_6962() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    found = node_hash(b"N123", b"N456").hex()
    assert found == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


def test_published_roots() -> None:
    for size in range(1, 9):
        made = Tree(LEAVES[:size])
        assert made.frontier.root().hex() == merkle.root(size, made.fetch).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, path: list[str]) -> None:
    proof = merkle.inclusion_proof(index, size, Tree(LEAVES).fetch)
    assert [each.hex() for each in proof] == path
    root = bytes.fromhex(ROOTS[size - 1])
    merkle.verify_inclusion(
        leaf=leaf_hash(LEAVES[index]), index=index, size=size, proof=proof, root_hash=root
    )


@pytest.mark.parametrize(("old", "size", "path"), CONSISTENCY)
def test_published_consistency_proofs(old: int, size: int, path: list[str]) -> None:
    proof = merkle.consistency_proof(old, size, Tree(LEAVES).fetch)
    assert [each.hex() for each in proof] == path
    old_root, root = bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[size - 1])
    merkle.verify_consistency(old=old, old_root=old_root, size=size, root_hash=root, proof=proof)


@given(SIZES)
def test_roots_agree_with_the_naive_ones(size: int) -> None:
    made = tree(size)
    assert made.frontier.root() == merkle.root(size, made.fetch) == naive_root(made.leaves)


@given(st.data())
def test_an_older_root_is_made_of_the_same_nodes(data: st.DataObject) -> None:
    made = tree(data.draw(SIZES))
    old = data.draw(st.integers(0, len(made.leaves)))
    assert merkle.root(old, made.fetch) == naive_root(made.leaves[:old])


@given(st.data())
def test_inclusion_proofs_agree_with_the_naive_ones(data: st.DataObject) -> None:
    made = tree(300)
    size = data.draw(st.integers(1, 300))
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, made.fetch)
    assert list(proof) == naive_path(index, made.leaves[:size])
    root = merkle.root(size, made.fetch)
    merkle.verify_inclusion(leaf=made.leaves[index], index=index, size=size, proof=proof, root_hash=root)


@given(st.data())
def test_consistency_proofs_agree_with_the_naive_ones(data: st.DataObject) -> None:
    made = tree(300)
    size = data.draw(SIZES)
    old = data.draw(st.integers(0, size))
    proof = merkle.consistency_proof(old, size, made.fetch)
    assert list(proof) == (naive_consistency(old, made.leaves[:size]) if old else [])
    merkle.verify_consistency(
        old=old,
        old_root=merkle.root(old, made.fetch),
        size=size,
        root_hash=merkle.root(size, made.fetch),
        proof=proof,
    )


def test_an_append_and_a_proof_touch_few_nodes() -> None:
    made = tree(1000)
    assert len(made.nodes) < 2000
    asked: list[Place] = []

    def fetch(places: Sequence[Place]) -> list[bytes]:
        asked.extend(places)
        return made.fetch(places)

    merkle.inclusion_proof(500, 999, fetch)
    merkle.consistency_proof(613, 999, fetch)
    assert len(asked) < 4 * 10


def test_a_frontier_goes_on_where_another_ended() -> None:
    made = tree(77)
    again = Frontier(made.frontier.size, made.frontier.hashes)
    again.add(OTHER)
    assert again.root() == naive_root([*made.leaves, OTHER])


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 0), (3, 1), (4, 2)])
def test_a_frontier_has_as_many_hashes_as_its_size_says(size: int, count: int, refuses) -> None:
    with refuses("merkle-proof-invalid"):
        Frontier(size, [OTHER] * count)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 5), (5, 5)])
def test_there_is_no_proof_of_what_is_not_there(index: int, size: int, refuses) -> None:
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_proof(index, size, tree(5).fetch)
    with refuses("merkle-proof-invalid"):
        merkle.verify_inclusion(leaf=OTHER, index=index, size=size, proof=[], root_hash=OTHER)


def test_no_log_becomes_smaller(refuses) -> None:
    with pytest.raises(ValueError, match="larger"):
        merkle.consistency_proof(2, 1, tree(5).fetch)
    with refuses("merkle-proof-invalid"):
        merkle.verify_consistency(old=2, old_root=OTHER, size=1, root_hash=OTHER, proof=[])


def wrong(proof: Sequence[bytes], root: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The corruptions of transparency-dev/merkle's own tests."""
    plain = list(proof)
    yield "trailing garbage", [*plain, b""]
    yield "trailing root", [*plain, root]
    yield "preceding garbage", [b"", *plain]
    yield "preceding root", [root, *plain]
    for at in range(len(plain)):
        yield f"bit of {at}", [*plain[:at], bytes([plain[at][0] ^ 8]) + plain[at][1:], *plain[at + 1 :]]
        yield f"without {at}", [*plain[:at], *plain[at + 1 :]]
        yield f"{at} twice", [*plain[: at + 1], *plain[at:]]


def refused(check, **arguments: object) -> bool:
    code = None
    try:
        check(**arguments)
    except CryptoError as error:
        code = error.code
    return code == "merkle-proof-invalid"


@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 100])
def test_a_corrupted_inclusion_proof_is_refused(size: int) -> None:
    made = tree(size)
    root = made.frontier.root()
    for index in {0, 1, size // 2, size - 1}:
        good = {
            "leaf": made.leaves[index],
            "index": index,
            "size": size,
            "proof": merkle.inclusion_proof(index, size, made.fetch),
            "root_hash": root,
        }
        merkle.verify_inclusion(**good)
        for name, proof in wrong(good["proof"], root):
            assert refused(merkle.verify_inclusion, **{**good, "proof": proof}), name
        for changed in (
            {"index": index - 1},
            {"index": index + 1},
            {"index": index ^ 2},
            {"size": size * 2},
            {"size": size // 2},
            {"leaf": OTHER},
            {"leaf": b""},
            {"root_hash": OTHER},
            {"root_hash": EMPTY_ROOT},
        ):
            assert refused(merkle.verify_inclusion, **{**good, **changed}), changed


@pytest.mark.parametrize(("old", "size"), [(1, 8), (6, 8), (2, 5), (6, 7), (4, 100), (77, 100), (99, 100)])
def test_a_corrupted_consistency_proof_is_refused(old: int, size: int) -> None:
    made = tree(size)
    good = {
        "old": old,
        "old_root": merkle.root(old, made.fetch),
        "size": size,
        "root_hash": made.frontier.root(),
        "proof": merkle.consistency_proof(old, size, made.fetch),
    }
    merkle.verify_consistency(**good)
    for name, proof in [*wrong(good["proof"], good["root_hash"]), ("nothing", [])]:
        assert refused(merkle.verify_consistency, **{**good, "proof": proof}), name
    for changed in (
        {"old": old - 1},
        {"old": old + 1},
        {"old": old ^ 2},
        {"size": size * 2},
        {"size": size // 2},
        {"old_root": OTHER},
        {"root_hash": OTHER},
        {"old_root": good["root_hash"], "root_hash": good["old_root"]},
    ):
        assert refused(merkle.verify_consistency, **{**good, **changed}), changed


@pytest.mark.parametrize(
    "changed",
    [
        {"old": 5, "size": 5, "root_hash": OTHER},  # a fork at one size
        {"old": 5, "size": 5, "proof": [OTHER]},
        {"old": 0, "old_root": OTHER, "proof": []},  # an empty tree has one root only
        {"old": 0, "old_root": EMPTY_ROOT, "proof": [OTHER]},
        {"old": 0, "size": 0, "old_root": EMPTY_ROOT, "root_hash": OTHER, "proof": []},
        {"old": 3, "proof": []},
    ],
    ids=repr,
)
def test_consistency_of_the_trivial_sizes(changed: dict[str, object]) -> None:
    root = tree(5).frontier.root()
    good = {"old": 5, "old_root": root, "size": 5, "root_hash": root, "proof": []}
    merkle.verify_consistency(**good)
    merkle.verify_consistency(**{**good, "old": 0, "old_root": EMPTY_ROOT})
    assert refused(merkle.verify_consistency, **{**good, **changed})


@given(st.data())
def test_a_proof_for_another_place_is_refused(data: st.DataObject) -> None:
    made = tree(60)
    size = data.draw(st.integers(2, 60))
    index = data.draw(st.integers(0, size - 1))
    claimed = data.draw(st.integers(0, size - 1).filter(lambda number: number != index))
    proof = merkle.inclusion_proof(index, size, made.fetch)
    root = merkle.root(size, made.fetch)
    assert refused(
        merkle.verify_inclusion,
        leaf=made.leaves[index],
        index=claimed,
        size=size,
        proof=proof,
        root_hash=root,
    )
