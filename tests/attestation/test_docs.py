"""The worked examples of docs/reference are what the code gives, to the byte."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation import initdata
from strongroom.attestation.beacon import Beacon, SignedBeacon
from strongroom.attestation.evidence import EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.keyset import Keyset, KeysetModel, SignedKeyset
from strongroom.attestation.policy import Policy
from strongroom.attestation.policy_text import render_policy
from strongroom.attestation.reference_values import ReferenceValues, SignedReferenceValues
from strongroom.attestation.serving import serve_report_data
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import KeyConfig, encode_key_configs
from strongroom.crypto.sign import SigningKey

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
VECTORS = REFERENCE / "vectors"
"""Signed documents: every signature is another one, so that these can be verified but not made again."""

EXAMPLE = re.compile(r"<!-- example: ([a-z-]+) -->\n```[a-z]*\n(.*?)```\n", re.DOTALL)


def examples() -> dict[str, str]:
    """Name and text of every example. All keys are of fixed seeds; never use them for anything."""
    broker = SigningKey.from_raw(b"\x01" * 64)
    receipt_key = SigningKey.from_raw(b"\x02" * 64).verifying_key.text
    release = render_policy(
        kinds=[EvidenceKind.SGX],
        measurements={EvidenceKind.SGX: ["11" * 32]},
        allow_simulated=True,
        simulated_roots=["22" * 32],
    )
    client = render_policy(
        kinds=[EvidenceKind.SGX],
        measurements={EvidenceKind.SGX: ["11" * 32]},
        allow_simulated=True,
        simulated_roots=["22" * 32],
        allow_unattested_broker=True,
        broker_key=broker.verifying_key.text,
        service="lite",
    )
    private = PrivateKey.from_bytes(Kem.MLKEM768_X25519, b"\x03" * 32)
    config = KeyConfig(3, Kem.MLKEM768_X25519, private.public_bytes(), ((1, Aead.AES_256_GCM),))
    digest = Policy.parse(release).digest
    keyset = Keyset(
        service="lite",
        epoch=1,
        keys=encode_key_configs([config]),
        release_policy=digest,
        models={"lite0": KeysetModel("1.0", "sha256:" + "33" * 32)},
        not_before=1_800_000_000,
        not_after=1_800_604_800,
        broker_key=broker.verifying_key.text,
        key_custodian="Example Hospital",
    )
    init_data = InitData("lite", broker.verifying_key.text, digest, ("kbs:///default/model/lite0",)).to_toml()
    beacon = Beacon("lite", 1, 1_800_000_300, b"\x04" * 32)
    bound = serve_report_data(keyset.digest(), beacon.evidence_nonce, init_data, receipt_key)
    values = ReferenceValues(
        publisher="Example Models",
        name="pictures",
        version=3,
        issued=1_800_000_000,
        not_before=1_800_086_400,
        expires=1_807_862_400,
        measurements={EvidenceKind.SGX: {"77" * 32: "pictures 1.5"}},
    )
    return {
        "reference-values-payload": f"{values.payload().decode()}\n",
        "client-policy": client,
        "release-policy-digest": f"{digest}\n",
        "keyset-payload": f"{keyset.payload().decode()}\n",
        "keyset-digest": f"{keyset.digest()}\n",
        "init-data": init_data.decode(),
        "init-data-digest": f"sha384:{initdata.digest(init_data).hex()}\n",
        "beacon-payload": f"{beacon.payload().decode()}\n",
        "evidence-nonce": f"{beacon.evidence_nonce.hex()}\n",
        "receipt-key": f"{receipt_key}\n",
        "report-data": f"{bound.hex()}\n",
    }


def documented() -> dict[str, str]:
    pages = [path.read_text(encoding="utf-8") for path in sorted(REFERENCE.glob("*.md"))]
    found = [(name, text) for page in pages for name, text in EXAMPLE.findall(page)]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("name", examples())
def test_an_example_is_what_the_code_gives(name: str) -> None:
    assert documented()[name] == examples()[name]


def test_the_examples_are_good_documents() -> None:
    texts = documented()
    policy = Policy.parse(texts["client-policy"])
    assert policy.service == "lite"
    assert policy.broker_key is not None
    key = SigningKey.from_raw(b"\x01" * 64).verifying_key
    keyset = SignedKeyset.parse((VECTORS / "keyset.json").read_bytes()).verify(key)
    assert keyset == Keyset.parse(texts["keyset-payload"].strip().encode())
    assert policy.broker_key == keyset.broker_key == initdata.parse(texts["init-data"].encode()).broker_key
    beacon = SignedBeacon.parse((VECTORS / "beacon.json").read_bytes()).verify(key)
    assert beacon == Beacon.parse(texts["beacon-payload"].strip().encode())


def test_the_example_of_reference_values_is_signed() -> None:
    payload = documented()["reference-values-payload"].strip().encode()
    signed = SignedReferenceValues.parse((VECTORS / "reference-values.json").read_bytes())
    publisher = SigningKey.from_raw(b"\x07" * 64).verifying_key
    assert signed.verify(publisher) == ReferenceValues.parse(payload)


def test_every_key_of_the_formats_is_described() -> None:
    """A member that is added to a format must be added to its page."""
    members: dict[str, Any] = {
        "policy.md": [name for name in Policy.__slots__ if name not in {"text", "published"}],
        "reference-values.md": json.loads(examples()["reference-values-payload"]),
        "keyset.md": json.loads(examples()["keyset-payload"]),
        "evidence.md": [
            "kind",
            "quote",
            "collateral",
            "init_data",
            "worker",
            "nonce",
            "beacon",
            "receipt_key",
        ],
        "init-data.md": ["service", "broker_key", "release_policy", "models"],
    }
    for page, names in members.items():
        text = (REFERENCE / page).read_text(encoding="utf-8")
        assert [name for name in names if f"| `{name}` |" not in text] == []
