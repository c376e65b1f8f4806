"""The worker's error codes."""

from __future__ import annotations

from strongroom.errors import EXIT_REFUSED, EXIT_USAGE, StrongroomError, define


class WorkerError(StrongroomError):
    """A request inside the envelope cannot be served, or the worker cannot start."""


# Inside the envelope: the request
DEADLINE_INVALID = define(
    "deadline-invalid",
    "The strongroom-deadline header is not a time in Unix milliseconds",
    status=400,
    remedy="Send a decimal number of milliseconds since 1970.",
)
DEADLINE_MISMATCH = define(
    "deadline-mismatch",
    "The outer deadline is later than the sealed one",
    status=400,
    remedy="Send the same deadline outside and inside; whoever forwards a request may only shorten it.",
)
DEADLINE_EXCEEDED = define(
    "deadline-exceeded",
    "The request's deadline passed before it was computed",
    status=504,
    remedy="Send it again with a later deadline; if this is frequent, add workers.",
)
ROUTE_UNKNOWN = define(
    "route-unknown",
    "No such resource inside the envelope",
    status=404,
    remedy="Use the paths of the Open Inference Protocol v2, for example /v2/models/NAME/infer.",
)
METHOD_NOT_ALLOWED = define(
    "method-not-allowed",
    "The resource does not have this method",
    status=405,
    remedy="POST to .../infer; GET everything else.",
)
MODEL_UNKNOWN = define(
    "model-unknown",
    "The service has no model of this name",
    status=404,
    remedy="The keyset lists the models that the service has.",
)
VERSION_UNKNOWN = define(
    "model-version-unknown",
    "The service does not have this version of the model",
    status=404,
    remedy="The model's metadata lists its versions; leave the version out to take the one that is served.",
)
BATCH_TOO_LARGE = define(
    "batch-too-large",
    "The request holds more items than the model takes at once",
    status=413,
    remedy="Split the items over several requests.",
)
PARAMETER_INVALID = define(
    "parameter-invalid",
    "A parameter of the request is not usable",
    status=400,
    remedy="`labels` is a whole number from 0 to 100.",
)
INTERNAL = define(
    "internal-error",
    "The worker failed on this request",
    status=500,
    remedy="The worker's log has the place; please report it.",
)


# Outside the envelope
NONCE_INVALID = define(
    "nonce-invalid",
    "The nonce to make evidence over is not usable",
    status=400,
    remedy="Send a nonce of 32 bytes, in base64url.",
)

# The worker itself
CONFIG_REFUSED = define(
    "worker-config-refused",
    "The worker's configuration is not usable",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="The launcher writes this configuration; correct what is named.",
)
HARDENING_FAILED = define(
    "hardening-failed",
    "The worker could not harden its own process",
    status=500,
    remedy="The worker needs Linux with prctl and setrlimit; do not start it under a debugger.",
)
KEYS_REFUSED = define(
    "service-keys-refused",
    "The released service keys are not the ones that the init-data names",
    status=500,
    exit_code=EXIT_REFUSED,
    remedy="Compare the service, broker key and release policy with the init-data.",
)
BUNDLE_REFUSED = define(
    "bundle-refused",
    "The bundle is not the one that the key was released for",
    status=500,
    exit_code=EXIT_REFUSED,
    remedy="Register this bundle with the broker, or serve the bundle that it has.",
)
POLICY_REFUSED = define(
    "release-policy-refused",
    "The release policy that the broker serves is not the one that the init-data names",
    status=500,
    exit_code=EXIT_REFUSED,
    remedy="Start the worker with init-data that names the present release policy.",
)
BEACON_REFUSED = define(
    "beacon-refused",
    "The broker's beacon is not for this service, or runs backwards",
    status=500,
    exit_code=EXIT_REFUSED,
    remedy="Check that the broker is the one that the init-data names.",
)
