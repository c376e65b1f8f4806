"""What can go wrong between the front end, the queue server and the workers."""

from __future__ import annotations

from strongroom.errors import EXIT_UNREACHABLE, EXIT_USAGE, define

QUEUE_FULL = define(
    "queue-full",
    "The request queue is full",
    status=503,
    remedy="Send the request again after the pause named in Retry-After, or start more workers.",
)
QUEUE_UNREACHABLE = define(
    "queue-unreachable",
    "The queue server does not answer",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check that the queue server runs and that the queue URL is right.",
)
QUEUE_REFUSED = define(
    "queue-refused",
    "The queue server refused a command",
    status=503,
    remedy="Look into the queue server's log. It must be Valkey, or Redis 7.0 or later.",
)
QUEUE_DENIED = define(
    "queue-denied",
    "The queue server refused this user",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check user name, password and permissions in the queue URL and on the queue server.",
)
QUEUE_TLS_FAILED = define(
    "queue-tls-failed",
    "No trusted TLS connection to the queue server",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check the CA file, the server's name in its certificate, and this client's certificate and key.",
)
QUEUE_PROTOCOL = define(
    "queue-protocol",
    "The queue server answered with something that is no such answer",
    status=502,
    remedy="Check that the queue URL names a Valkey or Redis server and that nothing tampers with it.",
)
QUEUE_URL_INVALID = define(
    "queue-url-invalid",
    "The queue URL is not usable",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Use unix:///path/to/socket, redis://host:port/db or rediss://host:port/db with TLS files.",
)
QUEUE_NAME_INVALID = define(
    "queue-name-invalid",
    "A name or number given to the queue is not usable",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Use 1 to 128 letters, digits, '.', '_' or '-' in names; keep numbers in the range shown.",
)
RECORD_INVALID = define(
    "queue-record-invalid",
    "A record cannot be put into the queue",
    status=400,
    remedy="Keep every field of the record within the bounds of docs/reference/queue.md.",
)
BODY_TOO_LARGE = define(
    "queue-body-too-large",
    "A body is larger than the queue takes",
    status=413,
    remedy="Send a smaller request, or raise the body limit on front end and workers alike.",
)
ENTRY_MALFORMED = define(
    "queue-entry-malformed",
    "An entry in the queue is not a record",
    status=400,
    remedy="Find out who else writes to the queue server: only front ends and workers may.",
)
REQUEST_POISONOUS = define(
    "request-poisonous",
    "The request was given up because its worker stopped each time it was tried",
    status=500,
    remedy="Do not send the request again as it is; tell the operator of the service.",
)
SERVER_FAILED = define(
    "queue-server-failed",
    "The embedded queue server did not start or stopped",
    status=500,
    remedy="Look into valkey.log in the queue folder.",
)
SERVER_RUNNING = define(
    "queue-server-running",
    "Another queue server already works in this folder",
    status=500,
    remedy="Stop the other one first, or choose another state folder.",
)
SOCKET_PATH_TOO_LONG = define(
    "queue-socket-path-too-long",
    "The path of the queue's unix socket is too long for the system",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Choose a state folder with a shorter path.",
)
