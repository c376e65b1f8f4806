"""Cases of evidence documents and policies that must not even be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from strongroom.attestation.evidence import MAX_COLLATERAL, MAX_DOCUMENT, Evidence, EvidenceKind
from strongroom.attestation.policy import MAX_POLICY
from strongroom.attestation.policy_text import render_policy
from strongroom.conformance.case import ACCEPTED, Case

_MALFORMED = "evidence-malformed"
_INVALID = "policy-invalid"


def cases() -> Iterator[Case]:
    """All cases."""
    yield from _documents()
    yield from _policies()


def _documents() -> Iterator[Case]:
    good = Evidence(EvidenceKind.SNP, b"report", {"vek": "v", "chain": "c"}, b"i").to_json()

    def document(name: str, changes: str, expected: str, text: str) -> Case:
        return Case(f"document/{name}", changes, expected, "document", {"document": text})

    yield document("accepted", "nothing", ACCEPTED, json.dumps(good))
    for member in good:
        left = {name: value for name, value in good.items() if name != member}
        yield document(f"no-{member}", f"{member} is missing", _MALFORMED, json.dumps(left))
    for name, changed in _changed_members(good):
        yield document(name, "a member has another form", _MALFORMED, json.dumps(changed))
    text = json.dumps(good)
    for name, raw in (
        ("empty", ""),
        ("cut", text[:-1]),
        ("trailing", text + "x"),
        ("list", f"[{text}]"),
        ("twice", text[:-1] + ', "kind": "snp"}'),
        ("deep", "[" * 100 + "]" * 100),
        ("nan", text.replace('"snp"', "NaN", 1)),
        ("mark", "\ufeff" + text),
    ):
        yield document(f"json-{name}", "the JSON is not one object with one meaning", _MALFORMED, raw)
    large = good | {"collateral": {"vek": "v" * (MAX_COLLATERAL + 1), "chain": "c"}}
    yield document(
        "collateral-oversize", "the collateral is over its bound", "evidence-too-large", json.dumps(large)
    )
    yield document(
        "oversize", "the document is over its bound", "evidence-too-large", text + " " * MAX_DOCUMENT
    )


def _changed_members(good: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "kind-unknown", good | {"kind": "cca"}
    yield "kind-case", good | {"kind": "SNP"}
    yield "kind-number", good | {"kind": 1}
    yield "quote-number", good | {"quote": 1}
    yield "quote-null", good | {"quote": None}
    yield "quote-padded", good | {"quote": "cmVwb3J0cw=="}
    yield "quote-alphabet", good | {"quote": "+/+/"}
    yield "quote-spare-bits", good | {"quote": "AB"}
    yield "collateral-list", good | {"collateral": []}
    yield "collateral-number", good | {"collateral": {"vek": 1, "chain": "c"}}
    yield "collateral-other-kind", good | {"collateral": {"tcb_info": "t"}}
    yield "collateral-more", good | {"collateral": {"vek": "v", "chain": "c", "more": "m"}}
    yield "collateral-not-ascii", good | {"collateral": {"vek": "\u00e9", "chain": "c"}}
    yield "collateral-for-nitro", good | {"kind": "nitro"}
    yield "init-data-number", good | {"init_data": 1}
    yield "event-log-of-snp", good | {"event_log": "AAAA"}
    yield "event-log-null", good | {"event_log": None}
    yield "more", good | {"more": None}


def _policies() -> Iterator[Case]:
    good = render_policy(
        kinds=[EvidenceKind.SGX, EvidenceKind.SNP],
        measurements={EvidenceKind.SGX: ["11" * 32], EvidenceKind.SNP: ["22" * 48]},
        tcb_floor={"Milan": {"snp": 8}},
        allow_simulated=True,
        simulated_roots=["33" * 32],
    )

    def policy(name: str, changes: str, text: str, expected: str = _INVALID) -> Case:
        return Case(f"policy/{name}", changes, expected, "policy", {"policy": text})

    yield policy("accepted", "nothing", good, ACCEPTED)
    for name, old, new in (
        ("version", "version = 1", "version = 2"),
        ("version-text", "version = 1", 'version = "1"'),
        ("unknown-key", "version = 1", "version = 1\nallow_all = true"),
        ("twice", "version = 1", "version = 1\nversion = 1"),
        ("kinds-empty", 'kinds = ["sgx","snp"]', "kinds = []"),
        ("kinds-unknown", 'kinds = ["sgx","snp"]', 'kinds = ["cca"]'),
        ("kind-unmeasured", 'kinds = ["sgx","snp"]', 'kinds = ["sgx","snp","tdx"]'),
        ("kind-without-registers", 'kinds = ["sgx","snp"]', 'kinds = ["sgx","snp","tpm"]'),
        ("measurement-short", "11" * 32, "11" * 31),
        ("measurement-case", "11" * 32, "AA" * 32),
        ("floor-missing", "[tcb_floor.Milan]\nsnp = 8", ""),
        ("floor-product", "[tcb_floor.Milan]", "[tcb_floor.Rome]"),
        ("floor-part", "snp = 8", "fmc = 8"),
        ("floor-range", "snp = 8", "snp = 256"),
        ("root-missing", f'simulated_roots = ["sha256:{"33" * 32}"]', "simulated_roots = []"),
        ("root-form", f"sha256:{'33' * 32}", "33" * 32),
        ("flag-number", "allow_debug = false", "allow_debug = 0"),
        ("age-zero", "max_evidence_age = 600", "max_evidence_age = 0"),
        ("age-week", "max_evidence_age = 600", "max_evidence_age = 604801"),
        ("status-revoked", 'tcb_statuses = ["UpToDate"]', 'tcb_statuses = ["Revoked"]'),
        ("status-empty", 'tcb_statuses = ["UpToDate"]', "tcb_statuses = []"),
        ("broker-key", "version = 1", 'version = 1\nbroker_key = "ed25519:x"'),
        ("service", "version = 1", 'version = 1\nservice = "Lite"'),
        ("gpu-open", "[measurements]", "[gpu]\nmin_count = 1\n[measurements]"),
        ("pcr-number", "[measurements]", f'[pcrs]\n24 = ["{"00" * 32}"]\n[measurements]'),
        ("toml", "version = 1", "version = "),
    ):
        if old not in good:
            raise ValueError(name)
        yield policy(name, f"{name} is not right", good.replace(old, new, 1))
    yield policy("oversize", "it is over its bound", good + "#" * MAX_POLICY)
    yield policy("empty", "it is empty", "")
