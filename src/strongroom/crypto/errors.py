"""The error codes of the crypto layer.

A failed opening has one code and no further detail: whether the encapsulation, the tag or the key was wrong
is nobody's business.
"""

from __future__ import annotations

from typing import Final

from strongroom.errors import EXIT_REFUSED, EXIT_USAGE, ErrorCode, define

HPKE_UNKNOWN_SUITE: Final[ErrorCode] = define(
    "hpke-unknown-suite",
    "The HPKE suite is not supported",
    status=400,
    remedy="Use KEM 0x0020 or 0x647a with HKDF-SHA256 and AES-128-GCM, AES-256-GCM or ChaCha20-Poly1305.",
)
HPKE_BAD_KEY: Final[ErrorCode] = define(
    "hpke-bad-key",
    "The HPKE key is not valid",
    status=400,
    remedy="Fetch the key again from where it was published; check its length against its KEM.",
)
HPKE_BAD_ENCAPSULATION: Final[ErrorCode] = define(
    "hpke-bad-encapsulation",
    "The encapsulated key is not valid",
    status=400,
    remedy="Seal the message again; the sender's encapsulated key cannot be used.",
)
HPKE_OPEN_FAILED: Final[ErrorCode] = define(
    "hpke-open-failed",
    "The sealed message cannot be opened",
    status=400,
    remedy="Check that it was sealed to this key and arrived unchanged and in order.",
)
HPKE_SEQUENCE_OVERFLOW: Final[ErrorCode] = define(
    "hpke-sequence-overflow",
    "The HPKE context has used all its sequence numbers",
    status=500,
    remedy="Set up a new context.",
)
HPKE_EXPORT_LENGTH: Final[ErrorCode] = define(
    "hpke-export-length",
    "The length of an exported secret is out of range",
    status=500,
    remedy="Ask for 0 to 8160 bytes.",
)
HPKE_OVERSIZE: Final[ErrorCode] = define(
    "hpke-oversize",
    "An HPKE input is too long",
    status=413,
    remedy="Send less in one message.",
)

OHTTP_KEY_CONFIG: Final[ErrorCode] = define(
    "ohttp-key-config",
    "The OHTTP key configuration is not valid",
    status=502,
    remedy="Fetch the key configurations again; if they stay wrong, the service publishes bad ones.",
)
OHTTP_KEY_MISMATCH: Final[ErrorCode] = define(
    "ohttp-key-mismatch",
    "The private key does not belong to the OHTTP key configuration",
    status=500,
    remedy="Fetch the service key again from the broker.",
)
OHTTP_DUPLICATE_KEY: Final[ErrorCode] = define(
    "ohttp-duplicate-key",
    "Two OHTTP keys have the same key id",
    status=500,
    remedy="Give every key in use at one time an id of its own.",
)
OHTTP_MALFORMED: Final[ErrorCode] = define(
    "ohttp-malformed",
    "The OHTTP message is too short",
    status=400,
    remedy="Send the whole message, as it was sealed.",
)
OHTTP_OVERSIZE: Final[ErrorCode] = define(
    "ohttp-oversize",
    "The OHTTP message is too long",
    status=413,
    remedy="Send less in one message, or raise the limit of the service.",
)
OHTTP_UNKNOWN_KEY: Final[ErrorCode] = define(
    "ohttp-unknown-key",
    "The OHTTP key id is not in use",
    status=400,
    remedy="Fetch the keyset again, appraise it, and seal the request anew.",
)
OHTTP_UNKNOWN_SUITE: Final[ErrorCode] = define(
    "ohttp-unknown-suite",
    "The OHTTP key is not offered with this suite",
    status=400,
    remedy="Use one of the suites in the key configuration.",
)
OHTTP_OPEN_FAILED: Final[ErrorCode] = define(
    "ohttp-open-failed",
    "The OHTTP request cannot be opened",
    status=400,
    remedy="Fetch the keyset again and seal the request anew; it was changed or sealed to another key.",
)
OHTTP_RESPONSE_FAILED: Final[ErrorCode] = define(
    "ohttp-response-failed",
    "The OHTTP response cannot be opened",
    status=502,
    remedy="Resend the same sealed request; the response was changed or belongs to another request.",
)

SIGNATURE_INVALID: Final[ErrorCode] = define(
    "signature-invalid",
    "The signature does not hold",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Do not use the document. Check that the pinned key is the signer's.",
)
SIGNING_KEY_INVALID: Final[ErrorCode] = define(
    "signing-key-invalid",
    "The signing key is not valid",
    status=400,
    remedy="Give the key as a policy has it: `ed25519+mldsa65:` and the 32-byte digest in base64url.",
)

AGE_KEY_INVALID: Final[ErrorCode] = define(
    "age-key-invalid",
    "The age identity or recipient is not valid",
    status=400,
    remedy="Identities begin with AGE-SECRET-KEY-1, recipients with age1.",
)
AGE_OPEN_FAILED: Final[ErrorCode] = define(
    "age-open-failed",
    "The sealed file cannot be opened",
    status=400,
    remedy="Check that the file is whole and was sealed to this identity.",
)
AGE_OVERSIZE: Final[ErrorCode] = define(
    "age-oversize",
    "The sealed file is too large",
    status=413,
    remedy="Raise the limit if the file is yours.",
)

MERKLE_PROOF_INVALID: Final[ErrorCode] = define(
    "merkle-proof-invalid",
    "The Merkle proof does not hold",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Do not rely on the entry or the log: what is shown is not in the tree that was signed.",
)
NOTE_KEY_INVALID: Final[ErrorCode] = define(
    "note-key-invalid",
    "The note key is not valid",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Give the key as its owner published it: NAME+ID+BASE64 (C2SP signed-note).",
)
NOTE_UNSIGNED: Final[ErrorCode] = define(
    "note-unsigned",
    "The note has no signature of the expected key",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Do not use the note. Check that the pinned key is the signer's.",
)
