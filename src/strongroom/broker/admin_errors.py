"""Error codes of tenants, administration and consent."""

from __future__ import annotations

from typing import Final

from strongroom.errors import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, define

# ---- who may do what

TENANT_UNKNOWN: Final = define(
    "tenant-unknown",
    "No such tenant",
    status=404,
    exit_code=EXIT_USAGE,
    remedy="Add the tenant with `strongroom admin tenant`; a resource's first part is its tenant.",
)
SERVICE_TAKEN: Final = define(
    "service-taken",
    "The service belongs to another tenant",
    status=409,
    exit_code=EXIT_USAGE,
    remedy="Choose another name for the service.",
)
PRINCIPAL_INVALID: Final = define(
    "principal-invalid",
    "That is no name of a person or program",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Write mtls:HEX, SHA-256 of a certificate's public key, or oidc:ISSUER#SUBJECT.",
)
ADMIN_UNAUTHENTICATED: Final = define(
    "admin-unauthenticated",
    "The broker does not know who asks",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Present a client certificate that the broker accepts, or a bearer token of its OIDC issuer.",
)
ADMIN_FORBIDDEN: Final = define(
    "admin-forbidden",
    "Not allowed for who asks",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Ask an administrator of the tenant, or the broker's operator where only he may do it.",
)
ADMIN_REQUEST: Final = define(
    "admin-request-invalid",
    "The administrative request is not valid",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Correct the member that is named; docs/reference/administration.md lists all.",
)
ADMIN_UNREACHABLE: Final = define(
    "admin-unreachable",
    "The broker's administration cannot be reached",
    status=502,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check URL, certificates and that the broker's configuration has [broker.admin].",
)
ADMIN_ANSWER: Final = define(
    "admin-answer-invalid",
    "The answer is not that of a broker's administration",
    status=502,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check the URL.",
)
OIDC_UNAVAILABLE: Final = define(
    "oidc-unavailable",
    "The keys of the OIDC issuer cannot be had",
    status=503,
    remedy="Check that the broker reaches the issuer, or give its keys in a file.",
)

# ---- consent

SERVICE_REVOKED: Final = define(
    "service-revoked",
    "The service was revoked",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Revocation is final. Register a service under another name.",
)
RESOURCE_REVOKED: Final = define(
    "resource-revoked",
    "The resource was revoked",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Revocation is final. Register the model under another resource.",
)
MODEL_NOT_GRANTED: Final = define(
    "model-not-granted",
    "The model's owner has not granted it to the service's tenant",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Let an administrator of the model's tenant run `strongroom admin grant`.",
)
APPROVAL_MISSING: Final = define(
    "approval-missing",
    "The release of this model has not been approved by enough people",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Let its approvers run `strongroom admin approve`; a change of model or policy asks for new ones.",
)
APPROVERS_KEPT: Final = define(
    "approvers-kept",
    "Who must approve is not changed by those who need the approval",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Register it with the same approvers; only the broker's operator can change them.",
)
APPROVERS_INVALID: Final = define(
    "approvers-invalid",
    "That is no usable set of approvers",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Name up to 16 different approvers, and a number from 1 to as many as there are.",
)
STATEMENT_CHANGED: Final = define(
    "statement-changed",
    "The statement to approve is not the present one",
    status=409,
    exit_code=EXIT_REFUSED,
    remedy="Read it again with `strongroom admin statement`, then approve it by its new digest.",
)
