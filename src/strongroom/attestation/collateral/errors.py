"""Error codes of collateral that the relying party finds itself."""

from __future__ import annotations

from strongroom.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, define

COLLATERAL_UNREACHABLE = define(
    "collateral-unreachable",
    "A source of collateral cannot be reached",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check its address, the network and its TLS certificate; or use a folder that was filled before.",
)
COLLATERAL_BUSY = define(
    "collateral-busy",
    "Too much collateral is being fetched",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Try again in a minute. `strongroom evidence fetch` can fill the folder beforehand.",
)
COLLATERAL_ANSWER = define(
    "collateral-answer-invalid",
    "A source of collateral gave an answer that is not what was asked for",
    status=502,
    exit_code=EXIT_FAILED,
    remedy="Check that the address is that of a PCCS or PCS (version 4) or of AMD's KDS.",
)
COLLATERAL_NOT_FOUND = define(
    "collateral-not-found",
    "The source knows no collateral for this platform",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Fill the PCCS; evidence of a platform that its vendor does not know cannot be verified.",
)
COLLATERAL_UNAVAILABLE = define(
    "collateral-unavailable",
    "The collateral of this evidence cannot be fetched by anyone but its attester",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Let the attester send its certificates along with the evidence.",
)
COLLATERAL_MISSING = define(
    "collateral-missing",
    "No collateral is at hand that holds at the time of the appraisal",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Fill the folder with `strongroom evidence fetch`; refresh the PCCS; check the clock.",
)
COLLATERAL_SOURCE = define(
    "collateral-source-invalid",
    "The address of a source of collateral is not usable",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Give an address that begins with https://, or with http:// for this machine only.",
)
COLLATERAL_UNWRITABLE = define(
    "collateral-folder-unwritable",
    "The folder for collateral cannot be written",
    status=500,
    exit_code=EXIT_FAILED,
    remedy="Check that you may write to it and that there is space left.",
)
