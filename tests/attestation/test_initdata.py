"""Init-data: one set of bytes for each value, strict reading, digest over exact bytes."""

from __future__ import annotations

import hashlib
import json
import random
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation import initdata
from strongroom.attestation.initdata import MAX_INIT_DATA, MAX_MODELS, MAX_WITNESSES, InitData
from strongroom.crypto.notes import NoteKey, NoteSigner, NoteType
from strongroom.errors import EvidenceError

KEY = "ed25519+mldsa65:" + "A" * 43
POLICY = "sha256:" + "ab" * 32
WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
OTHER_WITNESS = "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO"
LOG_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
GOOD = InitData("lite", KEY, POLICY, ("kbs:///default/model/lite0",))


def renamed(text: str, name: str = "another.example") -> str:
    """The same key under another name."""
    return NoteKey(name, NoteType.COSIGNATURE_V1, NoteKey.parse(text).public).text


MANY_WITNESSES = tuple(
    NoteSigner(f"w{n}", NoteType.COSIGNATURE_V1, bytes([n] * 32)).key.text for n in range(MAX_WITNESSES + 1)
)
services = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
resources = st.from_regex(r"kbs:///[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64}){2}", fullmatch=True)
values = st.builds(
    InitData,
    service=services,
    broker_key=st.from_regex(r"ed25519\+mldsa65:[A-Za-z0-9_-]{43}", fullmatch=True),
    release_policy=st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
    models=st.lists(resources, unique=True, max_size=5).map(tuple),
) | st.builds(
    InitData,
    service=services,
    broker_key=st.just(KEY),
    release_policy=st.just(POLICY),
    witnesses=st.permutations([WITNESS, OTHER_WITNESS]).map(tuple),
    witness_threshold=st.integers(1, 2),
)


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(values)
def test_bytes_read_back(value: InitData) -> None:
    assert initdata.parse(value.to_toml()) == value


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(values)
def test_bytes_have_the_form_of_the_confidential_containers(value: InitData) -> None:
    outer = tomllib.loads(value.to_toml().decode())
    assert outer.keys() == {"version", "algorithm", "data"}
    assert (outer["version"], outer["algorithm"]) == ("0.1.0", "sha384")
    assert all(isinstance(entry, str) for entry in outer["data"].values())


def test_equal_values_give_equal_bytes() -> None:
    assert GOOD.to_toml() == InitData("lite", KEY, POLICY, ("kbs:///default/model/lite0",)).to_toml()


def test_witnesses_are_named_only_where_there_are_some() -> None:
    """So that init-data without them has the bytes, and the digest, that it always had."""
    assert b"witness" not in GOOD.to_toml()
    watched = InitData("lite", KEY, POLICY, (), (WITNESS,), 1)
    assert f'witnesses = ["{WITNESS}"]\nwitness_threshold = 1\n'.encode() in watched.to_toml()
    assert initdata.parse(watched.to_toml()) == watched


def test_digest_is_over_the_exact_bytes() -> None:
    data = GOOD.to_toml()
    assert initdata.digest(data) == hashlib.sha384(data).digest()
    assert initdata.parse(data + b"# comment\n") == GOOD
    assert initdata.digest(data + b"# comment\n") != initdata.digest(data)


@pytest.mark.parametrize(
    "change",
    [
        {"service": ""},
        {"service": "Lite"},
        {"service": "-lite"},
        {"service": "lite\n"},
        {"service": "a" * 64},
        {"broker_key": "rsa:" + "A" * 43},
        {"broker_key": KEY + "A"},
        {"release_policy": "ab" * 32},
        {"release_policy": "sha256:" + "AB" * 32},
        {"models": ("lite0",)},
        {"models": ("kbs:///default/model/../x",)},
        {"models": ("kbs:///default/model/lite0", "kbs:///default/model/lite0")},
        {"models": tuple(f"kbs:///default/model/m{n}" for n in range(MAX_MODELS + 1))},
        {"models": ("kbs:///default/model/x'''",)},
        {"witnesses": (WITNESS,)},  # without a threshold
        {"witness_threshold": 1},  # without a witness
        {"witnesses": (WITNESS,), "witness_threshold": 2},
        {"witnesses": (WITNESS,), "witness_threshold": -1},
        {"witnesses": (WITNESS, WITNESS), "witness_threshold": 1},
        {"witnesses": (WITNESS.replace("da77ade7", "da77ade8"),), "witness_threshold": 1},
        {"witnesses": (LOG_KEY,), "witness_threshold": 1},  # a key that does not cosign
        {"witnesses": (WITNESS, renamed(WITNESS)), "witness_threshold": 2},  # one key that counts twice
        {"witnesses": ('a"b' + WITNESS,), "witness_threshold": 1},
        {"witnesses": MANY_WITNESSES, "witness_threshold": 1},
    ],
    ids=repr,
)
def test_a_value_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    parts: dict[str, Any] = {
        "service": "lite",
        "broker_key": KEY,
        "release_policy": POLICY,
        "models": (),
    }
    with pytest.raises(EvidenceError) as caught:
        InitData(**(parts | change))
    assert caught.value.code == "init-data-malformed"


def _outer(entry: str, *, head: str = 'version = "0.1.0"\nalgorithm = "sha384"\n') -> bytes:
    return f"{head}[data]\n\"strongroom.toml\" = '''\n{entry}'''\n".encode()


ENTRY = tomllib.loads(GOOD.to_toml().decode())["data"]["strongroom.toml"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"not toml",
        b"x = " + b"1" * 5000,
        b"x = " + b"[" * 5000,
        _outer(ENTRY, head='version = "0.2.0"\nalgorithm = "sha384"\n'),
        _outer(ENTRY, head='version = "0.1.0"\nalgorithm = "md5"\n'),
        _outer(ENTRY, head='version = "0.1.0"\nalgorithm = 384\n'),
        _outer(ENTRY, head='version = "0.1.0"\n'),
        _outer(ENTRY, head='version = "0.1.0"\nalgorithm = "sha384"\nextra = 1\n'),
        _outer("not toml"),
        _outer(ENTRY + "extra = 1\n"),
        _outer(ENTRY + "witness_threshold = 1\n"),
        _outer(ENTRY + f'witnesses = ["{WITNESS}"]\n'),
        _outer(ENTRY + "witnesses = []\nwitness_threshold = 0\n"),
        _outer(ENTRY + f'witnesses = ["{WITNESS}"]\nwitness_threshold = true\n'),
        _outer("".join(ENTRY.splitlines(keepends=True)[1:])),
        b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"policy.rego" = "allow"\n',
        b'version = "0.1.0"\nalgorithm = "sha384"\ndata = 5\n',
        b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"strongroom.toml" = 5\n',
        _outer(ENTRY.replace('"lite"', "5")),
        _outer(ENTRY.replace("models = [", 'models = "').replace("]", '"').replace('""kbs', '"kbs')),
        GOOD.to_toml() + b"#" * MAX_INIT_DATA,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        initdata.parse(data)
    assert caught.value.code == "init-data-malformed"


def test_a_guest_of_confidential_containers_has_more_in_it() -> None:
    others = b"\"aa.toml\" = 'x = 1'\n\"cdh.toml\" = 'y = 2'\n\"policy.rego\" = 'allow'\n"
    for algorithm in ("sha256", "sha-384", "sha512"):
        head = f'version = "0.1.0"\nalgorithm = "{algorithm}"\n'
        assert initdata.parse(_outer(ENTRY, head=head) + others) == GOOD


def test_mutants_raise_our_errors_only(survey: Callable[..., Any], mutants: Callable[..., Any]) -> None:
    fields = tomllib.loads(ENTRY)

    def encode(value: dict[str, Any]) -> bytes:
        """JSON values are TOML values, so a changed entry still passes the outer frame."""
        if not isinstance(value, dict):
            return _outer(json.dumps(value))
        lines = [f"{json.dumps(name)} = {json.dumps(item)}\n" for name, item in value.items()]
        return _outer("".join(line for line in lines if "'''" not in line))

    rng = random.Random(2)
    inputs = list(mutants(fields, encode, 20_000, seed=2))
    rng.shuffle(inputs)
    result = survey(initdata.parse, inputs)
    assert set(result.codes) == {"init-data-malformed"}
    assert result.codes.total() > 10_000
    assert len(result.accepted) > 100
    assert all(initdata.parse(value.to_toml()) == value for _, value in result.accepted)
