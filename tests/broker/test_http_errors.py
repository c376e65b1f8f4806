"""Errors on the wire: 401 for refusals, the protocol's own types, our code beside, no faults explained."""

from __future__ import annotations

import pytest

from strongroom.attestation.errors import EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE, POLICY_MEASUREMENT
from strongroom.broker import errors
from strongroom.broker.http_errors import TYPE_PREFIX, Step, kbs_error
from strongroom.errors import (
    BrokerError,
    ErrorCode,
    EvidenceError,
    PolicyRefused,
    StrongroomError,
    registered,
)


@pytest.mark.parametrize(
    ("error", "step", "status", "kind"),
    [
        (BrokerError(errors.NONCE_FOREIGN), Step.ATTEST, 401, "AttestationError"),
        (BrokerError(errors.SERVICE_UNKNOWN), Step.ATTEST, 401, "AttestationError"),
        (PolicyRefused(POLICY_MEASUREMENT), Step.ATTEST, 401, "AttestationError"),
        (EvidenceError(EVIDENCE_MALFORMED), Step.ATTEST, 401, "AttestationError"),
        (EvidenceError(EVIDENCE_TOO_LARGE), Step.ATTEST, 401, "AttestationError"),
        (BrokerError(errors.SESSION_UNKNOWN), Step.ATTEST, 401, "AttestationError"),
        (BrokerError(errors.BODY_INVALID), Step.ATTEST, 400, "AttestationError"),
        (BrokerError(errors.BODY_TOO_LARGE), Step.ATTEST, 413, "AttestationError"),
        (BrokerError(errors.SESSIONS_FULL), Step.ATTEST, 503, "AttestationError"),
        (PolicyRefused(POLICY_MEASUREMENT), Step.RESOURCE, 401, "PolicyDeny"),
        (BrokerError(errors.SERVICE_UNKNOWN), Step.RESOURCE, 401, "PolicyDeny"),
        (BrokerError(errors.MODEL_FOREIGN), Step.RESOURCE, 401, "PolicyDeny"),
        (BrokerError(errors.TOKEN_MISSING), Step.RESOURCE, 401, "TokenNotFound"),
        (BrokerError(errors.SESSION_UNKNOWN), Step.RESOURCE, 401, "TokenNotFound"),
        (BrokerError(errors.TOKEN_EXPIRED), Step.RESOURCE, 401, "TokenVerifierError"),
        (BrokerError(errors.TOKEN_INVALID), Step.RESOURCE, 401, "TokenVerifierError"),
        (BrokerError(errors.SESSION_EXPIRED), Step.RESOURCE, 401, "TokenVerifierError"),
        (BrokerError(errors.RESOURCE_UNKNOWN), Step.RESOURCE, 404, "PluginNotFound"),
        (BrokerError(errors.NO_EPOCH), Step.RESOURCE, 404, "PluginNotFound"),
        (BrokerError(errors.RESOURCE_PATH), Step.RESOURCE, 404, "InvalidRequestPath"),
        (BrokerError(errors.STORE_BUSY), Step.RESOURCE, 503, "PolicyDeny"),
    ],
)
def test_status_and_type(error: StrongroomError, step: Step, status: int, kind: str) -> None:
    found, members = kbs_error(error, step)
    assert found == status
    assert members["type"] == TYPE_PREFIX + kind
    assert members["code"] == error.code
    assert set(members) == {"type", "detail", "code"}


def test_a_refusal_says_what_was_found_and_a_fault_does_not() -> None:
    _, refusal = kbs_error(PolicyRefused(POLICY_MEASUREMENT, found="ab", expected="cd"), Step.ATTEST)
    assert "found ab" in refusal["detail"]
    _, fault = kbs_error(BrokerError(errors.STORE_UNUSABLE, "/var/lib/x: disk I/O error"), Step.ATTEST)
    assert fault["detail"] == errors.STORE_UNUSABLE.title


def test_every_code_of_the_broker_is_registered_and_tells_what_to_do() -> None:
    codes = [value for value in vars(errors).values() if isinstance(value, ErrorCode)]
    assert len(codes) > 40
    for kind in codes:
        assert registered()[kind.code] is kind
        assert kind.remedy.endswith(".")
        assert 400 <= kind.status <= 599
        assert kind.exit_code in {1, 2, 3, 4}
