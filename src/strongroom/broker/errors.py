"""Error codes of the key broker, its store and its client."""

from __future__ import annotations

from typing import Final

from strongroom.errors import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, define

# ---- the store and its keys

STORE_UNUSABLE: Final = define(
    "store-unusable",
    "The key store cannot be used",
    status=500,
    remedy="Check the folder's owner and that the disk can be written; else restore the store.",
)
STORE_BUSY: Final = define(
    "store-busy",
    "The key store is locked by another process",
    status=503,
    remedy="Try again; if it stays, find the process that holds store.db.",
)
STORE_UNREACHABLE: Final = define(
    "store-unreachable",
    "The key store's database does not answer",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check that the database server runs and lets the broker in; then try again.",
)
STORE_LOCATION: Final = define(
    "store-location-invalid",
    "The location of the key store is not usable",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Give a folder, or the URL of a PostgreSQL database as docs/reference/configuration.md has it.",
)
KEY_FILE_EXPOSED: Final = define(
    "key-file-exposed",
    "A key file can be read by others",
    status=500,
    remedy="Give it to the broker's user with mode 0600; if others may have read it, rotate the keys.",
)
ROOT_KEY_WRONG: Final = define(
    "root-key-wrong",
    "The root key does not open this store",
    status=500,
    remedy="Configure the root key that belongs to this store, or put back its root.key.",
)
ROOT_KEY_UNAVAILABLE: Final = define(
    "root-key-unavailable",
    "The root key does not answer, or refuses",
    status=503,
    remedy="Check the TPM and its PCRs, the PKCS#11 module and its PIN, or the KMS key and its grants.",
)
ROOT_PENDING: Final = define(
    "root-pending",
    "A root key does not open the new data key yet",
    status=409,
    remedy="Start the broker that has it and rotate again, which goes on; or give the key up with --drop.",
)
ROOT_KEY_CONFIG: Final = define(
    "root-key-config",
    "The root key is not configured as its kind needs",
    status=500,
    exit_code=EXIT_USAGE,
    remedy="Correct the table that is named; docs/reference/configuration.md lists what each kind needs.",
)
SECRET_UNREADABLE: Final = define(
    "secret-unreadable",
    "A wrapped secret does not open",
    status=500,
    remedy="The store was changed by hand or is damaged; restore it or rotate the key.",
)
LOG_BROKEN: Final = define(
    "log-broken",
    "The release log does not hold together",
    status=500,
    remedy="Entries were changed or removed after they were written. Treat the broker's host as suspect.",
)

# ---- backups

SHARES_INVALID: Final = define(
    "shares-invalid",
    "A backup cannot be shared so",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Make 2 to 16 shares, and let at least 2 and at most all of them open it.",
)
SHARE_INVALID: Final = define(
    "share-invalid",
    "A share does not belong to this backup",
    status=400,
    remedy="Compare the words with the paper, or take another share of this backup.",
)
SHARES_MISSING: Final = define(
    "shares-missing",
    "There are not enough shares to open the backup",
    status=400,
    remedy="Give more shares; the same one twice counts once.",
)
BACKUP_INVALID: Final = define(
    "backup-invalid",
    "The backup cannot be opened",
    status=400,
    remedy="Take another copy of the file, or an earlier backup with its own shares.",
)
STORE_NOT_EMPTY: Final = define(
    "store-not-empty",
    "The store has something in it already",
    status=409,
    remedy="Restore into a new store: another folder or another database.",
)

# ---- administration

NAME_INVALID: Final = define(
    "broker-name-invalid",
    "A name is not usable in the key store",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Use 1 to 63 letters, digits, dots, hyphens or underscores, beginning with a letter or digit.",
)
SERVICE_UNKNOWN: Final = define(
    "service-unknown",
    "The service is not registered with this broker",
    status=404,
    exit_code=EXIT_REFUSED,
    remedy="Register the service with the broker, or correct its name in the worker's init-data.",
)
MODEL_UNKNOWN: Final = define(
    "model-unregistered",
    "The model is not registered with this broker",
    status=404,
    remedy="Seal the model with `strongroom model seal`, which registers its key.",
)
MODEL_OLDER: Final = define(
    "model-version-older",
    "The model is older than the version floor of its resource",
    status=409,
    remedy="Register a version that is not below the floor, or use another resource name.",
)
MODEL_TAKEN: Final = define(
    "model-registered-elsewhere",
    "The sealed file is registered under another resource",
    status=409,
    remedy="Use that resource, or seal the bundle again for this one.",
)
EPOCHS_FULL: Final = define(
    "epochs-full",
    "Too many epochs of this service are still honoured",
    status=409,
    remedy="Wait until older epochs have passed their grace period, or rotate with a shorter one.",
)
SERVICE_INVALID: Final = define(
    "service-invalid",
    "The service cannot be registered so",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Give a policy, at least one registered model, and times within their bounds.",
)

# ---- the KBS protocol, server side

BODY_TOO_LARGE: Final = define(
    "kbs-body-too-large",
    "The message to the broker is too large",
    status=413,
    remedy="Send at most 1 MiB to attest and 16 KiB to auth.",
)
BODY_INVALID: Final = define(
    "kbs-body-invalid",
    "The message to the broker is not what the KBS protocol says",
    status=400,
    remedy="Send the JSON of KBS protocol 0.4.0.",
)
VERSION_UNSUPPORTED: Final = define(
    "kbs-version",
    "The broker speaks another version of the KBS protocol",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy='Announce version "0.4.0".',
)
TEE_UNSUPPORTED: Final = define(
    "tee-unsupported",
    "The broker does not appraise this kind of evidence",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="docs/reference/broker.md lists the kinds of evidence.",
)
SIMULATED_ANCHOR: Final = define(
    "simulated-anchor",
    "A policy in the store allows simulated evidence, and the broker is in the production profile",
    status=500,
    exit_code=EXIT_USAGE,
    remedy='Register it with a policy for real evidence; or, for a trial only, set profile = "trial".',
)
TEE_KEY_UNSUPPORTED: Final = define(
    "tee-key-unsupported",
    "The one-time key of the attester is not usable",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Send an HPKE key for MLKEM768-X25519, a P-256 key for ECDH-ES+A256KW, or an RSA key of 2048 to "
    "4096 bits for RSA-OAEP-256.",
)
SESSION_UNKNOWN: Final = define(
    "session-unknown",
    "No such session",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Begin anew with /kbs/v0/auth.",
)
SESSION_EXPIRED: Final = define(
    "session-expired",
    "The session has expired",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Begin anew with /kbs/v0/auth.",
)
SESSIONS_FULL: Final = define(
    "sessions-full",
    "The broker holds as many attested sessions as it may",
    status=503,
    remedy="Try again in a few minutes.",
)
SESSION_SPENT: Final = define(
    "session-spent",
    "The challenge of this session was already answered",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="A challenge is good for one attestation. Begin anew with /kbs/v0/auth.",
)
NONCE_FOREIGN: Final = define(
    "nonce-foreign",
    "The nonce is not the one of this session",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Answer the challenge that /kbs/v0/auth gave to this session.",
)
INIT_DATA_MISSING: Final = define(
    "init-data-missing",
    "The attestation carries no init-data",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Start the worker with init-data that names service, broker key and release policy.",
)
INIT_DATA_BROKER: Final = define(
    "init-data-broker",
    "The worker was started for another broker",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Start the worker with init-data that names this broker's key.",
)
INIT_DATA_POLICY: Final = define(
    "init-data-policy",
    "The worker was started for another release policy",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Start the worker with init-data that names the digest of the service's present release policy.",
)
INIT_DATA_MODEL: Final = define(
    "init-data-model",
    "The worker was not started for this model",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Name the model's resource in the worker's init-data.",
)
MODEL_FOREIGN: Final = define(
    "model-foreign",
    "The model does not belong to this service",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Register the service with this model.",
)
SERVICE_FOREIGN: Final = define(
    "service-foreign",
    "The key belongs to another service than the worker's",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Ask for the key of the service that the worker's init-data names.",
)
POLICY_SERVICE: Final = define(
    "model-policy-service",
    "The model's own policy is of another service",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Register the model with a policy that names this service, or none.",
)
NO_EPOCH: Final = define(
    "epoch-missing",
    "The service has no key that is still honoured",
    status=404,
    remedy="Run `strongroom keys rotate`.",
)
TOKEN_MISSING: Final = define(
    "token-missing",
    "No attestation token and no attested session",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Attest first.",
)
TOKEN_INVALID: Final = define(
    "token-invalid",
    "The attestation token is not one of this session of this broker",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Attest first, and present the token that this broker gave.",
)
TOKEN_EXPIRED: Final = define(
    "token-expired",
    "The attestation token has expired",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Attest again.",
)
TOKEN_KEY: Final = define(
    "token-key-unusable",
    "The key for attestation tokens is not usable",
    status=400,
    exit_code=EXIT_USAGE,
    remedy="Make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem`.",
)
RESOURCE_PATH: Final = define(
    "resource-path-invalid",
    "The path names no resource",
    status=404,
    remedy="Ask for /kbs/v0/resource/<repository>/<type>/<tag>.",
)
RESOURCE_UNKNOWN: Final = define(
    "resource-unknown",
    "No such resource",
    status=404,
    exit_code=EXIT_REFUSED,
    remedy="Register it with the broker, or correct its name.",
)

# ---- the client

JWE_INVALID: Final = define(
    "jwe-invalid",
    "The encrypted resource is malformed",
    status=502,
    remedy="The broker, or something before it, does not speak the KBS protocol.",
)
JWE_OPEN_FAILED: Final = define(
    "jwe-open-failed",
    "The encrypted resource does not open with this key",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="It was made for another one-time key, or changed on its way. Attest again.",
)
HPKE_RELEASE_INVALID: Final = define(
    "hpke-release-invalid",
    "The answer is not a resource sealed with HPKE",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="The broker knows no post-quantum release, or something on the way to it changed the answer.",
)
HPKE_RELEASE_OPEN_FAILED: Final = define(
    "hpke-release-open-failed",
    "The sealed resource does not open with this key",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="It was made for another one-time key or another resource, or changed on its way. Attest again.",
)
RELEASE_CLASSICAL: Final = define(
    "release-classical",
    "The policy allows no release under a classical one-time key",
    status=401,
    exit_code=EXIT_REFUSED,
    remedy="Attest with an HPKE key for MLKEM768-X25519, or have the owner set allow_classical_release.",
)
RELEASE_DOWNGRADED: Final = define(
    "release-downgraded",
    "The keyset says that its keys travel under HPKE only, and they came under a classical key",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="The broker contradicts itself. Take no key from it.",
)
RELEASE_INVALID: Final = define(
    "release-invalid",
    "The released document is malformed",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Broker and worker are of different versions, or the broker is not the one it claims to be.",
)
RELEASE_UNSIGNED: Final = define(
    "release-foreign-broker",
    "The release is not signed by the broker that the init-data names",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Something stands in for the broker. Take no key from it.",
)
RELEASE_RECIPIENT: Final = define(
    "release-foreign-recipient",
    "The released document was made for another worker or an earlier attestation",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Something replays old answers of the broker. Take no key from it.",
)
RELEASE_SUBJECT: Final = define(
    "release-foreign-subject",
    "The released document is for another resource than the one asked for",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Something swaps answers of the broker. Take no key from it.",
)
RELEASE_KEYSET: Final = define(
    "release-keyset",
    "The released keys do not make the keyset that the broker signed",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="The broker contradicts itself. Take no key from it.",
)
BROKER_UNREACHABLE: Final = define(
    "broker-unreachable",
    "The key broker does not answer",
    status=503,
    exit_code=EXIT_UNREACHABLE,
    remedy="Check its address and that it runs.",
)
BROKER_ANSWER: Final = define(
    "broker-answer-invalid",
    "The key broker gave an answer that makes no sense",
    status=502,
    remedy="Check that the address is that of a broker that speaks KBS protocol 0.4.0.",
)
BROKER_REFUSED: Final = define(
    "broker-refused",
    "The key broker refused",
    status=502,
    exit_code=EXIT_REFUSED,
    remedy="Read the broker's log for the reason.",
)
