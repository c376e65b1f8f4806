"""Error codes of the client."""

from __future__ import annotations

from strongroom.errors import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, define

POLICY_MISSING = define(
    "policy-missing",
    "No policy says which service may see the data",
    status=400,
    exit_code=EXIT_REFUSED,
    remedy="Pass --policy FILE (policy=... in Python). `strongroom up --policy-out FILE` writes one.",
)
SERVICE_UNREACHABLE = define(
    "service-unreachable",
    "The service cannot be reached",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check the URL, and that `strongroom up` or `strongroom frontend` is running.",
)
DEADLINE_PASSED = define(
    "deadline-passed",
    "No answer came before the deadline",
    status=504,
    exit_code=EXIT_UNREACHABLE,
    remedy="Allow more time with --timeout (timeout=... in Python).",
)
SERVICE_ANSWER_INVALID = define(
    "service-answer-invalid",
    "The service's answer is not what the protocol says",
    status=502,
    remedy="Check that the URL is that of a Strongroom front end of this version.",
)
SERVICE_REFUSED = define(
    "service-refused",
    "The service refused the request",
    status=502,
    remedy="See the detail.",
)
INPUT_INVALID = define(
    "input-invalid",
    "An input cannot be sent",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Pass bytes (a picture), a list of bytes, or a numpy array for each input.",
)
EPOCH_ROLLED_BACK = define(
    "epoch-rolled-back",
    "The service shows an older keyset than before",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Do not send to it: somebody serves keys that were replaced. Ask who runs the service.",
)
KEY_UNKNOWN = define(
    "key-unknown-after-refetch",
    "The workers do not know the key of the service's own keyset",
    status=502,
    remedy="Wait for the rotation to reach all workers, then try again.",
)
