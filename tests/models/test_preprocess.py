from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import ModelError
from strongroom.models.preprocess import MAX_SIDE, PRESETS, ImagePreprocess, parse_preprocess


def refusal(text: str) -> str:
    with pytest.raises(ModelError) as caught:
        parse_preprocess(text)
    assert caught.value.code == "preprocess-invalid"
    return str(caught.value)


def test_inline_notation_has_every_key() -> None:
    found = parse_preprocess(
        "input=pixels, resize=300, crop=299x280, interpolation=bicubic, layout=NHWC, color=BGR,"
        " mean=1/2.5/3, scale=2"
    )
    assert found == ImagePreprocess(
        input="pixels",
        width=299,
        height=280,
        resize="bicubic",
        resize_shorter=300,
        layout="NHWC",
        color="BGR",
        mean=(1.0, 2.5, 3.0),
        scale=(2.0, 2.0, 2.0),
    )


def test_toml_gives_the_same_as_the_inline_notation() -> None:
    toml = """
        input = "pixels"
        resize = 256
        crop = 224
        interpolation = "bicubic"
        mean = [127, 127.5, 128]
        scale = 128
    """
    inline = "input=pixels,resize=256,crop=224,interpolation=bicubic,mean=127/127.5/128,scale=128"
    assert parse_preprocess(toml) == parse_preprocess(inline)


def test_only_the_size_is_required() -> None:
    assert parse_preprocess("crop=8") == ImagePreprocess(input="", width=8, height=8)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_valid(name: str) -> None:
    preset = parse_preprocess(name)
    assert (preset.width, preset.height) == (224, 224)
    assert parse_preprocess(f"{name},crop=200").width == 200
    assert parse_preprocess(f'preset = "{name}"\ncrop = 200').width == 200


def test_imagenet_preset_is_torchvisions() -> None:
    preset = parse_preprocess("imagenet")
    assert [round(value / 255, 3) for value in preset.mean] == [0.485, 0.456, 0.406]
    assert [round(value / 255, 3) for value in preset.scale] == [0.229, 0.224, 0.225]
    assert (preset.resize_shorter, preset.resize) == (256, "bilinear")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "key=value"),
        ("nonesuch", "found nonesuch"),
        ("crop=8,imagenet", "key=value"),
        ("Imagenet", "key=value"),
        ("crop=8,crop=9", "each key once"),
        ("crop=8,size=9", "found size"),
        ("mean=1", "crop=224"),
        ("crop=0", "0x0"),
        ("crop=8x0", "8x0"),
        (f"crop={MAX_SIDE + 1}", "pixels a side"),
        ("crop=12345", "found 12345"),
        ("crop=8x", "found 8x"),
        ("crop=-8", "found -8"),
        ("crop=8,resize=7", "longer side"),
        ("crop=8x9,resize=8", "longer side"),
        (f"crop=8,resize={MAX_SIDE + 1}", "longer side"),
        ("crop=8,resize=all", "pixels"),
        ("crop=8,mean=1/2", "three"),
        ("crop=8,mean=a", "three"),
        ("crop=8,mean=nan", "finite"),
        ("crop=8,scale=inf", "finite"),
        ("crop=8,scale=0", "other than 0"),
        ("crop=8,scale=1/1/0", "other than 0"),
        ("crop=8,interpolation=nearest", "nearest"),
        ("crop=8,layout=CHW", "CHW"),
        ("crop=8,color=GRAY", "GRAY"),
        ("crop = 8\nresize = [1]", "pixels"),
        ("crop = [8]\nresize = 8", "size such as"),
        ("crop = 8\ninput = 8", "text"),
        ("crop = 8\nmean = [[1]]", "three"),
        ("crop = 8\npreset = 1", "one of"),
        ("crop = 8\nmean = \n", "not valid TOML"),
        ("a" * 5000, "at most 4096"),
        ("crop = 8\nx = " + "[" * 3000, "not valid TOML"),
    ],
)
def test_refuses(text: str, says: str) -> None:
    assert says in refusal(text)


@given(st.text(alphabet="cropmeansl=,/x.0123456789 \n[]\"'", max_size=60))
def test_any_text_gives_a_description_or_our_error(text: str) -> None:
    try:
        found = parse_preprocess(text)
    except ModelError as error:
        code = error.code
    else:
        found.check()
        code = "valid"
    assert code in {"valid", "preprocess-invalid"}


@given(
    st.integers(1, MAX_SIDE),
    st.integers(1, MAX_SIDE),
    st.tuples(*[st.floats(-1e6, 1e6)] * 3),
    st.tuples(*[st.floats(0.001, 1e6)] * 3),
)
def test_what_is_written_inline_is_read_back(
    width: int, height: int, mean: tuple[float, ...], scale: tuple[float, ...]
) -> None:
    text = f"crop={width}x{height},mean={'/'.join(map(repr, mean))},scale={'/'.join(map(repr, scale))}"
    found = parse_preprocess(text)
    assert (found.width, found.height, found.mean, found.scale) == (width, height, mean, scale)
