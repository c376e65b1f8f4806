from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec._bhttp_message import check_fields, check_status, check_target, header
from strongroom.errors import CodecError

HEADERS = ((b"Content-Type", b"text/plain"), (b"link", b"<a>"), (b"LINK", b"<b>"))


def test_a_header_is_found_in_any_case():
    assert header(HEADERS, b"content-type") == b"text/plain"
    assert header(HEADERS, b"CONTENT-TYPE") == b"text/plain"
    assert header(HEADERS, b"content-typ") is None
    assert header((), b"a") is None


def test_a_repeated_header_is_refused(refused):
    with refused("field-repeated", "link"):
        header(HEADERS, b"Link")


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b" ",
        b"a b",
        b":method",
        b":path",
        b"a:",
        b"a\0",
        b"\x80",
        b"a\r\nb",
        b"a(",
        b'"',
        b"a,b",
        b"/",
        b"@",
    ],
)
def test_invalid_names(refused, name):
    with refused("bhttp-field-invalid", "name"):
        check_fields(((b"fine", b""), (name, b"")))


@pytest.mark.parametrize("value", [b"\0", b"a\0b", b"a\r", b"\rb", b"a\nb", b"\n", b"a\r\nb: c"])
def test_control_characters_in_values(refused, value):
    with refused("bhttp-field-invalid", "control character"):
        check_fields(((b"a", b"b"), (b"c", value)))


@pytest.mark.parametrize("value", [b" ", b"\t", b" a", b"\ta", b"a ", b"a\t"])
def test_white_space_around_values(refused, value):
    with refused("bhttp-field-invalid", "white space"):
        check_fields(((b"c", value), (b"a", b"b")))


@pytest.mark.parametrize("value", [b"", b"a", b"a b\tc", b"\x80\xff", b"\x01\x7f", b'"quoted , "'])
def test_valid_values(value):
    check_fields(((b"a", value), (b"A", value)))
    assert header(((b"a", value),), b"a") == value


@given(st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=4)), max_size=4).map(tuple))
def test_a_section_is_valid_if_and_only_if_each_field_is(fields):
    def valid(section) -> bool:
        try:
            check_fields(section)
        except CodecError:
            return False
        return True

    assert valid(fields) == all(valid((field,)) for field in fields)


@pytest.mark.parametrize(
    "target",
    [
        (b"GET", b"https", b"example.com", b"/"),
        (b"GET", b"https", b"example.com:8443", b"/a/b?c=%20&d='(x)'"),
        (b"M-SEARCH", b"coap+tcp", b"[2001:db8::1]", b"//"),
        (b"OPTIONS", b"https", b"example.com", b"*"),
        (b"CONNECT", b"", b"example.com:443", b""),
    ],
)
def test_valid_targets(target):
    check_target(*target)
    assert len(target) == 4


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ((b"", b"https", b"", b"/"), "method"),
        ((b"GET\n", b"https", b"", b"/"), "method"),
        ((b"GET", b"https", b"a\0", b"/"), "authority"),
        ((b"GET", b"https", b"user@host", b"/"), "authority"),
        ((b"GET", b"https", b"host/path", b"/"), "authority"),
        ((b"GET", b"https", b"host?", b"/"), "authority"),
        ((b"GET", b"https", b"\x80", b"/"), "authority"),
        ((b"GET", b"", b"", b"/"), "scheme"),
        ((b"GET", b"1http", b"", b"/"), "scheme"),
        ((b"GET", b"http:", b"", b"/"), "scheme"),
        ((b"GET", b"https", b"", b""), "path"),
        ((b"GET", b"https", b"", b"a"), "path"),
        ((b"GET", b"https", b"", b"*"), "path"),
        ((b"GET", b"https", b"", b"/a#b"), "path"),
        ((b"GET", b"https", b"", b"/a b"), "path"),
        ((b"GET", b"https", b"", b"/\xc3\xa9"), "path"),
        ((b"GET", b"https", b"", b"/\n"), "path"),
        ((b"CONNECT", b"https", b"host:1", b""), "CONNECT"),
        ((b"CONNECT", b"", b"host:1", b"/"), "CONNECT"),
        ((b"CONNECT", b"", b"", b""), "CONNECT"),
    ],
)
def test_invalid_targets(refused, target, detail):
    with refused("bhttp-control-invalid", detail):
        check_target(*target)


@pytest.mark.parametrize(("status", "informational"), [(200, False), (599, False), (100, True), (199, True)])
def test_valid_statuses(status, informational):
    assert check_status(status, informational=informational) is None


@pytest.mark.parametrize(("status", "informational"), [(199, False), (600, False), (99, True), (200, True)])
def test_invalid_statuses(refused, status, informational):
    with refused("bhttp-control-invalid", "status"):
        check_status(status, informational=informational)
