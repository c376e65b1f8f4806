"""The error codes of the models layer."""

from __future__ import annotations

from typing import Final

from strongroom.errors import EXIT_USAGE, define

_REIMPORT: Final = "Make the bundle again with `strongroom model import`."

MANIFEST_INVALID: Final = define(
    "manifest-invalid", "The model's manifest is not valid.", status=422, remedy=_REIMPORT
)
BUNDLE_MALFORMED: Final = define(
    "bundle-malformed", "The file is not a model bundle.", status=422, remedy=_REIMPORT
)
BUNDLE_TOO_LARGE: Final = define(
    "bundle-too-large",
    "The model bundle exceeds a limit.",
    status=413,
    remedy="Raise the limit if the model really is that large.",
)
BUNDLE_FILES: Final = define(
    "bundle-files-mismatch",
    "The files in the bundle are not those that its manifest lists.",
    status=422,
    remedy=_REIMPORT,
)
BUNDLE_DIGEST: Final = define(
    "bundle-digest-mismatch",
    "A file in the bundle is not the one that its manifest describes.",
    status=422,
    remedy="Do not use this bundle. Get it again from its owner.",
)
LABELS_INVALID: Final = define(
    "labels-invalid",
    "The labels file is not usable.",
    status=422,
    exit_code=EXIT_USAGE,
    remedy="Give a UTF-8 text file with one label a line, in the order of the model's classes.",
)
LABELS_NOT_PROBABILITIES: Final = define(
    "labels-not-probabilities",
    "The labelled output holds scores, not probabilities.",
    status=422,
    exit_code=EXIT_USAGE,
    remedy="Import with softmax, so that labels come with probabilities, or without labels.",
)
PREPROCESS_INVALID: Final = define(
    "preprocess-invalid",
    "The preprocessing is not usable.",
    status=422,
    exit_code=EXIT_USAGE,
    remedy='Give a preset such as "imagenet", or keys such as "resize=256,crop=224,mean=127,scale=128".',
)
MODEL_UNREADABLE: Final = define(
    "model-unreadable", "The model could not be read.", status=422, remedy="Check the file and its format."
)
MODEL_UNSUPPORTED: Final = define(
    "model-unsupported",
    "The model has a property that is not supported.",
    status=422,
    remedy="Export the model without that property.",
)
MODEL_MISMATCH: Final = define(
    "model-manifest-mismatch",
    "The model does not have the inputs and outputs that its manifest lists.",
    status=422,
    remedy=_REIMPORT,
)
STATE_DICT_INVALID: Final = define(
    "state-dict-invalid",
    "The file is not a plain state dict of tensors.",
    status=422,
    remedy="Save the model's weights with `torch.save(model.state_dict(), path)`.",
)
TENSOR_MISSING: Final = define(
    "tensor-missing",
    "An input of the model is missing.",
    status=400,
    remedy="Send every input that the model's metadata lists.",
)
TENSOR_UNEXPECTED: Final = define(
    "tensor-unexpected",
    "The model has no input or output of this name.",
    status=400,
    remedy="Use the names that the model's metadata lists.",
)
TENSOR_DTYPE: Final = define(
    "tensor-dtype-mismatch",
    "An input has the wrong data type.",
    status=400,
    remedy="Send the data type that the model's metadata lists.",
)
TENSOR_SHAPE: Final = define(
    "tensor-shape-mismatch",
    "An input has the wrong shape.",
    status=400,
    remedy="Send the shape that the model's metadata lists, -1 standing for any size.",
)
IMAGE_FORMAT: Final = define(
    "image-format-unsupported",
    "The picture is neither JPEG nor PNG.",
    status=415,
    remedy="Send a JPEG or PNG file.",
)
IMAGE_TOO_LARGE: Final = define(
    "image-too-large", "The picture exceeds a limit.", status=413, remedy="Send a smaller picture."
)
IMAGE_BROKEN: Final = define(
    "image-broken",
    "The picture cannot be decoded.",
    status=400,
    remedy="Send a whole, valid JPEG or PNG file.",
)
INFERENCE_FAILED: Final = define(
    "inference-failed",
    "The model failed on this input.",
    status=500,
    remedy="Check that the model accepts inputs of these shapes.",
)
RUNTIME_BUSY: Final = define(
    "runtime-busy", "Too many inferences are waiting.", status=503, remedy="Try again later."
)
RUNTIME_CLOSED: Final = define(
    "runtime-closed", "The model has been unloaded.", status=503, remedy="Try again later."
)
