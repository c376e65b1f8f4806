"""Administration of a broker elsewhere, over TLS.

with AdminClient("https://broker.example:8472", ca=..., certificate=..., key=...) as client:
    client.perform(ListRequest())
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from strongroom.broker import admin_requests
from strongroom.broker.admin_errors import ADMIN_ANSWER, ADMIN_REQUEST, ADMIN_UNREACHABLE
from strongroom.broker.admin_requests import AnyRequest
from strongroom.errors import BrokerError, UnreachableError, registered

MAX_ANSWER: Final = 4 * 1024 * 1024
ADMIN_PATH: Final = "/strongroom/v1/admin"
_TIMEOUT: Final = 30.0


class AdminClient:
    """Sends requests as one principal.

    Args:
        url: `https://host:port`.
        ca: PEM file with the authority of the broker's certificate; by default the system's.
        certificate: PEM file with one's own certificate.
        key: PEM file with its key.
        token: Bearer token, in place of a certificate.
        timeout: Seconds for each step on the network.

    Raises:
        BrokerError: `admin-request-invalid`: no such URL or files.
    """

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        token: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        if not url.startswith("https://"):
            raise BrokerError(ADMIN_REQUEST, "URL of the administration", found=url, expected="https://...")
        try:
            context = ssl.create_default_context(cafile=ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise BrokerError(ADMIN_REQUEST, f"certificates: {reason}") from None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._url = url.rstrip("/") + ADMIN_PATH
        self._http = httpx.Client(verify=context, headers=headers, timeout=timeout, follow_redirects=False)

    def perform(self, request: AnyRequest) -> dict[str, Any]:
        """Send a request.

        Returns:
            The answer, as JSON members.

        Raises:
            BrokerError: The code that the broker answered; `admin-answer-invalid`.
            UnreachableError: `admin-unreachable`.
        """
        try:
            with self._http.stream("POST", self._url, content=admin_requests.render(request)) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise BrokerError(ADMIN_ANSWER, expected=f"at most {MAX_ANSWER} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(ADMIN_UNREACHABLE, str(error) or type(error).__name__) from None
        members = _members(bytes(body))
        if response.status_code == httpx.codes.OK:
            return members
        kind = registered().get(str(members.get("code")))
        if kind is None:
            raise BrokerError(ADMIN_ANSWER, found=f"HTTP {response.status_code}")
        raise BrokerError(
            kind,
            str(members.get("detail", "")),
            found=members.get("found"),
            expected=members.get("expected"),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _members(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BrokerError(ADMIN_ANSWER, expected="a JSON object")
    return value
