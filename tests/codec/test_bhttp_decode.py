from __future__ import annotations

import random

import pytest

from strongroom.codec._varint import encode_varint
from strongroom.codec.bhttp import (
    Framing,
    Informational,
    Limits,
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from strongroom.errors import CodecError

FIELDS = ((b"content-type", b"text/plain"), (b"x", b""))
REQUEST = Request(b"POST", b"https", b"example.com", b"/v2", FIELDS, b"content", ((b"t", b"1"),))
RESPONSE = Response(200, FIELDS, b"content", ((b"t", b"1"),), (Informational(103, FIELDS),))
TARGET = b"\x04POST\x05https\x00\x01/"


def string(raw: bytes) -> bytes:
    return encode_varint(len(raw)) + raw


def lines(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(string(name) + string(value) for name, value in fields)


def section(indicator: int, *fields: tuple[bytes, bytes]) -> bytes:
    return lines(*fields) + b"\0" if indicator >= 2 else string(lines(*fields))


@pytest.mark.parametrize("framing", Framing)
def test_every_truncation_of_a_request(refused, framing):
    message = encode_request(REQUEST, framing=framing)
    # Sections may be left out at the end only: here, before the header section, the content and the trailers.
    headers = len(encode_request(Request(b"POST", b"https", b"example.com", b"/v2"), framing=framing)) - 3
    content = len(message) - len(section(framing.value, (b"t", b"1")))
    body = content - len(b"\x07content" + (b"\0" if framing is Framing.INDETERMINATE_LENGTH else b""))
    for size in range(len(message)):
        if size in (headers, body, content):
            decoded = decode_request(message[:size])
            assert decoded.headers == (() if size == headers else FIELDS)
            assert decoded.body == (b"content" if size == content else b"")
            assert decoded.trailers == ()
        else:
            with refused("bhttp-truncated"):
                decode_request(message[:size])


@pytest.mark.parametrize("framing", Framing)
def test_every_truncation_of_a_response(framing):
    message = encode_response(RESPONSE, framing=framing)
    accepted = []
    for size in range(len(message)):
        try:
            accepted.append(decode_response(message[:size]))
        except CodecError as error:
            if error.code != "bhttp-truncated":
                raise
    # No informational response alone is a message.
    assert [(len(r.informational), len(r.headers), len(r.body)) for r in accepted] == [
        (1, 0, 0),
        (1, 2, 0),
        (1, 2, 7),
    ]


@pytest.mark.parametrize("framing", Framing)
def test_only_zero_bytes_may_follow(refused, framing):
    message = encode_request(REQUEST, framing=framing)
    assert decode_request(message + bytes(1000)) == REQUEST
    for tail in (b"\x01", bytes(1000) + b"\x01", b"\x01" + bytes(1000), b"\xff"):
        with refused("bhttp-trailing-bytes"):
            decode_request(message + tail)
    with refused("bhttp-trailing-bytes"):
        decode_response(encode_response(RESPONSE, framing=framing) + b"\0\x01")


@pytest.mark.parametrize(
    ("decode", "indicator"),
    [
        (decode_request, 1),
        (decode_request, 3),
        (decode_request, 4),
        (decode_response, 0),
        (decode_response, 2),
    ],
)
def test_another_framing_is_refused(refused, decode, indicator):
    with refused("bhttp-framing-unknown"):
        decode(bytes((indicator,)) + TARGET)


def test_an_empty_message_is_refused(refused):
    with refused("bhttp-truncated"):
        decode_request(b"")
    with refused("bhttp-truncated"):
        decode_response(b"")


def test_longer_forms_of_numbers_are_read():
    message = b"\x40\x00" + b"\x40\x04POST\x05https\x00\x01/" + b"\x40\x03" + b"\x40\x01a\x00" + b"\x40\x01b"
    with_known_length = decode_request(message.replace(b"\x40\x03", b"\x40\x04"))
    assert with_known_length == Request(b"POST", b"https", b"", b"/", ((b"a", b""),), b"b")
    terminated = decode_request(
        b"\x02" + TARGET + b"\x01a\x00" + b"\x40\x00" + b"\x80\0\0\0" + b"\xc0" + bytes(7)
    )
    assert terminated == Request(b"POST", b"https", b"", b"/", ((b"a", b""),))


@pytest.mark.parametrize("status", [0, 99, 600, 16383, 2**40])
def test_a_status_out_of_range_is_refused(refused, status):
    with refused("bhttp-control-invalid", "status"):
        decode_response(b"\x01" + encode_varint(status))


def test_invalid_control_data_is_refused(refused):
    with refused("bhttp-control-invalid", "method"):
        decode_request(b"\x00\x00\x05https\x00\x01/")
    with refused("bhttp-control-invalid", "path"):
        decode_request(b"\x00\x04POST\x05https\x00\x00")


@pytest.mark.parametrize("indicator", [0, 2])
@pytest.mark.parametrize("field", [(b"a b", b""), (b"a", b"b\0"), (b":path", b"/"), (b"a", b" b")])
def test_an_invalid_field_is_refused_in_headers_and_trailers(refused, indicator, field):
    start = bytes((indicator,)) + TARGET
    with refused("bhttp-field-invalid"):
        decode_request(start + section(indicator, field))
    with refused("bhttp-field-invalid"):
        decode_request(start + section(indicator) + b"\0" + section(indicator, field))


@pytest.mark.parametrize("zero", [b"\0", b"\x40\0"])
def test_an_empty_name_is_refused_in_a_section_of_known_length(refused, zero):
    for fields in (zero + b"\x01v", lines((b"a", b"b")) + zero + b"\x01v", zero):
        with refused("bhttp-field-invalid", "empty field name"):
            decode_request(b"\0" + TARGET + string(fields))


def test_a_field_line_does_not_reach_past_its_section(refused):
    # The section has three bytes, but its only line needs four; the message itself is long enough.
    with refused("bhttp-truncated", "field line"):
        decode_request(b"\0" + TARGET + b"\x03\x01a\x02" + b"bcdefgh")
    with refused("bhttp-truncated", "number"):
        decode_request(b"\0" + TARGET + b"\x02\x01a" + b"\x01bcdefgh")


def test_several_chunks_are_joined():
    chunks = b"\x03abc\x01d\x02ef\0"
    assert decode_request(b"\x02" + TARGET + b"\0" + chunks).body == b"abcdef"
    trailer = section(2, (b"t", b"1"))
    assert decode_request(b"\x02" + TARGET + b"\0" + chunks + trailer).trailers == ((b"t", b"1"),)


def test_content_ends_with_its_terminator(refused):
    with refused("bhttp-truncated"):
        decode_request(b"\x02" + TARGET + b"\0" + b"\x03abc")
    with refused("bhttp-truncated"):
        decode_request(b"\x02" + TARGET + b"\0" + b"\x03ab")


def test_lengths_near_2_62_are_refused_at_once(refused):
    huge = b"\xff" * 8
    with refused("bhttp-limit", "control data"):
        decode_request(b"\0" + huge)
    with refused("bhttp-limit", "field section"):
        decode_request(b"\0" + TARGET + huge)
    with refused("bhttp-truncated"):
        decode_request(b"\0" + TARGET + b"\0" + huge)
    with refused("bhttp-truncated"):
        decode_request(b"\2" + TARGET + huge)
    with refused("bhttp-truncated"):
        decode_request(b"\2" + TARGET + b"\x01a" + huge)
    with refused("bhttp-truncated"):
        decode_request(b"\2" + TARGET + b"\0" + huge)


@pytest.mark.parametrize("framing", Framing)
def test_the_bound_of_the_message_is_exact_and_includes_padding(refused, framing):
    message = encode_request(REQUEST, framing=framing)
    assert decode_request(message, Limits(message=len(message))) == REQUEST
    with refused("bhttp-limit", "message"):
        decode_request(message + b"\0", Limits(message=len(message)))


def test_the_bound_of_control_data_is_exact(refused):
    assert decode_request(b"\0" + TARGET, Limits(control=5)).scheme == b"https"
    with refused("bhttp-limit", "control data"):
        decode_request(b"\0" + TARGET, Limits(control=4))


@pytest.mark.parametrize("framing", Framing)
def test_the_bound_of_a_field_section_is_exact(refused, framing):
    size = len(lines(*FIELDS))
    for message in (
        encode_request(Request(b"POST", b"https", b"", b"/", FIELDS), framing=framing),
        encode_request(Request(b"POST", b"https", b"", b"/", trailers=FIELDS), framing=framing),
    ):
        decoded = decode_request(message, Limits(header_section=size))
        assert decoded.headers + decoded.trailers == FIELDS
        with refused("bhttp-limit", "field section"):
            decode_request(message, Limits(header_section=size - 1))


@pytest.mark.parametrize("framing", Framing)
def test_the_bound_of_field_lines_is_exact(refused, framing):
    message = encode_request(Request(b"POST", b"https", b"", b"/", FIELDS), framing=framing)
    assert decode_request(message, Limits(fields=2)).headers == FIELDS
    with refused("bhttp-limit", "field lines"):
        decode_request(message, Limits(fields=1))


@pytest.mark.parametrize("framing", Framing)
def test_the_bound_of_informational_responses_is_exact(refused, framing):
    response = Response(200, informational=(Informational(100),) * 3)
    message = encode_response(response, framing=framing)
    assert decode_response(message, Limits(informational=3)) == response
    with refused("bhttp-limit", "informational"):
        decode_response(message, Limits(informational=2))


def test_the_bound_of_chunks_is_exact(refused):
    message = b"\x02" + TARGET + b"\0" + b"\x01a" * 3 + b"\0"
    assert decode_request(message, Limits(chunks=3)).body == b"aaa"
    with refused("bhttp-limit", "chunks"):
        decode_request(message, Limits(chunks=2))


def test_the_default_bounds_hold(refused):
    assert Limits().message == 64 << 20
    with refused("bhttp-limit", "field lines"):
        decode_request(b"\0" + TARGET + section(0, *[(b"a", b"")] * 129))
    with refused("bhttp-limit", "chunks"):
        decode_request(b"\x02" + TARGET + b"\0" + b"\x01a" * 20_000)


def test_errors_do_not_show_content():
    message = encode_request(Request(b"POST", b"https", b"", b"/", body=b"hunter2"))
    for broken in (
        message + b"hunter2",
        message.replace(b"\x01/", b"\x07hunter2"),
        message[:-9] + b"\x0ehunter2",
    ):
        with pytest.raises(Exception, match="bhttp-") as caught:
            decode_request(broken)
        assert "hunter2" not in str(caught.value)


# --- 20,000 mutants of each parser ------------------------------------------------------------------------

NAMES = [b"a", b"content-type", b"", b":path", b"a b", b"\x80", b"A", b"x" * 300]
VALUES = [b"", b"v", b" v", b"v\t", b"\0", b"a\nb", b"\xff", b"v" * 300]


def random_fields(rng: random.Random, indicator: int) -> list[tuple[bytes, bytes]]:
    def pick(items: list[bytes]) -> bytes:
        return items[rng.randrange(len(items) if rng.random() < 0.1 else 2)]

    fields = [(pick(NAMES), pick(VALUES)) for _ in range(rng.choice([0, 1, 2, 3, 5, 6]))]
    # An empty name would end a section of indeterminate length.
    return [(name or b":", value) for name, value in fields] if indicator >= 2 else fields


def random_sections(rng: random.Random, indicator: int) -> bytes:
    body = rng.randbytes(rng.choice([0, 1, 63, 64, 300]))
    if indicator >= 2:
        half = len(body) // 2
        chunks = [body] if rng.random() < 0.5 else [body[:half], body[half:]]
        content = b"".join(string(chunk) for chunk in chunks if chunk) + b"\0"
    else:
        content = string(body)
    parts = [
        section(indicator, *random_fields(rng, indicator)),
        content,
        section(indicator, *random_fields(rng, indicator)),
    ]
    keep = rng.choice([3, 3, 3, 2, 1, 0])
    tail = rng.choice([b"", b"", bytes(5), b"\0\x01", b"x"] if keep == 3 else [b"", bytes(5)])
    return b"".join(parts[:keep]) + tail


def random_request(rng: random.Random) -> bytes:
    """A request whose outer lengths all fit; what is inside them may be wrong."""
    indicator = rng.choice([0, 2])
    pick = rng.random
    target = [
        rng.choice([b"", b"G T", b"CONNECT", b"\xff"]) if pick() < 0.05 else b"POST",
        rng.choice([b"", b"1", b"ht tp"]) if pick() < 0.05 else b"https",
        rng.choice([b"a@b", b"a b", b"\0"]) if pick() < 0.05 else b"example.com",
        rng.choice([b"", b"*", b"a", b"/ ", b"/#"]) if pick() < 0.05 else b"/v2/models/m/infer",
    ]
    return bytes((indicator,)) + b"".join(map(string, target)) + random_sections(rng, indicator)


def random_response(rng: random.Random) -> bytes:
    """A response whose outer lengths all fit; what is inside them may be wrong."""
    indicator = rng.choice([1, 3])
    message = bytes((indicator,))
    for _ in range(rng.choice([0, 0, 0, 1, 2, 5])):
        message += encode_varint(rng.randrange(100, 200)) + section(indicator, *random_fields(rng, indicator))
    status = rng.choice([0, 99, 600, 2**30]) if rng.random() < 0.1 else rng.randrange(200, 600)
    return message + encode_varint(status) + random_sections(rng, indicator)


def flip(rng: random.Random, message: bytes) -> bytes:
    mutant = bytearray(message)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(mutant))
        if rng.random() < 0.5:
            mutant[place] = rng.choice([0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256)])
        else:
            del mutant[place : place + rng.randrange(1, 20)]
            mutant = mutant or bytearray(1)
    return bytes(mutant)


@pytest.mark.parametrize(
    ("decode", "encode", "make"),
    [
        (decode_request, encode_request, random_request),
        (decode_response, encode_response, random_response),
    ],
)
def test_20000_mutants(drive, decode, encode, make):
    rng = random.Random(3)
    limits = Limits(fields=5, header_section=600, informational=4, control=64)

    def check(message):
        value = decode(message, limits)
        assert decode(encode(value)) == value

    # Structure-aware mutants pass the outer frame: none is refused for its framing or as truncated.
    framed = drive(check, ((make(rng),) for _ in range(12_000)))
    assert framed.total() == 12_000
    assert framed["bhttp-framing-unknown"] == framed["bhttp-truncated"] == 0
    for code in ("ok", "bhttp-field-invalid", "bhttp-control-invalid", "bhttp-limit", "bhttp-trailing-bytes"):
        assert framed[code] >= 300, framed

    flipped = drive(check, ((flip(rng, make(rng)),) for _ in range(8_000)))
    assert flipped.total() == 8_000
    assert flipped["ok"] >= 100, flipped
    assert flipped["bhttp-truncated"] >= 300, flipped
    assert flipped["bhttp-framing-unknown"] >= 30, flipped
