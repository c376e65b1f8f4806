"""Clients by URL: `unix:///path`, `redis://host:port/db`, `rediss://host:port/db` with mutual TLS."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from strongroom.config import TlsFiles
from strongroom.errors import ConfigError, QueueError
from strongroom.queue.client import Client, Target
from strongroom.queue.errors import QUEUE_TLS_FAILED, QUEUE_URL_INVALID

_MAX_URL: Final = 4096
_MAX_DATABASE: Final = 1023


def connect(url: str, *, tls: TlsFiles | None = None, timeout: float = 5.0) -> Client:
    """A client of the server that a URL names. It connects at its first command.

    Args:
        url: `unix:///path/to.sock[?db=N]`, `redis://[user:password@]host[:port][/db]` or `rediss://...`. User
            and password are percent-encoded where needed.
        tls: PEM files; needed for `rediss://`, refused for all else. The server's certificate is checked
            against `ca` and the URL's host name, TLS 1.2 or later.
        timeout: Seconds for a connection attempt, and for the answer to a command.

    Raises:
        ConfigError: `queue-url-invalid`.
        QueueError: `queue-tls-failed`: the PEM files cannot be used.
    """
    return Client(parse_url(url, tls=tls), timeout=timeout)


def parse_url(url: str, *, tls: TlsFiles | None = None) -> Target:
    """The server that a URL names.

    Raises:
        ConfigError: `queue-url-invalid`. The message never shows the URL, which may hold a password.
        QueueError: `queue-tls-failed`: the PEM files cannot be used.
    """
    if len(url) > _MAX_URL:
        raise ConfigError(QUEUE_URL_INVALID, "too long")
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        port = parts.port or 6379
    except ValueError:
        raise ConfigError(QUEUE_URL_INVALID, "it cannot be taken apart") from None
    if parts.fragment or (user and not password):
        raise ConfigError(QUEUE_URL_INVALID, "a fragment, or a user without password")
    if (parts.scheme == "rediss") != (tls is not None):
        raise ConfigError(QUEUE_URL_INVALID, "rediss:// needs TLS files and nothing else takes them")
    if parts.scheme == "unix":
        return Target(
            path=_socket_path(parts), database=_database(_query_db(parts)), user=user, password=password
        )
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.query:
        raise ConfigError(QUEUE_URL_INVALID, "scheme, host or query")
    return Target(
        host=parts.hostname,
        port=port,
        database=_database(parts.path.removeprefix("/")),
        user=user,
        password=password,
        tls=None if tls is None else tls_context(tls),
    )


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS settings of a client with a certificate of its own, which trusts one CA and no other.

    Raises:
        QueueError: `queue-tls-failed`.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise QueueError(QUEUE_TLS_FAILED, "unusable PEM files", found=type(error).__name__) from None
    return context


def _no_password() -> str:
    """Stands in for OpenSSL's question at the terminal."""
    raise ValueError("the private key is encrypted")


def _socket_path(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if parts.hostname or not path.startswith("/") or "\0" in path:
        raise ConfigError(QUEUE_URL_INVALID, "unix:// takes an absolute path: unix:///path/to.sock")
    return path


def _query_db(parts: SplitResult) -> str:
    if not parts.query:
        return ""
    query = parse_qs(parts.query)
    if set(query) != {"db"} or len(query["db"]) != 1:
        raise ConfigError(QUEUE_URL_INVALID, "only db=N may stand after the question mark")
    return query["db"][0]


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) > _MAX_DATABASE:
        raise ConfigError(QUEUE_URL_INVALID, "number of the database", expected=f"0 to {_MAX_DATABASE}")
    return int(text)
