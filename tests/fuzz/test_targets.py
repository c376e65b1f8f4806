"""The fuzz targets without the fuzzer: each is run on its seeds and on a few mutants of them."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from fuzz.material import NOW, Material
from fuzz.roots import ANY, EVERY
from fuzz.target import MAX_INPUT, Parser, Target, join, split, time_of
from fuzz.targets import TARGETS, named
from fuzz.watch import stretched
from mutants import mutate_bytes
from strongroom.errors import CodecError, ErrorCode, StrongroomError

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = 3
LARGE = 32 * 1024


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.find()


@pytest.fixture(scope="module")
def bare() -> Material:
    """What there is without recorded evidence."""
    return Material(None)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_mutants_raise_nothing_but_our_errors(name: str, material: Material) -> None:
    target, rng = named(name), random.Random(name)
    for seed in target.seeds(material):
        assert len(seed) <= MAX_INPUT
        target(seed)
        for _ in range(MUTANTS if len(seed) < LARGE else 0):
            target(seed[:1] + mutate_bytes(rng, seed[1:]))


@pytest.mark.parametrize("name", TARGETS)
def test_each_parser_has_a_seed_without_recorded_evidence(name: str, bare: Material) -> None:
    target = named(name)
    assert {seed[0] for seed in target.seeds(bare)} == set(range(len(target.parsers)))


DEEP = {
    "proof of inclusion": "merkle-proof-invalid",  # of another leaf
    "request to a witness": "merkle-proof-invalid",  # from another root
    "receipt": "merkle-proof-invalid",
    "service key": "release-keyset",  # the signature over the keyset in it is made up
    "certificate of an endorsement key": "evidence-chain",  # two that are not one above the other
    "root at the end of a chain": "evidence-untrusted-root",  # a simulated one
}
"""With what the best seed of a parser is refused where none is accepted: a check that comes late."""


@pytest.mark.parametrize("name", TARGETS)
def test_each_parser_accepts_a_seed_or_refuses_it_late(name: str, material: Material) -> None:
    """Seeds that are all refused at the first check would fuzz nothing but that check."""
    for parser in named(name).parsers:
        codes = {_code(parser, seed[: MAX_INPUT - 1]) for seed in parser.seeds(material)}
        assert codes & {"accepted", DEEP.get(parser.name)}, (parser.name, codes)


def _code(parser: Parser, data: bytes) -> str:
    try:
        parser.parse(data)
    except StrongroomError as error:
        return error.code
    return "accepted"


def test_the_first_byte_chooses_the_parser() -> None:
    seen: list[tuple[int, bytes]] = []

    def parser(number: int) -> Parser:
        return Parser(str(number), lambda data: seen.append((number, data)), lambda _: [b"s"])

    target = Target("planted", (parser(0), parser(1), parser(2)))
    for data in (b"", b"\x00a", b"\x01b", b"\x05c"):
        target(data)
    assert seen == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert list(target.seeds(Material(None))) == [b"\x00s", b"\x01s", b"\x02s"]


def test_only_our_errors_are_let_pass() -> None:
    kind = ErrorCode("planted", "Planted", 400, 1, "")

    def parse(data: bytes) -> None:
        if data == b"ours":
            raise CodecError(kind)
        raise ValueError(data)

    target = Target("planted", (Parser("planted", parse, lambda _: []),))
    target(b"\x00ours")
    with pytest.raises(ValueError, match="theirs"):
        target(b"\x00theirs")


def test_parts_are_split_as_they_were_joined() -> None:
    assert split(join(b"one", b"", b"three"), 3) == [b"one", b"", b"three"]
    assert split(b"\xff\xff\xffshort", 3) == [b"short", b"", b""]
    assert split(b"", 2) == [b"", b""]
    assert time_of(NOW.to_bytes(6) + b"more") == NOW


def test_any_root_is_trusted_in_fuzzing_alone() -> None:
    assert "00" * 32 in EVERY
    assert "00" * 32 in (EVERY | frozenset({"x"}))
    assert ANY.simulated is EVERY
    for path in sorted((ROOT / "src").rglob("*.py")):
        assert not _imports_fuzz(ast.parse(path.read_text())), path


def _imports_fuzz(tree: ast.Module) -> bool:
    names = [each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
    names += [alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names]
    return any(name.partition(".")[0] == "fuzz" for name in names)


def test_an_input_is_stretched_now_and_then_and_keeps_its_parser() -> None:
    data = b"\x07" + b'{"a":[1,2,3]}'
    longer = [found for seed in range(2_000) if (found := stretched(data, MAX_INPUT, seed)) is not None]
    assert 10 < len(longer) < 100
    assert all(each[0] == 7 and MAX_INPUT - 64 < len(each) <= MAX_INPUT for each in longer)
    assert all(stretched(b"\x07", MAX_INPUT, seed) is None for seed in range(500))
    full = bytes(MAX_INPUT)
    assert all(stretched(full, MAX_INPUT, seed) in {None, full} for seed in range(500))


def test_recorded_evidence_is_found_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRONGROOM_TESTDATA", str(tmp_path))
    assert Material.find().testdata is None
    assert Material.find().files("evidence/*") == []
    (tmp_path / "vectors/evidence").mkdir(parents=True)
    (tmp_path / "vectors/evidence/X.json").write_text('{"now": 1}')
    assert Material.find().vectors("X*.json") == [{"now": 1}]


def test_the_documentation_lists_all_targets_and_parsers() -> None:
    page = (ROOT / "docs/reference/fuzzing.md").read_text()
    for target in map(named, TARGETS):
        assert f"| `{target.name}` | {', '.join(parser.name for parser in target.parsers)} |" in page
