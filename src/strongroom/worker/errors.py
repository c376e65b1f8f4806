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
INPUT_MISSING = define(
    "input-missing",
    "The request leaves out an input of the model",
    status=400,
    remedy="Send every input that the model's metadata lists.",
)
INPUT_UNKNOWN = define(
    "input-unknown",
    "The model has no input of this name",
    status=400,
    remedy="Send the inputs that the model's metadata lists, each once.",
)
INPUT_DATATYPE = define(
    "input-datatype",
    "The input has another datatype than the model's",
    status=400,
    remedy="Send the datatype of the model's metadata; an image input also takes BYTES, a picture each.",
)
INPUT_SHAPE = define(
    "input-shape",
    "The input's shape does not fit the model",
    status=400,
    remedy="Send the shape of the model's metadata, where -1 stands for any length.",
)
BATCH_TOO_LARGE = define(
    "batch-too-large",
    "The request holds more items than the model takes at once",
    status=413,
    remedy="Split the items over several requests.",
)
OUTPUT_UNKNOWN = define(
    "output-unknown",
    "The model has no output of this name",
    status=400,
    remedy="Ask for the outputs that the model's metadata lists, each once, or for none to get all.",
)
PARAMETER_INVALID = define(
    "parameter-invalid",
    "A parameter of the request is not usable",
    status=400,
    remedy="`labels` is a whole number from 0 to 100.",
)
INFERENCE_FAILED = define(
    "inference-failed",
    "The model failed on this input",
    status=500,
    remedy="The input passed all checks; if it should work, try the model outside the service.",
)
INTERNAL = define(
    "internal-error",
    "The worker failed on this request",
    status=500,
    remedy="The worker's log has the place; please report it.",
)
STOPPING = define(
    "worker-stopping",
    "The worker stopped before it computed the request",
    status=503,
    remedy="Send it again: another worker will take it.",
)

# Outside the envelope
UNOPENABLE = define(
    "request-unopenable",
    "The sealed request cannot be opened",
    status=400,
    remedy="Fetch the service's keyset again, check it, and seal the request to it.",
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
BEACON_REFUSED = define(
    "beacon-refused",
    "The broker's beacon is not for this service, or runs backwards",
    status=500,
    exit_code=EXIT_REFUSED,
    remedy="Check that the broker is the one that the init-data names.",
)
