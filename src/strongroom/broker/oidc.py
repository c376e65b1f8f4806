"""Bearer tokens of an OpenID Connect issuer: who sent this request?

A token is accepted if it is a JWT signed with a public-key algorithm by a key of the issuer, names the issuer
and this broker's audience, and is in its time (OpenID Connect Core 1.0, section 3.1.3.7; RFC 8725). The keys
are in a file, or fetched from the issuer (OpenID Connect Discovery 1.0), and again when an unknown key signs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from strongroom.broker.admin_errors import ADMIN_UNAUTHENTICATED, OIDC_UNAVAILABLE
from strongroom.broker.principal import Principal
from strongroom.errors import BrokerError

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
MAX_TOKEN: Final = 16 * 1024
MAX_KEYS: Final = 256 * 1024
LEEWAY: Final = 30
"""Seconds that the clocks of broker and issuer may differ."""
MAX_AGE: Final = 24 * 3600
"""Longest life of a token in seconds, from `iat` to `exp`."""

_DISCOVERY: Final = "/.well-known/openid-configuration"
_FRESH: Final = 3600.0
_AGAIN: Final = 60.0
_TIMEOUT: Final = 10.0


class KeySource(Protocol):
    """Where the keys of an issuer come from."""

    def keys(self, *, again: bool = False) -> KeySet:
        """The keys. `again` asks for newer ones than those that were given last.

        Raises:
            BrokerError: `oidc-unavailable`.
        """
        ...


class FileKeys:
    """Keys in a file: a JSON Web Key Set (RFC 7517), read once.

    Raises:
        BrokerError: `oidc-unavailable`.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_KEYS + 1)
        except OSError as error:
            raise BrokerError(OIDC_UNAVAILABLE, f"{path}: {error.strerror}") from None
        self._keys = _key_set(_object(data, str(path)), str(path))

    def keys(self, *, again: bool = False) -> KeySet:  # noqa: ARG002 -- a file has no newer ones
        """The keys."""
        return self._keys


class FetchedKeys:
    """Keys that are fetched from the issuer, kept for an hour, and asked for again once a minute at most.

    Args:
        issuer: Its URL, as tokens name it.
        fetch: Gives the body at a URL, or raises OSError.
        monotonic: A clock, seconds.
    """

    def __init__(self, issuer: str, fetch: Callable[[str], bytes], monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: KeySet | None = None
        self._kept_since = self._asked = float("-inf")

    def keys(self, *, again: bool = False) -> KeySet:
        """The keys.

        Raises:
            BrokerError: `oidc-unavailable`.
        """
        with self._lock:
            now = self._monotonic()
            stale = self._kept is None or now - self._kept_since > _FRESH
            if stale or (again and now - self._asked > _AGAIN):
                self._asked = now  # also where that fails: strangers must not make us ask all the time
                self._kept, self._kept_since = self._load(), now
            assert self._kept is not None  # noqa: S101 -- else it was stale
            return self._kept

    def _load(self) -> KeySet:
        metadata = self._get(self._issuer.rstrip("/") + _DISCOVERY)
        if metadata.get("issuer") != self._issuer:
            raise BrokerError(OIDC_UNAVAILABLE, "the issuer names itself otherwise", expected=self._issuer)
        location = metadata.get("jwks_uri")
        if not isinstance(location, str) or not location.startswith(self._issuer.partition("://")[0] + "://"):
            raise BrokerError(OIDC_UNAVAILABLE, "jwks_uri is missing or less protected than the issuer")
        return _key_set(self._get(location), location)

    def _get(self, url: str) -> dict[str, Any]:
        try:
            return _object(self._fetch(url), url)
        except OSError as error:
            raise BrokerError(OIDC_UNAVAILABLE, f"{url}: {error}") from None


def fetch(url: str, *, timeout: float = _TIMEOUT) -> bytes:
    """The body at a URL of an issuer, at most one byte longer than `MAX_KEYS`. Redirects are not followed.

    Raises:
        OSError: It cannot be had.
    """
    import httpx  # where it is used: a broker without an issuer has no need of it

    try:
        with httpx.stream("GET", url, timeout=timeout, follow_redirects=False) as response:
            if response.status_code != httpx.codes.OK:
                raise OSError(f"HTTP {response.status_code}")
            body = bytearray()
            for chunk in response.iter_bytes(MAX_KEYS):
                body += chunk
                if len(body) > MAX_KEYS:
                    break
            return bytes(body[: MAX_KEYS + 1])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(type(error).__name__) from None


class OidcIssuer:
    """An issuer whose tokens are accepted.

    Args:
        issuer: Its URL, as tokens name it.
        audience: What tokens for this broker name as their audience.
        source: Where its keys come from.
    """

    def __init__(self, issuer: str, audience: str, source: KeySource) -> None:
        self.issuer = issuer
        self._audience = audience
        self._source = source

    def principal(self, token: str, now: float) -> Principal:
        """Who holds the token.

        Raises:
            BrokerError: `admin-unauthenticated`, `oidc-unavailable` or `principal-invalid`.
        """
        if len(token) > MAX_TOKEN:
            raise BrokerError(ADMIN_UNAUTHENTICATED, "the token is too long", expected=f"{MAX_TOKEN} bytes")
        claims = self._claims(token)
        if claims.get("iss") != self.issuer:
            raise BrokerError(ADMIN_UNAUTHENTICATED, "the token is of another issuer", expected=self.issuer)
        self._check_audience(claims)
        _check_time(claims, now)
        subject = claims.get("sub")
        if not isinstance(subject, str):
            raise BrokerError(ADMIN_UNAUTHENTICATED, "the token has no subject")
        return Principal.of_subject(self.issuer, subject)

    def _claims(self, token: str) -> Mapping[str, Any]:
        for again in (False, True):
            keys = self._source.keys(again=again)
            try:
                return jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
            except (JoseError, ValueError, TypeError, KeyError):
                continue
        raise BrokerError(ADMIN_UNAUTHENTICATED, "the token is not signed by a key of its issuer")

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        audience = claims.get("aud")
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or self._audience not in named:
            raise BrokerError(ADMIN_UNAUTHENTICATED, "the token is for others", expected=self._audience)
        if len(named) > 1 and claims.get("azp") != self._audience:
            raise BrokerError(ADMIN_UNAUTHENTICATED, "the token is for others too", expected=self._audience)


def _check_time(claims: Mapping[str, Any], now: float) -> None:
    issued, ends, begins = _time(claims, "iat"), _time(claims, "exp"), _time(claims, "nbf", 0)
    if not issued - LEEWAY <= now < ends + LEEWAY or now < begins - LEEWAY:
        raise BrokerError(ADMIN_UNAUTHENTICATED, "the token has expired, or is not valid yet")
    if ends - issued > MAX_AGE:
        raise BrokerError(ADMIN_UNAUTHENTICATED, "the token lives too long", expected=f"{MAX_AGE} s")


def _time(claims: Mapping[str, Any], name: str, default: int | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BrokerError(ADMIN_UNAUTHENTICATED, f"the token has no usable {name}")
    return value


def _object(data: bytes, where: str) -> dict[str, Any]:
    if len(data) <= MAX_KEYS:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
    raise BrokerError(OIDC_UNAVAILABLE, where, expected=f"a JSON object of at most {MAX_KEYS} bytes")


def _key_set(value: Any, where: str) -> KeySet:
    """The keys that can verify a signature; keys of other kinds stand beside them in some sets."""
    found = value.get("keys")
    usable = [key for key in found if _is_public(key)] if isinstance(found, list) else []
    try:
        if usable:
            return KeySet.import_key_set({"keys": usable})
    except (JoseError, ValueError, TypeError, KeyError):
        pass
    raise BrokerError(OIDC_UNAVAILABLE, where, expected="a set of public keys (RFC 7517)")


def _is_public(key: Any) -> bool:
    return isinstance(key, dict) and key.get("kty") in {"RSA", "EC", "OKP"} and key.get("use", "sig") == "sig"
