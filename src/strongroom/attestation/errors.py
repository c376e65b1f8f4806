"""Error codes of the attestation layer.

Three families: `evidence-*` and the document codes (raised as `EvidenceError`) say that something is
malformed or does not verify; `policy-*` (raised as `PolicyRefused`) that good evidence is not what the
relying party accepts; `service-*` (raised as `PolicyRefused`) that the documents of a service do not hold
together. All of them end a command with exit status 3: nothing may be sealed or released. A policy file
that cannot be used is a `ConfigError`, exit status 2.
"""

from __future__ import annotations

from typing import Final

from strongroom.errors import EXIT_REFUSED, EXIT_USAGE, ErrorCode, define

_UPDATE_CLIENT: Final = "Check that the service and this program are of versions that fit together."
_EDIT_POLICY: Final = "Accept it in the policy only if you know why it differs; else do not use this service."
_REPORT_SERVICE: Final = (
    "Do not use the service. Tell its operator; if he cannot explain it, treat it as an attack."
)


def _refusal(code: str, title: str, remedy: str) -> ErrorCode:
    return define(code, title, status=403, exit_code=EXIT_REFUSED, remedy=remedy)


def _malformed(code: str, title: str, remedy: str = _UPDATE_CLIENT) -> ErrorCode:
    return define(code, title, status=400, exit_code=EXIT_REFUSED, remedy=remedy)


# Evidence: parsing and verification up to a trusted root.
EVIDENCE_MALFORMED = _malformed("evidence-malformed", "The evidence is not well-formed")
EVIDENCE_TOO_LARGE = define(
    "evidence-too-large",
    "The evidence exceeds a size limit",
    status=413,
    exit_code=EXIT_REFUSED,
    remedy="Genuine evidence is far below the limits; look at what produced it.",
)
EVIDENCE_NO_COLLATERAL = _refusal(
    "evidence-no-collateral",
    "The evidence comes without collateral",
    "Let the attester add the vendor's collateral (TCB info, QE identity, CRLs) to its evidence.",
)
EVIDENCE_UNTRUSTED_ROOT = _refusal(
    "evidence-untrusted-root",
    "The evidence ends in a root that is not trusted",
    "For simulated evidence, pin the simulator's root in the policy (simulated_roots); else refuse it.",
)
EVIDENCE_UNVERIFIED = _refusal(
    "evidence-unverified", "The evidence does not verify up to its root", _REPORT_SERVICE
)
EVIDENCE_EXPIRED = _refusal(
    "evidence-expired",
    "The collateral of the evidence is outside its validity",
    "Let the attester fetch fresh collateral, and check the clock of this machine.",
)
EVIDENCE_DEBUG = _refusal(
    "evidence-debug",
    "The evidence is of a debug enclave",
    "Debug enclaves can be read by their host. Start the worker in production mode.",
)
EVIDENCE_REVOKED = _refusal(
    "evidence-revoked",
    "A certificate or security level in the evidence is revoked",
    "The platform must be recovered or replaced by its operator.",
)
EVIDENCE_TCB_UNKNOWN = _refusal(
    "evidence-tcb-unknown",
    "No security level of the vendor matches the platform",
    "The platform is older than every level that its vendor supports. Update its firmware.",
)
EVIDENCE_FORMAT = _malformed("evidence-format", "The evidence is of a format or version that is not known")
EVIDENCE_ALGORITHM = _refusal(
    "evidence-algorithm", "The evidence uses an algorithm that is not accepted", _REPORT_SERVICE
)
EVIDENCE_CERTIFICATE = _malformed("evidence-certificate", "A certificate of the evidence is not well-formed")
EVIDENCE_CHAIN = _refusal(
    "evidence-chain", "A certificate of the evidence was not issued by the next one", _REPORT_SERVICE
)
EVIDENCE_SIGNATURE = _refusal(
    "evidence-signature", "The signature over the evidence does not hold", _REPORT_SERVICE
)
EVIDENCE_KEY = _refusal(
    "evidence-key", "The key that signed the evidence is not of the kind that may sign it", _REPORT_SERVICE
)
EVIDENCE_PLATFORM = _refusal(
    "evidence-platform", "The evidence is of another chip or product than its certificates", _REPORT_SERVICE
)
EVIDENCE_TCB_MISMATCH = _refusal(
    "evidence-tcb-mismatch",
    "The evidence reports other firmware versions than its certificate",
    "Let the attester fetch the certificate for the firmware that runs now.",
)
EVIDENCE_CRL = _refusal(
    "evidence-crl",
    "The certificate revocation list does not hold",
    "Let the attester fetch the vendor's present revocation list.",
)
EVIDENCE_NONCE = _refusal("evidence-nonce", "The evidence is for another nonce", _REPORT_SERVICE)
EVIDENCE_BINDING = _refusal(
    "evidence-binding", "The parts of the evidence do not belong together", _REPORT_SERVICE
)
EVIDENCE_INIT_DATA = _refusal(
    "evidence-init-data",
    "The init-data is not the one that the evidence carries",
    _REPORT_SERVICE,
)

# Documents.
INIT_DATA_MALFORMED = _malformed("init-data-malformed", "The init-data is not well-formed")
KEYSET_MALFORMED = _malformed("keyset-malformed", "The keyset is not well-formed")
BEACON_MALFORMED = _malformed("beacon-malformed", "The beacon is not well-formed")
SERVICE_EVIDENCE_MALFORMED = _malformed(
    "service-evidence-malformed", "The evidence document of the service is not well-formed"
)
POLICY_INVALID = define(
    "policy-invalid",
    "The policy is not valid",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Correct the key that is named; docs/reference/policy.md lists all keys.",
)
POLICY_INIT = define(
    "policy-init-refused",
    "A policy that accepts this evidence would permit what was not asked for",
    status=400,
    exit_code=EXIT_REFUSED,
    remedy="Use better evidence; or name the permission on the command line if you accept what it means.",
)
POLICY_UNREADABLE = define(
    "policy-unreadable",
    "The policy file cannot be read",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Pass --policy FILE; `strongroom up --policy-out FILE` writes one.",
)

# The appraisal of claims under a policy: one code for each check.
POLICY_KIND = _refusal("policy-kind", "The policy does not accept this kind of evidence", _EDIT_POLICY)
POLICY_SIMULATED = _refusal(
    "policy-simulated",
    "The evidence is SIMULATED and the policy does not allow that",
    "Simulated evidence protects nothing. For a trial, allow it and pin the simulator's root.",
)
POLICY_SIMULATED_ROOT = _refusal(
    "policy-simulated-root", "The simulated root is not pinned by the policy", _EDIT_POLICY
)
POLICY_MEASUREMENT = _refusal(
    "policy-measurement",
    "The measurement is not one that the policy accepts",
    "Other code runs than you approved. If it is a new release, check it and add its measurement.",
)
POLICY_TCB_STATUS = _refusal(
    "policy-tcb-status", "The policy does not accept the platform's TCB status", _EDIT_POLICY
)
POLICY_ADVISORY = _refusal(
    "policy-advisory", "A security advisory that the policy rejects applies to the platform", _EDIT_POLICY
)
POLICY_DEBUG = _refusal(
    "policy-debug",
    "The evidence is of a debug enclave",
    "Debug enclaves can be read by their host. Start the worker in production mode.",
)
POLICY_SVN = _refusal(
    "policy-svn",
    "The security version is below the policy's minimum",
    "Update the enclave to a newer release.",
)
POLICY_TCB_FLOOR = _refusal(
    "policy-tcb-floor",
    "The firmware of the platform is older than the policy accepts",
    "Let the operator update the firmware. AMD's security bulletins say which versions mend what.",
)
POLICY_PRIVILEGE = _refusal(
    "policy-privilege",
    "The evidence was asked for at a lower privilege level of the guest than the policy accepts",
    _EDIT_POLICY,
)
POLICY_MIGRATION = _refusal(
    "policy-migration",
    "A migration agent may move the guest's memory and the policy does not allow that",
    "Start the guest with a policy that forbids a migration agent.",
)
POLICY_GPU = _refusal(
    "policy-gpu",
    "The GPUs are more or fewer than the policy accepts",
    "Demand GPUs in [gpu] and attest at least min_count of them; a policy without [gpu] accepts none.",
)
POLICY_GPU_VERSION = _refusal(
    "policy-gpu-version",
    "The driver or the VBIOS of a GPU is not one that the policy lists",
    _EDIT_POLICY,
)
POLICY_GPU_REFERENCE = _refusal(
    "policy-gpu-reference",
    "The measurements of a GPU are not shown to be NVIDIA's reference values",
    "Give the signed reference values (RIM) of its driver and VBIOS; or set reference_values = false if you "
    "accept the risk.",
)
POLICY_PCR = _refusal(
    "policy-pcr",
    "A register of the TPM does not have a value that the policy lists",
    _EDIT_POLICY,
)
POLICY_TPM_KEY = _refusal(
    "policy-tpm-key",
    "The attestation key of the TPM is not one that the policy pins",
    "Enrol the TPM, and list the digest of its key in tpm_keys.",
)
POLICY_REVOCATION = _refusal(
    "policy-revocation",
    "The evidence comes without a revocation list",
    "Let the attester add the vendor's list; or set require_revocation = false if you accept the risk.",
)
POLICY_EXPIRED = _refusal(
    "policy-expired", "The collateral behind the claims has expired", "Fetch the evidence again."
)
POLICY_REPORT_DATA = _refusal(
    "policy-report-data", "The evidence does not bind what it was asked to bind", _REPORT_SERVICE
)
POLICY_INIT_DATA = _refusal(
    "policy-init-data", "The evidence carries the digest of another init-data", _REPORT_SERVICE
)

# Signed reference values.
VALUES_MALFORMED = _malformed("reference-values-malformed", "The reference values are not well-formed")
VALUES_SIGNATURE = _refusal(
    "reference-values-signature",
    "The reference values are not signed by the publisher that the policy names",
    "Take them from the publisher himself. If his key has changed, ask him for the new one on another way.",
)
VALUES_FOREIGN = _refusal(
    "reference-values-foreign",
    "The reference values are not those that the policy names",
    "Take the file of the series that the policy names, or name the series in [reference_values].",
)
VALUES_OLDER = _refusal(
    "reference-values-older",
    "The reference values are older than is accepted",
    "Take the publisher's newest file. Somebody may have put an old one in its place.",
)
POLICY_VALUES_TIME = _refusal(
    "policy-values-expired",
    "The measurement is published, but the reference values do not count at this time",
    "Take the publisher's newest file, and check the clock of this machine.",
)

# The appraisal of a service: one code for each rule.
SERVICE_NO_BROKER_KEY = _refusal(
    "service-no-broker-key",
    "The policy does not pin a key broker",
    "Set broker_key in the policy to the key that the model owner's broker printed.",
)
SERVICE_KEYSET_SIGNATURE = _refusal(
    "service-keyset-signature", "The keyset is not signed by the broker that the policy pins", _REPORT_SERVICE
)
SERVICE_BROKER_KEY = _refusal(
    "service-broker-key", "The keyset names another key broker than the policy", _REPORT_SERVICE
)
SERVICE_NAME = _refusal("service-name", "The keyset is of another service", _REPORT_SERVICE)
SERVICE_KEYSET_NOT_YET_VALID = _refusal(
    "service-keyset-not-yet-valid", "The keyset is not valid yet", "Check the clock of this machine."
)
SERVICE_KEYSET_EXPIRED = _refusal(
    "service-keyset-expired",
    "The keyset has expired",
    "Let the operator rotate the service key; check the clock of this machine.",
)
SERVICE_CUSTODIAN = _refusal(
    "service-custodian-unattested",
    "The key custodian is not attested",
    "Whoever runs the broker could open requests. If you trust him, set allow_unattested_broker = true.",
)
SERVICE_CUSTODIAN_EVIDENCE = _refusal(
    "service-custodian-evidence", "The evidence of the key broker is refused", _REPORT_SERVICE
)
SERVICE_RELEASE_POLICY_DIGEST = _refusal(
    "service-release-policy-digest",
    "The release policy is not the one that the keyset names",
    _REPORT_SERVICE,
)
SERVICE_RELEASE_POLICY_INVALID = _refusal(
    "service-release-policy-invalid", "The release policy of the service is not valid", _REPORT_SERVICE
)
SERVICE_RELEASE_POLICY_WIDER = _refusal(
    "service-release-policy-wider",
    "The release policy admits workers that the own policy does not",
    "Widen your policy only if you accept what is listed; else ask the model owner for a stricter policy.",
)
SERVICE_CLASSICAL_REQUESTS = _refusal(
    "service-classical-requests",
    "The keyset offers no post-quantum suite for requests",
    "Ask the owner for keys with MLKEM768-X25519. Requests sealed without can be recorded now and opened "
    "once a quantum computer exists; set allow_classical_requests = true only if you accept that.",
)
SERVICE_CLASSICAL_RELEASE = _refusal(
    "service-classical-release",
    "The private keys of the service may travel without post-quantum protection",
    "Ask the owner for a release policy without allow_classical_release; set it in your own only if you "
    "accept that the keys can be recovered from recorded traffic once a quantum computer exists.",
)
SERVICE_NO_WORKERS = _refusal(
    "service-no-workers",
    "The service shows no evidence of a worker",
    "Wait until a worker runs, then try again.",
)
SERVICE_KEYSET_DIGEST = _refusal(
    "service-keyset-digest",
    "The worker's evidence is for another keyset",
    "Fetch keyset and evidence again; a key rotation may have come between.",
)
SERVICE_NONCE = _refusal("service-nonce", "The worker's evidence is for another nonce", _REPORT_SERVICE)
SERVICE_NO_BEACON = _refusal(
    "service-no-beacon",
    "The worker's evidence comes without a beacon of its broker",
    "Try again soon: a worker that has just started may have none yet. If it lasts, its broker is away.",
)
SERVICE_BEACON_SIGNATURE = _refusal(
    "service-beacon-signature", "The beacon is not signed by the broker that the policy pins", _REPORT_SERVICE
)
SERVICE_BEACON_SERVICE = _refusal(
    "service-beacon-service", "The beacon is of another service", _REPORT_SERVICE
)
SERVICE_BEACON_STALE = _refusal(
    "service-beacon-stale",
    "The worker's evidence is older than the policy accepts",
    "Fetch it again, or raise max_evidence_age; check the clock of this machine.",
)
SERVICE_BEACON_FUTURE = _refusal(
    "service-beacon-future", "The beacon is from the future", "Check the clock of this machine."
)
SERVICE_NO_INIT_DATA = _refusal(
    "service-no-init-data", "The worker's evidence comes without init-data", _REPORT_SERVICE
)
SERVICE_INIT_DATA_SERVICE = _refusal(
    "service-init-data-service", "The worker's init-data names another service", _REPORT_SERVICE
)
SERVICE_INIT_DATA_BROKER = _refusal(
    "service-init-data-broker", "The worker's init-data names another key broker", _REPORT_SERVICE
)
SERVICE_INIT_DATA_POLICY = _refusal(
    "service-init-data-policy", "The worker's init-data names another release policy", _REPORT_SERVICE
)
