"""The client of the key broker, as a worker uses it. Only the standard library's HTTP: it is enclave code.

    client = KbsClient("http://127.0.0.1:8471", "sgx", quoter.quote, timeout=10.0)
    client.attest(init_data)
    epochs = client.service_key("pictures", broker_key)
    model = client.model_key("kbs:///default/model/lite0", broker_key)

The way to the broker is not trusted, nor is whoever answers: what counts is the broker's signature inside
each document (`strongroom.broker.release`). So plain HTTP loses no key; TLS only hides who asks for what.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from strongroom.attestation.evidence import Evidence
from strongroom.broker import messages, onetime
from strongroom.broker.envelope import ANY_TERMS, Terms
from strongroom.broker.errors import BROKER_ANSWER, BROKER_REFUSED, BROKER_UNREACHABLE, TOKEN_MISSING
from strongroom.broker.release import ModelKey, ServiceEpoch, open_model_key, open_service_key
from strongroom.broker.resource import Resource
from strongroom.codec import b64, jcs
from strongroom.crypto.sign import VerifyingKey
from strongroom.errors import BrokerError, CodecError, StrongroomError, UnreachableError, registered

MAX_ANSWER: Final = 1024 * 1024
"""Most bytes that are read of any answer."""

_MAX_DETAIL: Final = 300
_COOKIE: Final = re.compile(rf"{messages.COOKIE}=([0-9A-Za-z._-]{{1,128}})")


class KbsClient:
    """A connection to a key broker. Not for use from several threads at once.

    Args:
        url: `http://host:port` or `https://host:port`, with a path in front if need be.
        tee: Kind of evidence that `quoter` makes, for example `sgx`.
        quoter: Makes evidence for 64 bytes of report data.
        timeout: Seconds for each step on the network.
        ssl_context: For `https`; by default the system's trusted authorities.
        rng: Source of the one-time keys.
        classical: Attest with a P-256 key, for a broker that knows no HPKE release.

    Raises:
        ValueError: `url` is not such a URL.
    """

    def __init__(
        self,
        url: str,
        tee: str,
        quoter: Callable[[bytes], Evidence],
        *,
        timeout: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        rng: Callable[[int], bytes] = os.urandom,
        classical: bool = False,
    ) -> None:
        self._connection, self._prefix = _connection(url, timeout, ssl_context)
        self._url = url
        self._tee = tee
        self._quoter = quoter
        self._rng = rng
        self._cookie: str | None = None
        self._new_key = onetime.ClassicalKey if classical else onetime.HpkeKey
        self._key: onetime.OneTimeKey | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the session and its key are forgotten."""
        self._connection.close()
        self._cookie = self._key = None

    @property
    def recipient(self) -> str:
        """Thumbprint (RFC 7638) of the one-time key of the present attestation.

        Raises:
            BrokerError: `token-missing`, there is none.
        """
        return self._attested().recipient

    def attest(self, init_data: bytes) -> None:
        """Open a new session with a new one-time key: ask for a challenge, and answer it with evidence.

        Args:
            init_data: What the TEE was started with; the evidence must carry its digest.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: `broker-answer-invalid`, or the code with which the broker refused.
        """
        self._cookie = self._key = None
        key = self._new_key(self._rng)
        jwk = key.jwk
        challenge = _members(self._post(messages.AUTH_PATH, messages.auth_body(self._tee)), "nonce")
        nonce = challenge["nonce"]
        self._check_nonce(nonce)
        made = self._quoter(messages.report_data(nonce, jwk))
        evidence = Evidence(made.kind, made.quote, made.collateral, init_data)
        _members(self._post(messages.ATTEST_PATH, messages.attest_body(nonce, jwk, evidence)), "token")
        self._key = key

    def resource(self, path: str) -> bytes:
        """Fetch a resource and decrypt it with the one-time key.

        Args:
            path: `repository/type/tag` or a `kbs:///` URI.

        Returns:
            The resource as the broker stores or makes it. It proves nothing yet: anybody can encrypt to a
            public key. Open it with `strongroom.broker.release`.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: A code `hpke-release-...` or `jwe-...`, `resource-path-invalid`, `token-missing`, or
                the code with which the broker refused.
        """
        key, resource = self._attested(), Resource.parse(path).path
        return key.open(self._request("GET", messages.RESOURCE_PREFIX + resource), resource)

    def service_key(
        self, service: str, broker_key: VerifyingKey, terms: Terms = ANY_TERMS
    ) -> tuple[ServiceEpoch, ...]:
        """Fetch the keys of a service, newest epoch first; check that this broker logged their release to us.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: As `resource` and `open_service_key`.
            CryptoError: As `open_service_key`.
        """
        document = self.resource(Resource.service_key(service).path)
        key = self._attested()
        return open_service_key(
            document, broker_key, key.recipient, service, terms=terms, classical=key.classical
        )

    def model_key(self, resource: str, broker_key: VerifyingKey, terms: Terms = ANY_TERMS) -> ModelKey:
        """Fetch the key of a model; check that this broker logged its release to us.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: As `resource` and `open_model_key`.
            CryptoError: As `open_model_key`.
        """
        return open_model_key(self.resource(resource), broker_key, self.recipient, resource, terms=terms)

    def beacon(self, service: str) -> bytes:
        """A fresh signed beacon, as served; `SignedBeacon.parse(...).verify(broker_key)` checks it.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The code with which the broker refused.
        """
        return self._request("GET", messages.BEACON_PREFIX + _quoted(service))

    def policy(self, service: str) -> bytes:
        """The text of the service's release policy, as served; its digest must be that of the init-data.

        Raises:
            UnreachableError: `broker-unreachable`.
            BrokerError: The code with which the broker refused.
        """
        return self._request("GET", messages.POLICY_PREFIX + _quoted(service))

    def _attested(self) -> onetime.OneTimeKey:
        if self._key is None:
            raise BrokerError(TOKEN_MISSING)
        return self._key

    def _check_nonce(self, nonce: object) -> None:
        try:
            valid = isinstance(nonce, str) and len(b64.decode_std(nonce, limit=64)) == messages.NONCE_BYTES
        except CodecError:
            valid = False
        if not valid or self._cookie is None:
            raise BrokerError(BROKER_ANSWER, "the challenge has no nonce of 32 bytes or no session")

    def _post(self, path: str, body: bytes) -> bytes:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._cookie is not None:
            headers["Cookie"] = f"{messages.COOKIE}={self._cookie}"
        response, data = self._exchange(method, self._prefix + path, body, headers)
        if len(data) > MAX_ANSWER:
            raise BrokerError(BROKER_ANSWER, "answer too large", expected=f"at most {MAX_ANSWER} bytes")
        if response.status != 200:
            raise _refusal(response.status, data)
        cookie = _COOKIE.match(response.getheader("Set-Cookie") or "")
        if cookie is not None:
            self._cookie = cookie.group(1)
        return data

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        reused = self._connection.sock is not None
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            data = response.read(MAX_ANSWER + 1)
            if len(data) > MAX_ANSWER:
                self._connection.close()  # the rest is not wanted
            elif response.length:  # `read` with a bound does not tell of an answer that was cut short
                raise http.client.IncompleteRead(data, response.length)
            return response, data
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            # A server may close an idle connection at any time. All three steps may be sent again: a
            # challenge that nobody answers expires, and the same answer gives the same token.
            if reused and isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                return self._exchange(method, path, body, headers)
            raise UnreachableError(BROKER_UNREACHABLE, f"{self._url}: {type(error).__name__}") from error


def _connection(
    url: str, timeout: float, ssl_context: ssl.SSLContext | None
) -> tuple[http.client.HTTPConnection, str]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("the broker's address is http://host:port or https://host:port")
    prefix = parts.path.rstrip("/")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), prefix
    context = ssl_context or ssl.create_default_context()
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context), prefix


def _quoted(service: str) -> str:
    return urllib.parse.quote(service, safe="")


def _members(data: bytes, name: str) -> dict[str, Any]:
    try:
        members = jcs.parse(data, limit=MAX_ANSWER, what="answer")
    except CodecError as error:
        raise BrokerError(BROKER_ANSWER, str(error)) from error
    if not isinstance(members, dict) or not isinstance(members.get(name), str):
        raise BrokerError(BROKER_ANSWER, f"an answer without {name}")
    return members


def _refusal(status: int, data: bytes) -> StrongroomError:
    """The broker's refusal as an error of ours. Only known codes and printable text pass."""
    try:
        members = jcs.parse(data, limit=MAX_ANSWER, what="answer")
    except CodecError:
        members = None
    if not isinstance(members, dict):
        return BrokerError(BROKER_REFUSED, found=f"HTTP {status}")
    detail = members.get("detail")
    shown = "".join(c for c in detail[:_MAX_DETAIL] if " " <= c <= "~") if isinstance(detail, str) else ""
    code = members.get("code")
    kind = registered().get(code) if isinstance(code, str) else None
    if kind is not None:  # the error says title and code itself
        shown = shown.removesuffix(f" [{kind.code}]").removeprefix(kind.title.rstrip(".")).removeprefix(": ")
    return BrokerError(kind or BROKER_REFUSED, shown, found=f"HTTP {status}")
