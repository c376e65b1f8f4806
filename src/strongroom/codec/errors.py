"""Error codes of the codecs. An error names the part that is wrong, never its content."""

from __future__ import annotations

from strongroom.errors import define

VALUE_TOO_LARGE = define(
    "value-too-large",
    "A value is larger than its bound",
    status=413,
    remedy="Send a smaller value.",
)
BASE64_INVALID = define(
    "base64-invalid",
    "A value is not canonical base64",
    status=400,
    remedy="Encode as RFC 4648 says, base64url without padding unless the format says otherwise.",
)

# JSON and JCS (RFC 8259, RFC 8785)
JSON_INVALID = define(
    "json-invalid",
    "The text is not valid JSON",
    status=400,
    remedy="Send JSON as RFC 8259 says, in UTF-8, without NaN or Infinity.",
)
JSON_TOO_DEEP = define(
    "json-too-deep",
    "The JSON is nested too deeply",
    status=400,
    remedy="Nest arrays and objects at most 64 deep.",
)
JSON_DUPLICATE_NAME = define(
    "json-duplicate-name",
    "A JSON object has a name twice",
    status=400,
    remedy="Give each member of an object a name of its own.",
)
JSON_NOT_REPRESENTABLE = define(
    "json-not-representable",
    "The value has no canonical JSON form",
    status=500,
    remedy="Use strings, booleans, null, finite numbers and integers below 2^53 only (RFC 8785).",
)

# CBOR (RFC 8949)
CBOR_INVALID = define(
    "cbor-invalid",
    "The CBOR is not well-formed, or has a type that is not expected here",
    status=400,
    remedy="Send CBOR as RFC 8949 says, in its shortest form, without floating-point numbers.",
)
CBOR_LIMIT = define(
    "cbor-limit",
    "The CBOR exceeds a bound",
    status=400,
    remedy="Nest arrays and maps at most 16 deep, with at most 4096 values in all.",
)

# Binary HTTP (RFC 9292)
BHTTP_FRAMING = define(
    "bhttp-framing-unknown",
    "The binary HTTP message has another framing than expected",
    status=400,
    remedy="Send a request or response as RFC 9292, section 3.3 says.",
)
BHTTP_TRUNCATED = define(
    "bhttp-truncated",
    "The binary HTTP message ends too early",
    status=400,
    remedy="Send the whole message; only empty sections at its end may be left out (RFC 9292, section 3.8).",
)
BHTTP_TRAILING = define(
    "bhttp-trailing-bytes",
    "Bytes other than zero follow the binary HTTP message",
    status=400,
    remedy="Pad with zero bytes only (RFC 9292, section 3.8).",
)
BHTTP_LIMIT = define(
    "bhttp-limit",
    "A part of the binary HTTP message exceeds its bound",
    status=413,
    remedy="Send a smaller message, or fewer and shorter fields.",
)
BHTTP_CONTROL = define(
    "bhttp-control-invalid",
    "Method, scheme, authority, path or status of the binary HTTP message is not valid",
    status=400,
    remedy="Send control data as RFC 9292, sections 3.4 and 3.5 say.",
)
BHTTP_FIELD = define(
    "bhttp-field-invalid",
    "A field line of the binary HTTP message is not valid",
    status=400,
    remedy="Use tokens as names, and values without NUL, CR, LF and outer white space (RFC 9110, section 5).",
)
FIELD_REPEATED = define(
    "field-repeated",
    "A field that stands for one value is given more than once",
    status=400,
    remedy="Send the field once.",
)

# Open Inference Protocol v2 and its binary tensor data extension
OIP_INVALID = define(
    "oip-invalid",
    "The text is not an Open Inference Protocol message",
    status=400,
    remedy="Send JSON as the Open Inference Protocol v2 (REST) says.",
)
OIP_HEADER_LENGTH = define(
    "oip-header-length",
    "Inference-Header-Content-Length does not fit the body",
    status=400,
    remedy="Send the length of the JSON part in bytes, decimal, at least 1 and at most that of the body.",
)
OIP_TRAILING = define(
    "oip-trailing-bytes",
    "Bytes follow the last binary tensor",
    status=400,
    remedy="Let the sizes in binary_data_size sum up to what follows the JSON part.",
)
OIP_LIMIT = define(
    "oip-limit",
    "A part of the inference message exceeds its bound",
    status=413,
    remedy="Send fewer or smaller tensors.",
)
TENSOR_DATATYPE = define(
    "tensor-datatype-unknown",
    "A tensor's datatype is unknown",
    status=400,
    remedy="Use BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64 or BYTES.",
)
TENSOR_NAME = define(
    "tensor-name-invalid",
    "A tensor's name is empty, too long or used twice",
    status=400,
    remedy="Give each tensor a name of its own, as the model's metadata says.",
)
TENSOR_SHAPE = define(
    "tensor-shape-invalid",
    "A tensor's shape is not valid",
    status=400,
    remedy="Give every dimension as a number that is not negative.",
)
TENSOR_SIZE = define(
    "tensor-size-mismatch",
    "A tensor's data does not fill its shape exactly",
    status=400,
    remedy="Send as many elements as the product of the shape says.",
)
TENSOR_DATA = define(
    "tensor-data-invalid",
    "A tensor's data is missing or not of its datatype",
    status=400,
    remedy="Send either data or binary_data_size, with values that the datatype can hold.",
)
TENSOR_NEEDS_BINARY = define(
    "tensor-needs-binary",
    "A tensor cannot be sent as JSON",
    status=400,
    remedy="Use binary tensor data: JSON has no FP16, no NaN or Infinity and no bytes that are not UTF-8.",
)

# Transparency logs (C2SP signed-note, tlog-checkpoint, tlog-proof, tlog-tiles, tlog-witness)
NOTE_MALFORMED = define(
    "note-malformed",
    "The text is not a signed note",
    status=400,
    remedy="Give the note exactly as it was published (C2SP signed-note): text, empty line, signatures.",
)
CHECKPOINT_MALFORMED = define(
    "checkpoint-malformed",
    "The note is not the checkpoint of a log",
    status=400,
    remedy="Give a checkpoint as C2SP tlog-checkpoint says: origin, size and root, a line each.",
)
LOG_PROOF_MALFORMED = define(
    "log-proof-malformed",
    "The text is not a proof of inclusion in a log",
    status=400,
    remedy="Give the proof exactly as it was published (C2SP tlog-proof).",
)
LOG_TILE_MALFORMED = define(
    "log-tile-malformed",
    "A part of the log is not as C2SP tlog-tiles says",
    status=502,
    remedy="Fetch or export the log again; if it stays so, whoever serves it gives something else.",
)
ADD_CHECKPOINT_MALFORMED = define(
    "add-checkpoint-malformed",
    "The request to the witness is malformed",
    status=400,
    remedy="Send what C2SP tlog-witness says: old size, proof lines, an empty line, the checkpoint.",
)
