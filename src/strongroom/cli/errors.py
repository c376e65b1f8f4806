"""Error codes of the command line."""

from __future__ import annotations

from strongroom.errors import EXIT_REFUSED, EXIT_USAGE, define

FILE_UNREADABLE = define(
    "file-unreadable",
    "A file cannot be read",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Check the path and that you may read it.",
)
CONFORMANCE_MISSED = define(
    "conformance-missed",
    "Cases of the conformance kit did not end as they must",
    status=500,
    remedy="Do not rely on this installation. Report the cases that are named.",
)
POLICY_CHANGES = define(
    "policy-verdicts-change",
    "The other policy gives other verdicts on this evidence",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Look at the evidence that is named; roll the policy out only if that is meant.",
)
POLICY_UNMET = define(
    "policy-expectation-unmet",
    "The policy does not meet this evidence as expected",
    status=403,
    exit_code=EXIT_REFUSED,
    remedy="Ask `strongroom policy explain` about the evidence that is named.",
)
FILE_EXISTS = define(
    "file-exists",
    "A file is there already",
    status=409,
    exit_code=EXIT_USAGE,
    remedy="Give another name; what is there is never overwritten.",
)
OPTION_INVALID = define(
    "option-invalid",
    "An option has a value that is not known",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Choose one of the values that are named.",
)
USAGE_INVALID = define(
    "usage-invalid",
    "The command line is not usable",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="See the command's --help, which shows an example.",
)
SYSTEM_REFUSED = define(
    "system-refused",
    "The operating system refused an operation",
    status=500,
    remedy="Check that the folder exists, that you may write to it, and that there is space left.",
)
