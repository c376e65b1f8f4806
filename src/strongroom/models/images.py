"""Encoded pictures to the pixels that a model wants: JPEG and PNG, by Pillow, under limits.

What the result is, exactly, because a model's accuracy depends on it:

- Orientation: turned as its EXIF tag says, as every viewer shows it.
- Colour: RGB, 8 bits. Transparency is dropped; 16-bit samples keep their high byte; colour profiles are not
applied.
- Crop and resize in one step, antialiased: the box that would be the centre `width` x `height` after the
  shorter side is resized to `resize_shorter` is resampled straight to `width` x `height`.
- JPEGs of at least four times the wanted size are first scaled by a power of two while they are decoded (as
  libjpeg does it), so that the resampling still starts from at least twice the wanted size.

Only the decoder that the magic bytes call for is used; Pillow's registry of formats is not. Decoding and
resizing release the GIL, and nothing is shared between calls, so threads may decode side by side.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from strongroom.errors import ModelError
from strongroom.models.errors import IMAGE_BROKEN, IMAGE_FORMAT, IMAGE_TOO_LARGE
from strongroom.models.preprocess import ImagePreprocess

# Pillow would write what it finds wrong with a picture's metadata to stderr.
warnings.filterwarnings("ignore", module=r"PIL\.")

_DECODERS: Final[Mapping[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
}
_PNG_END: Final = b"IEND\xaeB`\x82"
_JPEG_SCAN: Final = b"\xff\xda"

_FAULTS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Warning,
)
"""What Pillow raises on broken files."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF tag 0x0112 (CIPA DC-008, 4.6.4) and what turns the picture upright."""

_INTERPOLATION: Final = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is decoded at all.

    Attributes:
        size: Bytes of the file.
        pixels: Width times height, checked before decoding.
        scans: Scans of a progressive JPEG, each of which costs a pass over the picture.
    """

    size: int = 32 * 1024 * 1024
    pixels: int = 64 * 1024 * 1024
    scans: int = 100


DEFAULT_LIMITS: Final = ImageLimits()


def decode_image(
    data: bytes, preprocess: ImagePreprocess, limits: ImageLimits = DEFAULT_LIMITS
) -> NDArray[np.uint8]:
    """Decode a picture and bring it to the size that the model wants.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        ModelError: `image-format-unsupported`, `image-too-large` or `image-broken`.
    """
    decoder = next((decoder for magic, decoder in _DECODERS.items() if data.startswith(magic)), None)
    if decoder is None:
        raise ModelError(IMAGE_FORMAT)
    if len(data) > limits.size:
        raise ModelError(IMAGE_TOO_LARGE, found=f"{len(data)} bytes", expected=f"at most {limits.size}")
    if decoder is PngImageFile and _PNG_END not in data:
        raise ModelError(IMAGE_BROKEN, "it is cut off")
    if decoder is JpegImageFile and data.count(_JPEG_SCAN) > limits.scans:
        raise ModelError(IMAGE_TOO_LARGE, "too many scans", expected=f"at most {limits.scans}")
    try:
        with decoder(io.BytesIO(data)) as image:
            if image.width * image.height > limits.pixels:
                raise ModelError(
                    IMAGE_TOO_LARGE,
                    found=f"{image.width}x{image.height} pixels",
                    expected=f"at most {limits.pixels} in all",
                )
            return _fit(image, preprocess)
    except _FAULTS:  # its text may quote the picture
        raise ModelError(IMAGE_BROKEN) from None


def _fit(image: ImageFile.ImageFile, preprocess: ImagePreprocess) -> NDArray[np.uint8]:
    turn = _TURNS.get(image.getexif().get(0x0112, 1))
    size = (preprocess.width, preprocess.height)
    if turn is not None and turn.name in {"TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"}:
        size = size[::-1]
    # Width and height that the whole picture would have at the model's scale.
    full: tuple[float, float] = size
    if preprocess.resize_shorter is not None:
        scale = preprocess.resize_shorter / min(image.size)
        full = (image.width * scale, image.height * scale)
    image.draft(None, (max(1, int(2 * full[0])), max(1, int(2 * full[1]))))
    pixels = _rgb(image)
    width, height = pixels.width * size[0] / full[0], pixels.height * size[1] / full[1]
    left, top = (pixels.width - width) / 2, (pixels.height - height) / 2
    fitted = pixels.resize(
        size, _INTERPOLATION[preprocess.resize], box=(left, top, left + width, top + height)
    )
    return np.asarray(fitted if turn is None else fitted.transpose(turn))


def _rgb(image: ImageFile.ImageFile) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
        high = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
