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
from strongroom.errors import CodecError, ErrorCode

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = 3


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.find()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_mutants_raise_nothing_but_our_errors(name: str, material: Material) -> None:
    target, rng = named(name), random.Random(name)
    seeds = list(target.seeds(material))
    assert {seed[0] for seed in seeds} >= set(range(len(target.parsers))) - {_without_testdata(target)}
    for seed in seeds:
        assert len(seed) <= MAX_INPUT
        target(seed)
        for _ in range(MUTANTS):
            target(seed[:1] + mutate_bytes(rng, seed[1:]))


def _without_testdata(target: Target) -> int:
    """The parser whose seeds are all recorded, if they are not there."""
    missing = [n for n, parser in enumerate(target.parsers) if not list(parser.seeds(Material(None)))]
    assert len(missing) <= 1
    return missing[0] if missing else -1


@pytest.mark.parametrize("name", TARGETS)
def test_each_parser_accepts_a_seed_or_refuses_several(name: str, material: Material) -> None:
    """Seeds that are all refused at the first check would fuzz nothing but that check."""
    for parser in named(name).parsers:
        codes = set()
        for seed in parser.seeds(material):
            try:
                parser.parse(seed[: MAX_INPUT - 1])
            except Exception as error:
                codes.add(getattr(error, "code", None) or repr(error))
            else:
                codes.add("accepted")
        assert "accepted" in codes or codes & DEEP, (parser.name, codes)


DEEP = {
    "collateral-answer-invalid",  # of another platform than the one that is asked for
    "evidence-chain",  # two certificates that are not one above the other
    "hpke-bad-key",  # a key of one KEM is none of the other
    "log-receipt-invalid",  # its commitment is not that of its opening
    "log-state-invalid",
    "log-tile-malformed",  # entries are no hashes
    "merkle-proof-invalid",
    "note-unsigned",
    "queue-protocol",  # each of three answers of the server is read as all three
    "release-keyset",  # the signature over the keyset is made up
    "service-answer-invalid",
}


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
