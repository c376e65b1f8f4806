from __future__ import annotations

import io
import random
import struct
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from strongroom.errors import ModelError
from strongroom.models.images import ImageLimits, decode_image
from strongroom.models.preprocess import ImagePreprocess, parse_preprocess

SQUASH = parse_preprocess("crop=8")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, blue is constant."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.full_like(across, 77)], axis=2).astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(ModelError) as caught:
        decode_image(data, SQUASH, ImageLimits(**limits))
    return caught.value.code


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_gives_rgb_pixels_of_the_size_asked_for(kind: str) -> None:
    pixels = decode_image(encoded(gradient(64, 48), kind), parse_preprocess("crop=16x12"))
    assert (pixels.shape, pixels.dtype) == ((12, 16, 3), np.uint8)
    assert pixels.flags.c_contiguous
    assert int(pixels[0, 15, 0]) > 230 > 30 > int(pixels[0, 0, 0])
    assert int(pixels[11, 0, 1]) > 230 > 30 > int(pixels[0, 0, 1])
    assert np.abs(pixels[:, :, 2].astype(int) - 77).max() <= 3


def test_a_picture_of_the_right_size_comes_through_unchanged() -> None:
    picture = noise(8, 8)
    assert np.array_equal(decode_image(encoded(picture), SQUASH), np.asarray(picture))


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (250, 250)])
@pytest.mark.parametrize("resize", ["bicubic", "bilinear"])
def test_crop_and_resize_are_those_of_the_usual_two_steps(width: int, height: int, resize: str) -> None:
    picture = noise(width, height).resize((width, height))
    preprocess = parse_preprocess(f"resize=64,crop=56,interpolation={resize}")
    method = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[resize]
    scale = 64 / min(width, height)
    resized = picture.resize((round(width * scale), round(height * scale)), method)
    left, top = (resized.width - 56) // 2, (resized.height - 56) // 2
    wanted = np.asarray(resized.crop((left, top, left + 56, top + 56)))
    found = decode_image(encoded(picture), preprocess)
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_without_resize_the_whole_picture_is_squashed() -> None:
    pixels = decode_image(encoded(gradient(100, 10)), parse_preprocess("crop=10"))
    wanted = gradient(100, 10).resize((10, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels, np.asarray(wanted))


def test_a_picture_of_one_pixel_is_enlarged() -> None:
    pixels = decode_image(encoded(Image.new("RGB", (1, 1), (9, 8, 7))), parse_preprocess("resize=16,crop=8"))
    assert np.array_equal(pixels, np.full((8, 8, 3), (9, 8, 7)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_of_png_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((8, 8), 200 * 256 + 13, np.uint16))
    else:
        picture = Image.new("RGB", (8, 8), (200, 200, 200)).convert(mode)
    pixels = decode_image(encoded(picture), SQUASH)
    assert pixels.shape == (8, 8, 3)
    assert np.all(pixels == (255 if mode == "1" else 200)) or mode in {"1", "P"}


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    pixels = decode_image(encoded(Image.fromarray(values)), SQUASH)
    assert np.array_equal(pixels[:, :, 0], values >> 8)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_every_mode_of_jpeg_becomes_rgb(mode: str) -> None:
    picture = Image.new("RGB", (8, 8), (200, 200, 200)).convert(mode)
    pixels = decode_image(encoded(picture, "JPEG", quality=95), SQUASH)
    assert np.abs(pixels.astype(int) - 200).max() <= 3


def test_transparency_is_dropped() -> None:
    picture = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert np.array_equal(decode_image(encoded(picture), SQUASH), np.full((8, 8, 3), (10, 20, 30)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("spec", ["crop=30x20", "resize=24,crop=20x12"])
def test_the_picture_is_turned_as_its_exif_tag_says(orientation: int, kind: str, spec: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = gradient(60, 40)
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    preprocess = parse_preprocess(spec)
    wanted = decode_image(encoded(upright, kind, **{"quality": 95} if kind == "JPEG" else {}), preprocess)
    found = decode_image(encoded(stored, kind, exif=exif, quality=95), preprocess)
    assert np.abs(found.astype(int) - wanted).max() <= 6


def test_an_unknown_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    picture = noise(8, 8)
    assert np.array_equal(decode_image(encoded(picture, exif=exif), SQUASH), np.asarray(picture))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_metadata_does_not_spoil_a_good_picture() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\xff\xff\xff\xff\xff"
    pixels = decode_image(encoded(gradient(8, 8), "JPEG", exif=exif), SQUASH)
    assert pixels.shape == (8, 8, 3)


def test_a_large_jpeg_is_scaled_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    load = ImageFile.ImageFile.load

    def spy(image: ImageFile.ImageFile) -> Any:
        decoded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", spy)
    preprocess = parse_preprocess("resize=64,crop=56,interpolation=bicubic")
    smooth = gradient(1024, 768)
    large = decode_image(encoded(smooth, "JPEG", quality=95), preprocess)
    assert decoded[0] == (256, 192)  # 1/4: at least twice the 64 that are wanted remain
    whole = decode_image(encoded(smooth), preprocess)
    assert decoded[1] == (1024, 768) if len(decoded) == 2 else True
    assert np.abs(large.astype(int) - whole).mean() < 1


def test_a_jpeg_less_than_four_times_as_large_is_decoded_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: (sizes.append(image.size), load(image))[1])
    decode_image(encoded(gradient(255, 255), "JPEG"), parse_preprocess("resize=64,crop=56"))
    assert sizes[0] == (255, 255)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO"])
def test_refuses_other_formats_that_pillow_knows(kind: str) -> None:
    assert refusal(encoded(gradient(16, 16), kind)) == "image-format-unsupported"


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"hello", b"%!PS-Adobe", b"\x89PNG", b"<svg/>", b" \xff\xd8\xff"]
)
def test_refuses_what_is_no_picture(data: bytes) -> None:
    assert refusal(data) == "image-format-unsupported"


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(50)]
)
def test_refuses_a_bare_signature(data: bytes) -> None:
    assert refusal(data) == "image-broken"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_refuses_every_truncation(kind: str) -> None:
    data = encoded(noise(16, 16), kind)
    for length in range(8, len(data)):
        with pytest.raises(ModelError) as caught:
            decode_image(data[:length], SQUASH)
        assert caught.value.code in {"image-broken", "image-format-unsupported"}, length


def test_refuses_too_many_pixels_before_it_decodes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    assert refusal(encoded(noise(10, 10)), pixels=99) == "image-too-large"
    assert refusal(encoded(noise(10, 10), "JPEG"), pixels=99) == "image-too-large"
    assert not loaded


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(parts)


def test_refuses_a_decompression_bomb() -> None:
    rows = zlib.compress(bytes(10_000_000), 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own bomb warning must not be needed, nor shown
        assert refusal(_png(60_000, 60_000, (b"IDAT", rows))) == "image-too-large"
        assert refusal(_png(2**31 - 1, 2**31 - 1, (b"IDAT", rows))) == "image-too-large"


def test_more_pixels_than_the_header_says_are_not_decoded() -> None:
    rows = zlib.compress(bytes(25 * 10_000), 9)
    assert decode_image(_png(8, 8, (b"IDAT", rows)), SQUASH).max() == 0


def test_rows_that_are_missing_are_black_and_never_another_picture() -> None:
    """Pillow takes a PNG whose data end early, in order; what is not there must not be old memory."""
    for _ in range(20):
        decode_image(encoded(noise(8, 8)), SQUASH)
        pixels = decode_image(_png(8, 8, (b"IDAT", zlib.compress((b"\0" + b"\xff" * 24) * 4))), SQUASH)
        assert pixels[:4].min() == 255
        assert pixels[4:].max() == 0


def test_refuses_a_huge_compressed_text_chunk() -> None:
    bomb = b"a\0\0" + zlib.compress(bytes(100_000_000), 9)
    assert refusal(_png(8, 8, (b"zTXt", bomb), (b"IDAT", zlib.compress(bytes(25 * 8))))) == "image-broken"


@pytest.mark.parametrize("size", [(0, 8), (8, 0)])
def test_refuses_a_picture_without_pixels(size: tuple[int, int]) -> None:
    assert refusal(_png(*size, (b"IDAT", zlib.compress(bytes(200))))) == "image-broken"


def test_refuses_a_jpeg_of_endless_scans() -> None:
    data = encoded(noise(16, 16), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    many = data[:scan] + (data[scan:-2] * 200) + data[-2:]
    assert refusal(many) == "image-too-large"
    assert decode_image(data, SQUASH).shape == (8, 8, 3)


def test_refuses_a_large_file_unread() -> None:
    data = encoded(noise(16, 16))
    assert refusal(data, size=len(data) - 1) == "image-too-large"
    assert decode_image(data, SQUASH, ImageLimits(size=len(data))).shape == (8, 8, 3)


def test_errors_say_nothing_of_the_picture() -> None:
    data = encoded(noise(16, 16), "JPEG", comment=b"canary-canary")[:-40]
    with pytest.raises(ModelError) as caught:
        decode_image(data, SQUASH)
    assert caught.value.__cause__ is None
    assert "canary" not in f"{caught.value} {caught.value.to_problem()}"


def test_threads_decode_side_by_side() -> None:
    """Twelve different pictures at a time, each checked against what one thread gives."""
    preprocess = parse_preprocess("resize=64,crop=56,interpolation=bicubic")
    pictures = [encoded(noise(100 + number, 90), "JPEG") for number in range(12)]
    alone = [decode_image(data, preprocess) for data in pictures]
    barrier = threading.Barrier(4)

    def work(number: int) -> bool:
        barrier.wait(timeout=20)
        return all(
            np.array_equal(decode_image(data, preprocess), pixels)
            for data, pixels in zip(pictures, alone, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_pictures_that_pillow_reads_by_name_only_are_not_its_business() -> None:
    """A JPEG with a second picture in it (MPO) is read as its first picture."""
    data = encoded(gradient(16, 16), "JPEG")
    assert np.array_equal(decode_image(data + data, SQUASH), decode_image(data, SQUASH))
    with JpegImageFile(io.BytesIO(data)) as image:
        assert image.format == "JPEG"


def _segments(data: bytes) -> list[bytes]:
    """The segments of a JPEG: markers with their bodies; the first scan and all behind it in one."""
    parts, at = [data[:2]], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


def _jpeg_mutant(rng: random.Random, data: bytes) -> bytes:
    """A JPEG whose markers and lengths are right, with bodies changed, segments moved or repeated."""
    parts = _segments(data)
    at = rng.randrange(1, len(parts))
    match rng.randrange(4):
        case 0:
            body = bytearray(parts[at])
            for _ in range(rng.choice((1, 2, 8))):
                body[rng.randrange(4, len(body))] = rng.randrange(256)
            parts[at] = bytes(body)
        case 1:
            parts.insert(rng.randrange(1, len(parts)), parts[at])
        case 2 if at < len(parts) - 1:
            parts.append(parts.pop(at))
        case _:
            body = rng.randbytes(rng.randrange(60))
            marker = bytes((0xFF, rng.choice((0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xE1, 0xED, 0xEE, 0xFE))))
            prefix = rng.choice((b"", b"Exif\0\0", b"JFIF\0", b"Adobe\0", b"Exif\0\0II*\0\x08\0\0\0"))
            parts.insert(at, marker + (len(prefix + body) + 2).to_bytes(2) + prefix + body)
    return b"".join(parts)


def _png_mutant(rng: random.Random) -> bytes:
    """A PNG whose chunks have good checksums."""
    rows = bytearray(rng.randbytes(25 * 8))
    rows[::25] = bytes(rng.choice((0, 1, 2, 3, 4, 4, 9)) for _ in range(8))
    packed = zlib.compress(bytes(rows))
    chunks: list[tuple[bytes, bytes]] = [(b"IDAT", packed)]
    kinds = b"PLTE tRNS gAMA iCCP tEXt zTXt iTXt eXIf acTL fcTL fdAT pHYs sRGB IDAT IHDR XXXX".split()
    for _ in range(rng.randrange(4)):
        body = rng.choice((b"", b"a\0\0", b"II*\0\x08\0\0\0", b"\0\0\0\x01")) + rng.randbytes(
            rng.randrange(40)
        )
        chunks.insert(rng.randrange(len(chunks) + 1), (rng.choice(kinds), body))
    if rng.randrange(4) == 0:
        chunks = [(kind, body[: len(body) // 2] if kind == b"IDAT" else body) for kind, body in chunks]
    data = bytearray(_png(8, 8, *chunks))
    if rng.randrange(3) == 0:  # depth, colour, compression, filter, interlace
        data[24 + rng.randrange(5)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16))
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def _outcome(data: bytes, preprocess: ImagePreprocess) -> str:
    try:
        pixels = decode_image(data, preprocess, ImageLimits(pixels=100_000))
    except ModelError as error:
        return error.code
    return f"{pixels.dtype} {pixels.shape}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutants_of_jpegs_meet_only_our_errors(spoil: Callable[[random.Random, bytes], bytes]) -> None:
    rng = random.Random(3)
    preprocess = parse_preprocess("resize=9,crop=8")
    exif = Image.Exif()
    exif[0x0112] = 6
    good = [
        encoded(gradient(16, 24), "JPEG"),
        encoded(gradient(80, 70), "JPEG", progressive=True, exif=exif),
        encoded(gradient(9, 9).convert("CMYK"), "JPEG"),
    ]
    outcomes = Counter(
        _outcome(
            _jpeg_mutant(rng, rng.choice(good)) if number % 2 else spoil(rng, rng.choice(good)), preprocess
        )
        for number in range(20_000)
    )
    assert set(outcomes) == {"uint8 (8, 8, 3)", "image-broken", "image-too-large", "image-format-unsupported"}
    assert outcomes["uint8 (8, 8, 3)"] > 2000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutants_of_pngs_meet_only_our_errors(spoil: Callable[[random.Random, bytes], bytes]) -> None:
    rng = random.Random(4)
    good = [encoded(gradient(8, 8)), encoded(gradient(9, 7).convert("P")), encoded(noise(8, 8).convert("LA"))]
    outcomes = Counter(
        _outcome(_png_mutant(rng) if number % 2 else spoil(rng, rng.choice(good)), SQUASH)
        for number in range(20_000)
    )
    assert set(outcomes) - {"image-too-large"} == {
        "uint8 (8, 8, 3)",
        "image-broken",
        "image-format-unsupported",
    }
    assert outcomes["uint8 (8, 8, 3)"] > 1000
