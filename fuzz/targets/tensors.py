"""The Open Inference Protocol: requests and answers with tensors in JSON and in binary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.material import Material
from fuzz.target import MAX_INPUT, Parser, join, split
from strongroom.codec import jcs
from strongroom.codec._oip_wire import parse_header_length
from strongroom.codec.oip import ModelMetadata, decode_infer_request, decode_infer_response

_BINARY: Final = (
    b'{"inputs":[{"name":"i","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}],'
    b'"outputs":[{"name":"o","parameters":{"binary_data":true}}],"parameters":{"binary_data_output":true}}'
)
_TEXTS: Final = (
    b'{"inputs":[{"name":"i","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":13}}]}'
)
_JSON: Final = (
    b'{"id":"7","inputs":[{"name":"a","datatype":"INT64","shape":[2,2],"data":[[1,2],[3,4]]},'
    b'{"name":"b","datatype":"BYTES","shape":[1],"data":["text"]},'
    b'{"name":"c","datatype":"BOOL","shape":[0],"data":[]}]}'
)
_FP16: Final = b'{"inputs":[{"name":"a","datatype":"%s","shape":[4],"data":[0.5,-1,1e3,65504]}]}'
_RESPONSE: Final = (
    b'{"model_name":"m","outputs":[{"name":"o","datatype":"UINT8","shape":[4],'
    b'"parameters":{"binary_data_size":4}}]}'
)
_METADATA: Final = (
    b'{"name":"m","versions":["1"],"platform":"openvino","inputs":[{"name":"i","datatype":"FP32",'
    b'"shape":[-1,3]}],"outputs":[]}'
)


def _length(text: bytes) -> int | None:
    return parse_header_length(text or None)


def _request(data: bytes) -> None:
    length, body = split(data, 2)
    decode_infer_request(body, _length(length))


def _response(data: bytes) -> None:
    length, body = split(data, 2)
    decode_infer_response(body, _length(length))


def _metadata(data: bytes) -> None:
    ModelMetadata.from_json(jcs.parse(data, limit=MAX_INPUT))


def _requests(_: Material) -> Iterator[bytes]:
    yield join(b"%d" % len(_BINARY), _BINARY + bytes(8))
    yield join(b"%d" % len(_TEXTS), _TEXTS + b"\x04\0\0\0text\x01\0\0\0x")
    yield join(b"", _JSON)
    yield from (join(b"", _FP16 % kind) for kind in (b"FP16", b"FP32", b"FP64", b"BF16"))
    many = b",".join(b'{"name":"%d","datatype":"INT8","shape":[1],"data":[1]}' % n for n in range(600))
    yield join(b"", b'{"inputs":[' + many + b"]}")
    nested = b"[" * 30 + b"1" + b"]" * 30
    yield join(b"", b'{"inputs":[{"name":"a","datatype":"INT8","shape":[1],"data":' + nested + b"}]}")
    values = b",".join([b"[1]"] * 14_000)
    yield join(b"", b'{"inputs":[{"name":"a","datatype":"INT8","shape":[14000,1],"data":[' + values + b"]}]}")
    texts = b",".join([b'"a"'] * 14_000)
    yield join(b"", b'{"inputs":[{"name":"a","datatype":"BYTES","shape":[14000],"data":[' + texts + b"]}]}")


def _responses(_: Material) -> Iterator[bytes]:
    yield join(b"%d" % len(_RESPONSE), _RESPONSE + bytes(4))
    yield join(b"", _JSON.replace(b'"inputs"', b'"model_name":"m","outputs"'))


def _descriptions(_: Material) -> Iterator[bytes]:
    yield _METADATA


PARSERS: Final = (
    Parser("inference request", _request, _requests),
    Parser("inference response", _response, _responses),
    Parser("metadata of a model", _metadata, _descriptions),
)
