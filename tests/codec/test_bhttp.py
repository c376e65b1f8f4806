from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.codec.bhttp import (
    Framing,
    Informational,
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

KNOWN, INDETERMINATE = Framing.KNOWN_LENGTH, Framing.INDETERMINATE_LENGTH

# RFC 9292, section 5.1
HELLO = Request(
    b"GET",
    b"https",
    b"",
    b"/hello.txt",
    (
        (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
        (b"host", b"www.example.com"),
        (b"accept-language", b"en, mi"),
    ),
)
HELLO_KNOWN = bytes.fromhex(
    "0003474554056874747073000a2f6865 6c6c6f2e747874406c0a757365722d61"
    "67656e74346375726c2f372e31362e33 206c69626375726c2f372e31362e3320"
    "4f70656e53534c2f302e392e376c207a 6c69622f312e322e3304686f73740f77"
    "77772e6578616d706c652e636f6d0f61 63636570742d6c616e67756167650665"
    "6e2c206d690000"
)
HELLO_INDETERMINATE = bytes.fromhex(
    "0203474554056874747073000a2f6865 6c6c6f2e7478740a757365722d616765"
    "6e74346375726c2f372e31362e33206c 69626375726c2f372e31362e33204f70"
    "656e53534c2f302e392e376c207a6c69 622f312e322e3304686f73740f777777"
    "2e6578616d706c652e636f6d0f616363 6570742d6c616e677561676506656e2c"
    "206d6900000000000000000000000000"
)

# RFC 9292, section 5.2
APACHE = Response(
    200,
    (
        (b"date", b"Mon, 27 Jul 2009 12:28:53 GMT"),
        (b"server", b"Apache"),
        (b"last-modified", b"Wed, 22 Jul 2009 19:15:56 GMT"),
        (b"etag", b'"34aa387-d-1568eb00"'),
        (b"accept-ranges", b"bytes"),
        (b"content-length", b"51"),
        (b"vary", b"Accept-Encoding"),
        (b"content-type", b"text/plain"),
    ),
    b"Hello World! My content includes a trailing CRLF.\r\n",
    informational=(
        Informational(102, ((b"running", b'"sleep 15"'),)),
        Informational(
            103,
            (
                (b"link", b"</style.css>; rel=preload; as=style"),
                (b"link", b"</script.js>; rel=preload; as=script"),
            ),
        ),
    ),
)
APACHE_INDETERMINATE = bytes.fromhex(
    "0340660772756e6e696e670a22736c65 657020313522004067046c696e6b233c"
    "2f7374796c652e6373733e3b2072656c 3d7072656c6f61643b2061733d737479"
    "6c65046c696e6b243c2f736372697074 2e6a733e3b2072656c3d7072656c6f61"
    "643b2061733d7363726970740040c804 646174651d4d6f6e2c203237204a756c"
    "20323030392031323a32383a35332047 4d540673657276657206417061636865"
    "0d6c6173742d6d6f6469666965641d57 65642c203232204a756c203230303920"
    "31393a31353a353620474d5404657461 671422333461613338372d642d313536"
    "3865623030220d6163636570742d7261 6e6765730562797465730e636f6e7465"
    "6e742d6c656e67746802353104766172 790f4163636570742d456e636f64696e"
    "670c636f6e74656e742d747970650a74 6578742f706c61696e003348656c6c6f"
    "20576f726c6421204d7920636f6e7465 6e7420696e636c756465732061207472"
    "61696c696e672043524c462e0d0a0000"
)
TRAILER = Response(200, (), b"This content contains CRLF.\r\n", ((b"trailer", b"text"),))
TRAILER_KNOWN = bytes.fromhex(
    "0140c8001d5468697320636f6e74656e 7420636f6e7461696e732043524c462e0d0a0d07747261696c65720474657874"
)

TOKENS = st.text("!#$%&'*+-.^_`|~0123456789abcxyzABCXYZ", min_size=1, max_size=12).map(str.encode)
FIELD_VALUES = (
    st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\0\r\n")).map(lambda raw: raw.strip(b" \t"))
)
FIELDS = st.lists(st.tuples(TOKENS, FIELD_VALUES), max_size=5).map(tuple)
BODIES = st.binary(max_size=200) | st.integers(16_000, 17_000).map(bytes)
REQUESTS = st.builds(
    Request,
    TOKENS.filter(lambda method: method != b"CONNECT"),
    st.sampled_from([b"http", b"https", b"a+b-c.9"]),
    st.sampled_from([b"", b"example.com", b"[::1]:8080", b"xn--tda.example:443"]),
    st.text("/abc?=&%20", max_size=80).map(lambda path: b"/" + path.encode()),
    FIELDS,
    BODIES,
    FIELDS,
)
RESPONSES = st.builds(
    Response,
    st.integers(200, 599),
    FIELDS,
    BODIES,
    FIELDS,
    st.lists(st.builds(Informational, st.integers(100, 199), FIELDS), max_size=3).map(tuple),
)
FRAMINGS = st.sampled_from(Framing)


def test_request_of_rfc_9292_with_known_length():
    assert decode_request(HELLO_KNOWN) == HELLO
    assert encode_request(HELLO) == HELLO_KNOWN


def test_request_of_rfc_9292_with_indeterminate_length():
    assert decode_request(HELLO_INDETERMINATE) == HELLO
    # "This indeterminate-length encoding contains 10 bytes of padding."
    assert encode_request(HELLO, framing=INDETERMINATE) + bytes(10) == HELLO_INDETERMINATE


def test_request_of_rfc_9292_may_lose_what_the_rfc_says(refused):
    for size in range(1, 3):
        assert decode_request(HELLO_KNOWN[:-size]) == HELLO
    with refused("bhttp-truncated"):
        decode_request(HELLO_KNOWN[:-3])
    # "anything up to 12 bytes can be removed from this message without affecting its meaning"
    for size in range(1, 13):
        assert decode_request(HELLO_INDETERMINATE[:-size]) == HELLO
    with refused("bhttp-truncated", "field section"):
        decode_request(HELLO_INDETERMINATE[:-13])


def test_response_of_rfc_9292_with_informational_responses():
    assert decode_response(APACHE_INDETERMINATE) == APACHE
    assert encode_response(APACHE, framing=INDETERMINATE) == APACHE_INDETERMINATE


def test_response_of_rfc_9292_with_a_trailer():
    assert decode_response(TRAILER_KNOWN) == TRAILER
    assert encode_response(TRAILER) == TRAILER_KNOWN


@pytest.mark.parametrize("file", ["rfc9458.json", "chunked-ohttp.json"])
def test_messages_of_the_ohttp_vectors(testdata, file):
    # These leave out the empty header section too (RFC 9292, section 3.1 allows it).
    vector = json.loads((testdata / "vectors" / "ohttp" / file).read_text())
    request = Request(b"GET", b"https", b"example.com", b"/")
    assert decode_request(bytes.fromhex(vector["request_bhttp"])) == request
    assert decode_response(bytes.fromhex(vector["response_bhttp"])) == Response(200)
    assert encode_request(request) == bytes.fromhex(vector["request_bhttp"]) + bytes(3)
    assert encode_response(Response(200)) == bytes.fromhex(vector["response_bhttp"]) + bytes(3)


@given(REQUESTS, FRAMINGS, st.integers(0, 20))
def test_requests_round_trip(request_, framing, padding):
    message = encode_request(request_, framing=framing)
    assert decode_request(message) == request_
    assert decode_request(message + bytes(padding)) == request_
    assert decode_request(memoryview(bytearray(message))) == request_


@given(RESPONSES, FRAMINGS, st.integers(0, 20))
def test_responses_round_trip(response, framing, padding):
    message = encode_response(response, framing=framing)
    assert decode_response(message) == response
    assert decode_response(message + bytes(padding)) == response


@given(REQUESTS)
def test_both_framings_mean_the_same(request_):
    known, indeterminate = (encode_request(request_, framing=framing) for framing in Framing)
    assert (known[0], indeterminate[0]) == (0, 2)
    assert decode_request(known) == decode_request(indeterminate)


def test_a_body_may_be_a_view():
    body = memoryview(b"xbody")[1:]
    assert encode_response(Response(200, body=body)) == encode_response(Response(200, body=b"body"))
    view = memoryview(bytearray(8)).cast("I")  # lengths are bytes, not items
    assert decode_response(encode_response(Response(200, body=view))).body == bytes(8)


@pytest.mark.parametrize("framing", Framing)
def test_a_decoded_body_is_no_copy(framing):
    message = encode_request(Request(b"POST", b"https", b"", b"/", body=b"x" * 1000), framing=framing)
    body = decode_request(message).body
    assert isinstance(body, memoryview)
    assert body.obj is message
    assert body.readonly


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (Request(b"", b"https", b"", b"/"), "method"),
        (Request(b"GE T", b"https", b"", b"/"), "method"),
        (Request(b"GET", b"", b"", b"/"), "scheme"),
        (Request(b"GET", b"https", b"a b", b"/"), "authority"),
        (Request(b"GET", b"https", b"", b""), "path"),
    ],
)
def test_an_invalid_target_is_not_encoded(refused, request_, detail):
    with refused("bhttp-control-invalid", detail):
        encode_request(request_)


@pytest.mark.parametrize(
    "response",
    [Response(199), Response(600), Response(200, informational=(Informational(200),)), Response(-1)],
)
def test_an_invalid_status_is_not_encoded(refused, response):
    with refused("bhttp-control-invalid", "status"):
        encode_response(response)


@pytest.mark.parametrize(
    "response",
    [
        Response(200, headers=((b"a b", b""),)),
        Response(200, trailers=((b"a", b"b\n"),)),
        Response(200, informational=(Informational(103, ((b":status", b"103"),)),)),
    ],
)
def test_an_invalid_field_is_not_encoded(refused, response):
    with refused("bhttp-field-invalid"):
        encode_response(response)
