from __future__ import annotations

import enum
import json
import math
import random
import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec.jcs import MAX_DEPTH, canonical, parse, strip_strings
from strongroom.errors import CodecError

# RFC 8785, appendix B
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_of_rfc_8785(bits, text):
    number = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical(number).decode() == text
    assert float(parse(text.encode(), limit=100)) == number


def test_the_example_of_rfc_8785_section_3():
    value = parse(
        rb"""{
          "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
          "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
          "literals": [null, true, false]
        }""",
        limit=1000,
    )
    assert (
        canonical(value)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


def test_names_sort_by_utf16_code_units():
    # RFC 8785, section 3.2.3: the emoji's surrogates sort before U+FB33
    names = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7}
    assert list(json.loads(canonical(names)).values()) == [2, 4, 6, 7, 1, 5, 3]


@given(VALUES)
def test_round_trip(value):
    text = canonical(value)
    again = parse(text, limit=len(text))
    assert again == value
    assert canonical(again) == text


@given(VALUES)
def test_the_fast_way_is_the_librarys(value):
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "",
        0,
        2**53 - 1,
        -(2**53) + 1,
        True,
        None,
        {"b": 1, "a": [True, None, {"": ""}], "A": -0},
        "".join(map(chr, range(0x100))) + "\u2028\u2029\ufeff\U0001f600",
        {"~": 1, "\x7f": 2, "\x00": 3, "/": 4},
        {"\u00e9": 1, "\U0001f600": 2, "\ufb33": 3},
        {"x": 1.5, "y": 1e21},
    ],
)
def test_the_fast_way_is_the_librarys_at_the_edges(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(VALUES)
def test_any_spelling_has_the_same_canonical_form(value):
    spelled = json.dumps(value, indent=3, ensure_ascii=True).encode()
    assert canonical(parse(spelled, limit=len(spelled))) == canonical(value)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53,
        -(2**53),
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        b"bytes",
        {"x": {1, 2}},
        object(),
        [{"deep": [object()]}],
    ],
)
def test_what_has_no_canonical_form(refused, value):
    with refused("json-not-representable"):
        canonical(value)


def test_a_cycle_has_no_canonical_form(refused):
    loop: list[object] = []
    loop.append(loop)
    with refused("json-not-representable"):
        canonical(loop)


def test_string_enums_and_tuples_are_representable():
    class Kind(enum.StrEnum):
        SGX = "sgx"

    assert canonical({"kind": Kind.SGX, "of": (1, True)}) == b'{"kind":"sgx","of":[1,true]}'


def test_numbers_and_strings_of_other_types_are_representable():
    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    assert canonical({Text("b"): Text("\n"), "a": [Number(3), True]}) == b'{"a":[3,true],"b":"\\n"}'


def test_a_view_is_accepted():
    assert parse(memoryview(b'xx{"a":1}')[2:], limit=10) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"nul",
        b"{} {}",
        b"[1,]",
        b"[01]",
        b"{'a':1}",
        b'{"a" 1}',
        b'"\n"',
        b'"open',
        b'"\\',
        b"]",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e400]",
        b"9" * 5000,
        b"\xef\xbb\xbf{}",  # byte order mark
        '{"a":1}'.encode("utf-16"),
        b'"\xff"',
        b'"\xed\xa0\x80"',  # a surrogate in UTF-8
        rb'"\ud800"',
        rb'{"\udc00x": 1}',
        rb'["\ud800\ud800"]',
    ],
)
def test_not_json(refused, text):
    with refused("json-invalid", "manifest"):
        parse(text, limit=10_000, what="manifest")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9007199254740991", 2**53 - 1),
        (b"-9007199254740991", -(2**53) + 1),
        (b"9007199254740992", 2.0**53),
        (b"295147905179352830000", 295147905179352830000.0),
    ],
)
def test_integers_of_a_double_s_own_spelling(text, value):
    parsed = parse(text, limit=100)
    assert parsed == value
    assert type(parsed) is type(value)
    assert canonical(parsed) == text


@pytest.mark.parametrize(
    "text", [b"9007199254740993", b"-18446744073709551615", b"1" + b"0" * 30, b"9" * 400]
)
def test_integers_that_parsers_would_read_differently(refused, text):
    with refused("json-invalid"):
        parse(text, limit=1000)


def test_a_surrogate_pair_is_a_character():
    assert parse(rb'"\ud83d\ude00"', limit=20) == "\U0001f600"


@pytest.mark.parametrize("text", [b'{"a":1,"a":1}', b'[{"x":{"a":1,"b":2,"\\u0061":3}}]'])
def test_a_name_given_twice(refused, text):
    with refused("json-duplicate-name"):
        parse(text, limit=100)


def test_the_same_name_in_two_objects_is_fine():
    assert parse(b'[{"a":1},{"a":2}]', limit=100) == [{"a": 1}, {"a": 2}]


def test_the_limit_is_exact(refused):
    assert parse(b"[1]", limit=3) == [1]
    with refused("value-too-large", "policy"):
        parse(b"[1] ", limit=3, what="policy")


@pytest.mark.parametrize(("start", "stop"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_depth_is_exact(refused, start, stop):
    inner = b"1" if start != b"[" else b""
    assert parse(start * MAX_DEPTH + inner + stop * MAX_DEPTH, limit=1000) is not None
    with refused("json-too-deep"):
        parse(start * (MAX_DEPTH + 1) + inner + stop * (MAX_DEPTH + 1), limit=1000)


def test_a_million_brackets_are_refused_by_depth(refused):
    with refused("json-too-deep"):
        parse(b"[" * 1_000_000, limit=1_000_000)


def test_brackets_in_strings_have_no_depth():
    text = "[" * 100 + '\\" {' * 5
    assert parse(json.dumps(text).encode(), limit=1000) == text


def test_breadth_has_no_depth():
    assert len(parse(b"[" + b"[]," * 5000 + b"[]]", limit=100_000)) == 5001


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 200_000, b'"' * 400_001, b'"' + b"\\" * 400_001])
def test_stripping_strings_is_linear(text):
    # An unclosed string with many escaped quotes would take hours if each of them were a new start.
    assert len(strip_strings(text)) <= 1


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (b'{"a":"b,c"}', b"{:}"),
        (b'["\\"",1]', b"[,1]"),
        (b'["\\\\",","]', b"[,]"),
        (b'["open', b"["),
        (b"[1,2]", b"[1,2]"),
    ],
)
def test_stripping_strings(text, rest):
    assert strip_strings(text) == rest


def test_errors_do_not_show_content():
    for text in (b'{"password":"hunter2" oops', b'"hunter2\xff"', b'{"hunter2":1,"hunter2":2}', b"hunter2"):
        with pytest.raises(CodecError) as caught:
            parse(text, limit=100)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


# Leaves that a lenient parser reads, good and bad.
LEAVES = [
    "null", "true", "1", "-0", "0.5", "1e9", '"a"', '"x,y"', '"\u20ac{"', r'"\u0061\n"', r'"\ud83d\ude00"',
    "NaN", "Infinity", "-Infinity", "1e999", r'"\ud800"', r'"\udc00 "', "9007199254740993", "9" * 40,
    "9007199254740992", "[" * 70 + "]" * 70,
]  # fmt: skip
GOOD_LEAVES = 11


def spell(rng: random.Random, bad: float, depth: int = 0) -> str:
    """A JSON text that `json.loads` reads; a share of its leaves and names breaks our stricter rules."""
    space = rng.choice(["", "", " ", "\n"])
    if depth == 4 or rng.random() < 0.4:
        return space + rng.choice(LEAVES if rng.random() < bad else LEAVES[:GOOD_LEAVES])
    if rng.random() < 0.5:
        return "[" + ",".join(spell(rng, bad, depth + 1) for _ in range(rng.randrange(4))) + space + "]"
    names = rng.sample("abcdefgh", rng.randrange(4))
    if names and rng.random() < bad:
        names.append(rng.choice(names))
    return "{" + ",".join(f'"{name}":{spell(rng, bad, depth + 1)}{space}' for name in names) + "}"


def test_20000_mutants(drive):
    rng = random.Random(2)
    framed = 0

    def mutants():
        nonlocal framed
        for number in range(20_000):
            raw = bytearray(spell(rng, rng.choice([0, 0.05, 0.3])).encode())
            if number % 3 == 0:
                for _ in range(rng.randrange(1, 4)):
                    raw[rng.randrange(len(raw))] = rng.randrange(256)
            try:
                json.loads(raw)
                framed += 1
            except ValueError:
                pass
            yield (bytes(raw),)

    def check(text):
        value = parse(text, limit=1 << 20)
        integer = lambda digits: int(digits) if len(digits) < 16 else float(digits)  # noqa: E731
        assert value == json.loads(text, parse_int=integer)
        assert parse(canonical(value), limit=1 << 20) == value

    outcomes = drive(check, mutants())
    assert outcomes.total() == 20_000
    assert framed >= 10_000
    assert outcomes["ok"] >= 5_000
    assert outcomes["json-invalid"] >= 2_000
    assert outcomes["json-duplicate-name"] >= 100
    assert outcomes["json-too-deep"] >= 100
