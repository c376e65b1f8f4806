"""A key broker that the host may put where a worker looks for its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from strongroom.broker import hpke_release, jwe, teekey


class RogueBroker:
    """Accepts any attestation and answers with what it likes, encrypted to the worker's own key.

    Args:
        make: Makes the signed document for a resource's path and the thumbprint of the worker's key.
    """

    def __init__(self, make: Callable[[str, str], bytes]) -> None:
        self._make = make
        self._key: Any = None
        self.app = Starlette(
            routes=[
                Route("/kbs/v0/auth", self._auth, methods=["POST"]),
                Route("/kbs/v0/attest", self._attest, methods=["POST"]),
                Route("/kbs/v0/resource/{path:path}", self._resource),
            ]
        )

    async def _auth(self, _request: Request) -> Response:
        answer = JSONResponse({"nonce": "A" * 43 + "=", "extra-params": ""})
        answer.headers["Set-Cookie"] = "kbs-session-id=" + "0" * 32
        return answer

    async def _attest(self, request: Request) -> Response:
        body = await request.json()
        self._key = teekey.parse_jwk(body["runtime-data"]["tee-pubkey"])
        return JSONResponse({"token": "anything"})

    async def _resource(self, request: Request) -> Response:
        path = request.path_params["path"]
        document = self._make(path, teekey.thumbprint(self._key))
        if isinstance(self._key, teekey.HpkePublicKey):
            sealed = hpke_release.seal(self._key, document, resource=path)
        else:
            sealed = jwe.seal(self._key, document)
        return Response(sealed, media_type="application/json")
