"""How a picture becomes the tensor that a model was trained on: description, presets, notation.

The description says what the model wants; `strongroom.models.images` does the part that needs the decoded
picture (crop and resize), and the runtime fuses the rest (layout, colour order, normalisation) into the
graph.

    >>> parse_preprocess("resize=256,crop=224,mean=127,scale=128,interpolation=bicubic").resize_shorter
    256
    >>> parse_preprocess("imagenet,input=pixels").mean
    (123.675, 116.28, 103.53)
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from strongroom.errors import ModelError
from strongroom.forms import ready
from strongroom.models.errors import PREPROCESS_INVALID

MAX_SIDE: Final = 4096
"""Longest side of a model's input picture, in pixels."""

_MAX_TEXT: Final = 4096
_PRESET_NAME: Final = re.compile(r"[a-z0-9-]+")
_SIZE: Final = re.compile(r"([0-9]{1,4})(?:x([0-9]{1,4}))?")

Triple = tuple[float, float, float]


@ready
class ImagePreprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From a decoded picture (uint8, RGB) to a model's input: `(pixel - mean) / scale` after crop and resize.

    Attributes:
        input: Name of the model's input that takes pictures.
        width: Width of the model's picture, in pixels.
        height: Height of the model's picture, in pixels.
        resize: Interpolation, antialiased.
        resize_shorter: Length to which the shorter side is resized before the central `width` x `height` are
            cut out; None resizes the whole picture to `width` x `height`, whatever its aspect.
        layout: Order of axes in the model's own input.
        color: Order of channels in the model's own input. `mean` and `scale` are in this order.
        mean: Subtracted from each channel, in units of 0..255.
        scale: Divides each channel afterwards.
    """

    input: str
    width: int
    height: int
    resize: Literal["bicubic", "bilinear"] = "bilinear"
    resize_shorter: int | None = None
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["RGB", "BGR"] = "RGB"
    mean: Triple = (0.0, 0.0, 0.0)
    scale: Triple = (1.0, 1.0, 1.0)

    def check(self) -> None:
        """Refuse values that no picture could be brought to.

        Raises:
            ModelError: `preprocess-invalid`.
        """
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise _invalid("size", f"{self.width}x{self.height}", f"1 to {MAX_SIDE} pixels a side")
        shorter = self.resize_shorter
        if shorter is not None and not max(self.width, self.height) <= shorter <= MAX_SIDE:
            raise _invalid("resize", shorter, f"at least the crop's longer side, at most {MAX_SIDE}")
        if not all(math.isfinite(value) for value in self.mean):
            raise _invalid("mean", self.mean, "finite numbers")
        if not all(math.isfinite(value) and value != 0 for value in self.scale):
            raise _invalid("scale", self.scale, "finite numbers other than 0")


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # torchvision.transforms.ImageClassification, in units of 0..255
    "imagenet": {
        "resize": 256,
        "crop": 224,
        "mean": [123.675, 116.28, 103.53],
        "scale": [58.395, 57.12, 57.375],
    },
    # github.com/tensorflow/tpu, models/official/efficientnet/lite: crop padding 32, mean 127, deviation 128
    "lite0": {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": 127,
        "scale": 128,
    },
    # Keras applications in "tf" mode: MobileNet, Inception, ResNet v2
    "keras-tf": {"crop": 224, "layout": "NHWC", "mean": 127.5, "scale": 127.5},
    "zero-to-one": {"crop": 224, "scale": 255},
}


def parse_preprocess(text: str) -> ImagePreprocess:
    """Read a preprocessing description.

    One line is the inline notation: `key=value` pairs between commas, the first of which may be the name of a
    preset; several numbers are separated by `/`, a size is `224` or `WIDTHxHEIGHT`. More than one line is
    TOML with the same
    keys: input, resize, crop, interpolation, layout, color, mean, scale, preset.

    Raises:
        ModelError: `preprocess-invalid`.
    """
    if len(text) > _MAX_TEXT:
        raise _invalid("length", len(text), f"at most {_MAX_TEXT} characters")
    stripped = text.strip()
    values = _read_toml(stripped) if "\n" in stripped else _read_inline(stripped)
    preset = values.pop("preset", None)
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise _invalid("preset", preset, f"one of {', '.join(PRESETS)}")
        values = {**PRESETS[preset], **values}
    return _build(values)


def _read_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ModelError(PREPROCESS_INVALID, "not valid TOML") from error


def _read_inline(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for index, part in enumerate(text.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            if index or not _PRESET_NAME.fullmatch(key):
                raise _invalid("part", part.strip(), "key=value")
            key, value = "preset", key
        if key in values:
            raise _invalid("key", key, "each key once")
        values[key] = value.split("/") if "/" in value and key in {"mean", "scale"} else value
    return values


def _build(values: dict[str, Any]) -> ImagePreprocess:
    fields: dict[str, Any] = {"input": ""}
    for key, value in values.items():
        reader = _READERS.get(key)
        if reader is None:
            raise _invalid("key", key, f"one of {', '.join((*_READERS, 'preset'))}")
        fields.update(reader(key, value))
    if "width" not in fields:
        raise _invalid("crop", "nothing", "the size of the model's picture, for example crop=224")
    try:
        result = msgspec.convert(fields, ImagePreprocess)
    except msgspec.ValidationError as error:
        raise ModelError(PREPROCESS_INVALID, str(error)) from error
    result.check()
    return result


def _text(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, str):
        raise _invalid(key, value, "text")
    return {{"interpolation": "resize"}.get(key, key): value}


def _size(key: str, value: object) -> dict[str, Any]:
    match = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) else None
    if match is None:
        raise _invalid(key, value, "a size such as 224 or 320x240")
    width = int(match[1])
    return {"width": width, "height": int(match[2] or width)}


def _shorter(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, str | int) or re.fullmatch(r"[0-9]{1,4}", str(value)) is None:
        raise _invalid(key, value, "a length in pixels")
    return {"resize_shorter": int(value)}


def _triple(key: str, value: object) -> dict[str, Any]:
    numbers: list[Any] = value if isinstance(value, list) else [value]
    try:
        found = [float(number) for number in numbers]
    except (TypeError, ValueError, OverflowError) as error:
        raise _invalid(key, value, "one number or three") from error
    if len(found) == 1:
        found *= 3
    if len(found) != 3:
        raise _invalid(key, value, "one number or three")
    return {key: tuple(found)}


_READERS: Final[dict[str, Callable[[str, object], dict[str, Any]]]] = {
    "input": _text,
    "resize": _shorter,
    "crop": _size,
    "interpolation": _text,
    "layout": _text,
    "color": _text,
    "mean": _triple,
    "scale": _triple,
}


def _invalid(what: str, found: object, expected: str) -> ModelError:
    return ModelError(PREPROCESS_INVALID, what, found=str(found)[:80], expected=expected)
