"""Error codes of the release log: receipts, auditors, witnesses."""

from __future__ import annotations

from typing import Final

from strongroom.errors import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, define

# ---- receipts, and what a worker asks of a release

RECEIPT_INVALID: Final = define(
    "log-receipt-invalid",
    "The receipt of a log entry is malformed or contradicts itself",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Take the receipt again from the broker's store; do not rely on this one.",
)
LOG_UNWITNESSED: Final = define(
    "log-unwitnessed",
    "Too few of the expected witnesses have cosigned the log",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Check that the broker asks the witnesses that the init-data or you name, and their keys.",
)
RELEASE_UNLOGGED: Final = define(
    "release-unlogged",
    "The release does not show its own entry in the broker's log",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Take no key from this broker: it releases keys without a trace, or is of another version.",
)

# ---- auditors

LOG_UNREACHABLE: Final = define(
    "log-unreachable",
    "The log cannot be read",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check the address or folder; for a running broker it ends in /strongroom/v1/log.",
)
LOG_FORKED: Final = define(
    "log-forked",
    "The log contradicts what it showed before",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Keep both checkpoints: they are signed, and show that the broker rewrote its log.",
)
LOG_STATE: Final = define(
    "log-state-invalid",
    "What was kept of the log cannot be used",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Give the file that this command wrote before, for this log; or begin with a new one.",
)
LOG_ENTRY_UNKNOWN: Final = define(
    "log-entry-unknown",
    "The log has no such part",
    status=404,
    remedy="Fetch the checkpoint first; ask only for entries and tiles of the size that it says.",
)

# ---- the broker towards its witnesses

WITNESS_MISSING: Final = define(
    "witness-missing",
    "Too few witnesses cosign the log, and nothing is released without them",
    status=503,
    remedy="Check that the witnesses run and know this log; the broker's output says what each answered.",
)
WITNESS_AHEAD: Final = define(
    "witness-ahead",
    "A witness has seen a later state of this log than the store holds",
    status=500,
    remedy="The store was put back to an older copy. Restore the newest one, or begin a new broker key.",
)

# ---- the witness itself

WITNESS_ORIGIN: Final = define(
    "witness-origin-unknown",
    "The witness does not know this log",
    status=404,
    remedy="Give the log's key to the witness with --log.",
)
WITNESS_SIGNATURE: Final = define(
    "witness-log-signature",
    "The checkpoint is not signed by the log",
    status=403,
    remedy="Send a checkpoint that the log's key has signed.",
)
WITNESS_OLD_SIZE: Final = define(
    "witness-old-size",
    "The old size is larger than the checkpoint",
    status=400,
    remedy="Send the size of the checkpoint that the witness cosigned last.",
)
WITNESS_CONFLICT: Final = define(
    "witness-conflict",
    "The witness has cosigned another size last",
    status=409,
    remedy="Send a consistency proof from the size that the witness answers with.",
)
WITNESS_FORK: Final = define(
    "witness-fork",
    "The log shows two roots for one size",
    status=409,
    remedy="Keep both checkpoints: they are signed, and show that the log was rewritten.",
)
WITNESS_PROOF: Final = define(
    "witness-proof",
    "The consistency proof does not lead from the old checkpoint to the new one",
    status=422,
    remedy="Send a proof from the size that the witness cosigned last; if there is none, the log forked.",
)
WITNESS_STATE: Final = define(
    "witness-state-unusable",
    "The state of the witness cannot be used",
    status=500,
    remedy="Check owner and space of the witness's folder. Never begin anew with the same key.",
)
