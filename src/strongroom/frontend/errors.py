"""Error codes of the front end."""

from __future__ import annotations

from strongroom.errors import StrongroomError, define


class FrontendError(StrongroomError):
    """The front end cannot take or finish a request."""


class UnreadBodyError(FrontendError):
    """A request whose body was not read to its end; the connection closes after the answer."""


BODY_TIMEOUT = define(
    "request-timeout",
    "The request body did not come in time",
    status=408,
    remedy="Send the same bytes again, faster, or raise frontend.body_timeout in the configuration.",
)
EVIDENCE_RATE_LIMITED = define(
    "evidence-rate-limited",
    "Evidence over a nonce is asked for too often",
    status=429,
    remedy="Wait as long as Retry-After says, or take the evidence without a nonce.",
)
BODY_TOO_LARGE = define(
    "request-too-large",
    "The request body is too large",
    status=413,
    remedy="Send a smaller request, or raise queue.max_body in the configuration.",
)
CONTENT_TYPE_UNSUPPORTED = define(
    "content-type-unsupported",
    "The content type is not supported here",
    status=415,
    remedy="Send message/ohttp-req to the gateway (RFC 9458).",
)
SERVICE_BUSY = define(
    "service-busy",
    "Too many requests are waiting for an answer",
    status=503,
    remedy="Wait as long as Retry-After says, then send the same bytes again.",
)
REPLIES_LOST = define(
    "replies-lost",
    "The front end can no longer read answers from the queue",
    status=503,
    remedy="Send the same bytes again. The front end ends by itself and its log says why; start it again.",
)
ANSWER_TIMEOUT = define(
    "answer-timeout",
    "No worker answered in time",
    status=504,
    remedy="Send the same bytes again, or allow a later deadline.",
)
NO_WORKER = define(
    "no-worker",
    "No attested worker has published a keyset",
    status=503,
    remedy="Wait until a worker is ready; `strongroom worker` says in its log why it is not.",
)
PLAIN_DISABLED = define(
    "plain-disabled",
    "This front end takes sealed requests only",
    status=403,
    remedy="Use the strongroom client, or set frontend.policy to allow the plain way in.",
)
NOT_FOUND = define(
    "not-found",
    "There is nothing at this path",
    status=404,
    remedy="docs/reference/http.md lists the paths.",
)
METHOD_NOT_ALLOWED = define(
    "http-method-not-allowed",
    "This path does not take this method",
    status=405,
    remedy="docs/reference/http.md lists the methods of each path.",
)
DRAINING = define(
    "service-draining",
    "The front end is shutting down",
    status=503,
    remedy="Send the same bytes again, to another front end or after Retry-After.",
)
