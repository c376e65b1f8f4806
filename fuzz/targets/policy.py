"""TOML: policies and init-data; and reference values, which are JSON that a publisher signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser
from strongroom.attestation import initdata
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy, decode_policy
from strongroom.attestation.reference_values import ReferenceValues, SignedReferenceValues
from strongroom.codec import b64
from strongroom.models.preprocess import parse_preprocess

_KEY: Final = "ed25519+mldsa65:" + "A" * 43
_WITNESS: Final = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
_PREPROCESS: Final = b"imagenet,input=x,mean=123.675/116.28/103.53,scale=58,resize=256,crop=224x224"
_BY_HAND: Final = (
    b"a = " + b"[" * 30_000,
    b"a = " + b"{b=" * 15_000,
    b"a = " + b"9" * 60_000,
    b"a = 0x" + b"f" * 60_000,
    b'"' + b"\\u00e9" * 10_000 + b'" = 1',
    b"".join(b"[a%d]\n" % number for number in range(6_000)),
    b"[[a]]\n" * 10_000,
    b"".join(b"a.b%d = 1\n" % number for number in range(5_000)),
    b'"a"."b"."c".d' * 1_000 + b" = 1",
    b"\n" * 60_000,
    b"# " + b"." * 60_000,
)


def _policy(data: bytes) -> None:
    """A policy that is read is one that can be written and read again."""
    policy = Policy.parse(decode_policy(data))
    again = Policy.parse(policy.to_toml())
    if again.differences(policy) or policy.differences(again):
        raise AssertionError("what was read is not what is written")


def _init_data(data: bytes) -> None:
    found = initdata.parse(data)
    if initdata.parse(found.to_toml()) != found:
        raise AssertionError("what was read is not what is written")


def _values(data: bytes) -> None:
    ReferenceValues.parse(data)


def _signed_values(data: bytes) -> None:
    SignedReferenceValues.parse(data)


def _preprocess(data: bytes) -> None:
    parse_preprocess(data.decode("utf-8", "replace"))


def _policies(material: Material) -> Iterator[bytes]:
    texts = {each["policy"] for each in material.of_type("policy")}
    texts |= {material.accepted(group)["policy"] for group in ("sgx", "snp", "tpm", "gpu", "service")}
    yield from sorted(text.encode()[:MAX_INPUT] for text in texts)
    yield from _BY_HAND


def _init_datas(_: Material) -> Iterator[bytes]:
    plain = InitData("pictures", _KEY, "sha256:" + "0" * 64, ("kbs:///default/model/lite0",))
    yield plain.to_toml()
    members = (plain.service, plain.broker_key, plain.release_policy, plain.models)
    yield InitData(*members, (_WITNESS,), 1).to_toml()
    yield from _BY_HAND


def _payloads(material: Material) -> Iterator[bytes]:
    for document in _documents(material):
        yield b64.decode_url(json.loads(document)["reference_values"], limit=MAX_INPUT)


def _documents(material: Material) -> Iterator[bytes]:
    yield material.documented("reference-values.json")


def _preprocesses(_: Material) -> Iterator[bytes]:
    yield _PREPROCESS
    yield _PREPROCESS.replace(b",", b"\n")
    yield b'preset = "keras-tf"\ninput = "x"\nmean = [1.5, 2, 3]\ncrop = 224\n'
    yield from _BY_HAND


PARSERS: Final = (
    Parser("policy", _policy, _policies),
    Parser("init-data", _init_data, _init_datas),
    Parser("payload of reference values", _values, _payloads),
    Parser("signed reference values", _signed_values, _documents),
    Parser("preprocessing of pictures", _preprocess, _preprocesses),
)
