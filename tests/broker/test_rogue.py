"""A rogue broker beside a genuine worker, and someone on the way to a genuine one: no key of theirs is taken.

The host may start any broker it likes and put it where the worker looks for its own. What the worker's
attested init-data pins is the signing key, so these servers get as far as they can with keys of their own.
"""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from release_log import released_document
from rogue_broker import RogueBroker
from strongroom.broker import epochs, jwe, release, teekey
from strongroom.broker.client import KbsClient
from strongroom.broker.server import create_app

MODEL = "kbs:///default/model/lite0"


def worker_of(rig: Any, url: str) -> KbsClient:
    worker = rig.attester()
    client = KbsClient(url, "sgx", worker.quote, timeout=20)
    try:
        client.attest(worker.init_data)
    except BaseException:
        client.close()
        raise
    return client


def released(rig: Any, path: str, recipient: str) -> bytes:
    """What a broker with the store of `rig` would release, policies or not."""
    with rig.store.read() as db:
        if path.endswith("/service-key/current"):
            found = [epochs.load(rig.store, db, record) for record in epochs.listed(db, "pictures")]
            document = release.service_document("pictures", recipient, found)
        else:
            key = release.ModelKey(MODEL, rig.identity, "sha256:" + "11" * 32, "sha256:" + "22" * 32, 0)
            document = release.model_document(recipient, key)
    return released_document(document, rig.store.signing_key)


def test_an_honest_broker_of_someone_else_refuses_the_worker(rig, new_rig, serve, refused) -> None:
    other = new_rig("other")
    url = serve(create_app(other.store, now=other.clock, broker=other.broker))
    with refused("init-data-broker"):
        worker_of(rig, url)
    assert other.last_entry()["counts"] == {"init-data-broker": 1}


def test_a_rogue_brokers_keys_are_refused(rig, new_rig, serve, refused) -> None:
    """The attack of rule 1: a broker of the host's own beside a genuine worker."""
    rogue = new_rig("rogue")
    url = serve(RogueBroker(lambda path, recipient: released(rogue, path, recipient)).app)
    with worker_of(rig, url) as client:
        with refused("release-foreign-broker"):
            client.service_key("pictures", rig.broker_key)
        with refused("release-foreign-broker"):
            client.model_key(MODEL, rig.broker_key)


def test_a_rogue_that_names_the_genuine_broker_in_its_keyset(rig, new_rig, serve, refused) -> None:
    """It copies the genuine keyset beside private keys of its own; the envelope it must sign itself."""
    rogue = new_rig("rogue")

    def make(path: str, recipient: str) -> bytes:
        with rig.store.read() as db, rogue.store.read() as own:
            genuine = epochs.load(rig.store, db, epochs.listed(db, "pictures")[0])
            theirs = epochs.load(rogue.store, own, epochs.listed(own, "pictures")[0])
        mixed = release.ServiceEpoch(genuine.keyset, genuine.signature, theirs.keys, genuine.honoured_until)
        document = release.service_document("pictures", recipient, [mixed])
        return released_document(document, rogue.store.signing_key)

    with worker_of(rig, serve(RogueBroker(make).app)) as client, refused("release-foreign-broker"):
        client.service_key("pictures", rig.broker_key)


def test_a_genuine_answer_to_an_earlier_attestation_is_refused(rig, serve, refused) -> None:
    """Whoever once learned a signed document (a worker of old, say) cannot hand it to a new one."""
    earlier = rig.attester().attest()
    kept = {path: earlier.fetch(path) for path in ("pictures/service-key/current", "default/model/lite0")}
    with worker_of(rig, serve(RogueBroker(lambda path, _: kept[path]).app)) as client:
        with refused("release-foreign-recipient"):
            client.service_key("pictures", rig.broker_key)
        with refused("release-foreign-recipient"):
            client.model_key(MODEL, rig.broker_key)


@pytest.mark.parametrize(
    ("classical", "code"), [(False, "hpke-release-open-failed"), (True, "release-foreign-subject")]
)
def test_genuine_answers_that_are_swapped_are_refused(
    rig, serve, refused, classical: bool, code: str
) -> None:
    """Someone between worker and broker rewrites the path that is asked for."""
    rig.policy_text = rig.policy(allow_classical_release=classical)
    rig.register_model(resource="default/model/old", name="old", sealed_sha256="33" * 32)
    rig.change_service(models=["default/model/lite0", "default/model/old"])
    inner = create_app(rig.store, now=rig.clock, broker=rig.broker)
    swaps = {
        "/kbs/v0/resource/default/model/lite0": "/kbs/v0/resource/default/model/old",
        "/kbs/v0/resource/pictures/service-key/current": "/kbs/v0/resource/default/model/lite0",
        "/kbs/v0/resource/default/model/old": "/kbs/v0/resource/pictures/service-key/current",
    }

    async def between(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": swaps.get(scope["path"], scope["path"])}
        await inner(scope, receive, send)

    worker = rig.attester(models=(MODEL, "kbs:///default/model/old"))
    with KbsClient(serve(between), "sgx", worker.quote, timeout=20, classical=classical) as client:
        client.attest(worker.init_data)
        for ask in (
            lambda: client.model_key(MODEL, rig.broker_key),
            lambda: client.service_key("pictures", rig.broker_key),
            lambda: client.model_key("default/model/old", rig.broker_key),
        ):
            with refused(code):
                ask()


@pytest.mark.parametrize("classical", [False, True], ids=["his own", "of the classical kind"])
def test_a_key_put_in_by_someone_on_the_way_is_refused_by_the_broker(
    rig, serve, refused, classical: bool
) -> None:
    """Someone between them puts a key of his own into a genuine attestation, to read what comes back.

    Or he turns a post-quantum attestation into a classical one, to read it later. The evidence binds the key.
    """
    rig.change_service(rig.policy(allow_classical_release=True))
    inner = create_app(rig.store, now=rig.clock, broker=rig.broker)
    host = rig.attester(classical=classical)

    class Between:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] == "/kbs/v0/attest":
                body = b""
                more = True
                while more:
                    message = await receive()
                    body, more = body + message["body"], message.get("more_body", False)
                request = await Request(scope, self._once(body)).json()
                request["runtime-data"]["tee-pubkey"] = host.jwk
                changed = JSONResponse(request).body
                headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
                await inner({**scope, "headers": headers}, self._once(changed), send)
            else:
                await inner(scope, receive, send)

        @staticmethod
        def _once(body: bytes) -> Any:
            async def receive() -> Any:
                return {"type": "http.request", "body": body, "more_body": False}

            return receive

    worker = rig.attester()
    with (
        KbsClient(serve(Between()), "sgx", worker.quote, timeout=20) as client,
        refused("policy-report-data"),
    ):
        client.attest(worker.init_data)
    assert rig.last_entry()["counts"] == {"policy-report-data": 1}


@pytest.mark.parametrize("answer", [b"", b"{}", b"\xff" * 100, b'{"payload":"AA"}'])
def test_an_answer_that_is_no_document_is_refused(rig, serve, answer: bytes) -> None:
    with worker_of(rig, serve(RogueBroker(lambda *_: answer).app)) as client:
        for ask in (
            lambda: client.service_key("pictures", rig.broker_key),
            lambda: client.model_key(MODEL, rig.broker_key),
        ):
            with pytest.raises(Exception) as caught:  # noqa: PT011 -- the code is checked
                ask()
            assert caught.value.code in {"release-invalid", "release-unlogged"}


def test_an_answer_in_the_classical_form_is_refused(rig, serve, refused) -> None:
    """Someone on the way answers with a JWE, as an older broker would, to a key that he put in there."""
    host = teekey.generate()

    class Classical(RogueBroker):
        async def _resource(self, request: Request) -> Response:
            path = request.path_params["path"]
            document = released(rig, path, teekey.thumbprint(self._key))
            return Response(jwe.seal(host.public_key(), document), media_type="application/json")

    with worker_of(rig, serve(Classical(lambda *_: b"").app)) as client:
        for ask in (
            lambda: client.service_key("pictures", rig.broker_key),
            lambda: client.model_key(MODEL, rig.broker_key),
        ):
            with refused("hpke-release-invalid"):
                ask()


def test_a_keyset_that_promises_more_than_the_way_it_came_is_refused(rig, serve, refused) -> None:
    """A broker that hands out keys under a classical key, beside a keyset that tells clients otherwise."""
    worker = rig.attester()
    url = serve(RogueBroker(lambda path, recipient: released(rig, path, recipient)).app)
    with KbsClient(url, "sgx", worker.quote, timeout=20, classical=True) as client:
        client.attest(worker.init_data)
        with refused("release-downgraded"):
            client.service_key("pictures", rig.broker_key)


def test_an_answer_is_replayed_to_a_later_attestation(rig, serve, refused) -> None:
    """The very bytes that the broker once sent: the one-time key is another one now."""
    earlier = rig.attester().attest()
    paths = ("pictures/service-key/current", "default/model/lite0")
    kept = {path: rig.broker.resource(earlier.session, None, path) for path in paths}

    class Replaying(RogueBroker):
        async def _resource(self, request: Request) -> Response:
            return Response(kept[request.path_params["path"]], media_type="application/json")

    with worker_of(rig, serve(Replaying(lambda *_: b"").app)) as client:
        for ask in (
            lambda: client.service_key("pictures", rig.broker_key),
            lambda: client.model_key(MODEL, rig.broker_key),
        ):
            with refused("hpke-release-open-failed"):
                ask()
