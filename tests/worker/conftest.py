"""What the worker's tests share: small models, a runtime in memory, a sealing client, a loopback broker."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strongroom.attestation import initdata
from strongroom.attestation.evidence import Evidence, EvidenceKind
from strongroom.attestation.initdata import InitData
from strongroom.attestation.policy import Policy, render_policy
from strongroom.attestation.roots import TrustRoots
from strongroom.broker import admin
from strongroom.broker.server import create_app
from strongroom.broker.store import Store
from strongroom.codec.bhttp import Request, Response, decode_response, encode_request
from strongroom.codec.oip import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    decode_infer_response,
    encode_infer_request,
)
from strongroom.crypto import agefile
from strongroom.crypto.hpke import Aead, Kem, PrivateKey
from strongroom.crypto.ohttp import (
    GatewayKey,
    KeyConfig,
    SealedRequest,
    seal_request,
)
from strongroom.errors import ModelError
from strongroom.models.bundle import describe_files, read_bundle, write_bundle
from strongroom.models.errors import INFERENCE_FAILED
from strongroom.models.manifest import Manifest, TensorSpec
from strongroom.models.preprocess import ImagePreprocess
from strongroom.models.runtime import Done
from strongroom.models.tensors import Tensors, check_tensors
from strongroom.worker.inference import ServedModel
from strongroom_simulator.state import SimulatorState

SERVICE = "pictures"
MEASUREMENT = hashlib.sha256(b"worker").digest()
SUITES = ((1, Aead.AES_256_GCM),)
FAR = 4_000_000_000_000
"""A deadline in Unix milliseconds that no test meets."""


@pytest.fixture(scope="session")
def kit() -> Any:
    """This module, for tests to take helpers from."""
    return sys.modules[__name__]


# ---- models


def graph_files(model: Any, folder: Path) -> dict[str, bytes]:
    """An OpenVINO model as the files of a bundle."""
    from strongroom.models.quiet_openvino import ov

    path = folder / "model.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    return {"model.xml": path.read_bytes(), "model.bin": path.with_suffix(".bin").read_bytes()}


def bundle_bytes(files: Mapping[str, bytes], **members: Any) -> bytes:
    manifest = Manifest(runtime="openvino", version="1", files=describe_files(files), **members)
    return write_bundle(manifest, files)


def double_bundle(folder: Path, *, name: str = "double", max_batch: int | None = 1) -> bytes:
    """`y = 2 x`, float32 [-1, 4]."""
    from strongroom.models.quiet_openvino import op, ov

    x = op.parameter([-1, 4], np.float32, name="x")
    model = ov.Model([op.result(op.multiply(x, op.constant(np.float32(2))))], [x], name)
    model.inputs[0].tensor.set_names({"x"})
    model.outputs[0].tensor.set_names({"y"})
    spec = (-1, 4)
    return bundle_bytes(
        graph_files(model, folder),
        name=name,
        inputs=(TensorSpec("x", "FP32", spec),),
        outputs=(TensorSpec("y", "FP32", spec),),
        max_batch=max_batch,
    )


def picture_bundle(folder: Path, *, name: str = "picture") -> bytes:
    """Mean colour of a picture as three probabilities, labelled red, green and blue."""
    from strongroom.models.quiet_openvino import op, ov

    image = op.parameter([-1, 3, 8, 8], np.float32, name="image")
    mean = op.reduce_mean(image, op.constant(np.array([2, 3])), keep_dims=False)
    model = ov.Model([op.result(op.softmax(mean, axis=1))], [image], name)
    model.inputs[0].tensor.set_names({"image"})
    model.outputs[0].tensor.set_names({"probabilities"})
    files = {**graph_files(model, folder), "labels.txt": b"red\ngreen\nblue\n"}
    return bundle_bytes(
        files,
        name=name,
        inputs=(TensorSpec("image", "UINT8", (-1, 8, 8, 3)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
        labels="labels.txt",
        preprocess=ImagePreprocess(input="image", width=8, height=8, scale=(64.0, 64.0, 64.0)),
    )


def memory_manifest(name: str = "double", **members: Any) -> Manifest:
    given: dict[str, Any] = {
        "inputs": (TensorSpec("x", "FP32", (-1, 4)),),
        "outputs": (TensorSpec("y", "FP32", (-1, 4)),),
        **members,
    }
    files = describe_files({"model.xml": b"", "model.bin": b""})
    return Manifest(name=name, version="1", runtime="openvino", files=files, **given)


class MemoryRuntime:
    """A runtime without OpenVINO: `y = 2 x` for the first input and output, when the test lets it run.

    A NaN in an input makes the whole inference fail, as a fault in a graph would.
    """

    def __init__(self, manifest: Manifest, *, slots: int = 2, max_batch: int = 1) -> None:
        self.manifest = manifest
        self.streams = slots
        self.slots = slots
        self.max_batch = max_batch
        self.waiting: list[tuple[Tensors, Done]] = []
        self.sizes: list[int] = []
        self.immediate = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.manifest.outputs

    def check(self, inputs: Tensors) -> None:
        check_tensors(self.manifest.inputs, inputs)

    def submit(self, inputs: Tensors, done: Done) -> None:
        self.sizes.append(len(next(iter(inputs.values()))))
        self.waiting.append((inputs, done))
        if self.immediate:
            self.run()

    def run(self) -> None:
        """Compute what waits."""
        waiting, self.waiting = self.waiting, []
        for inputs, done in waiting:
            x = inputs[self.manifest.inputs[0].name]
            if x.dtype.kind == "f" and np.isnan(x).any():
                done(None, ModelError(INFERENCE_FAILED))
            else:
                done({self.manifest.outputs[0].name: x + x}, None)

    def close(self) -> None:
        self.waiting.clear()


def memory_model(manifest: Manifest | None = None, **options: Any) -> ServedModel:
    manifest = manifest or memory_manifest()
    labels = options.pop("labels", None)
    return ServedModel(manifest, labels, MemoryRuntime(manifest, **options))


@pytest.fixture(scope="session")
def double_tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return double_bundle(tmp_path_factory.mktemp("double"))


@pytest.fixture(scope="session")
def batched_tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return double_bundle(tmp_path_factory.mktemp("batched"), name="batched", max_batch=8)


@pytest.fixture(scope="session")
def picture_tar(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return picture_bundle(tmp_path_factory.mktemp("picture"))


# ---- keys and sealing


def gateway_key(key_id: int = 1, kem: Kem = Kem.X25519_HKDF_SHA256) -> GatewayKey:
    private = PrivateKey.generate(kem)
    return GatewayKey(KeyConfig(key_id, kem, private.public_bytes(), SUITES), private)


@dataclass
class Sealer:
    """A client that trusts whatever key it is given, for tests of what happens to sealed bytes."""

    config: KeyConfig

    def seal(self, request: Request) -> SealedRequest:
        return seal_request(self.config, None, encode_request(request))

    def infer(
        self, model: str, *tensors: Tensor, headers: tuple[tuple[bytes, bytes], ...] = (), **options: Any
    ) -> SealedRequest:
        return self.seal(infer_request(model, *tensors, headers=headers, **options))


def infer_request(
    model: str,
    *tensors: Tensor,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    outputs: tuple[RequestedOutput, ...] = (),
    binary: bool = True,
    parameters: Mapping[str, Any] | None = None,
) -> Request:
    asked = InferRequest(tensors, outputs, "id-1", parameters or {"binary_data_output": binary})
    body, length = encode_infer_request(asked, binary=binary)
    fields = ((b"content-type", b"application/octet-stream" if length else b"application/json"), *headers)
    if length is not None:
        fields = (*fields, (b"inference-header-content-length", b"%d" % length))
    return Request(b"POST", b"https", b"", f"/v2/models/{model}/infer".encode(), fields, body)


def opened(sealed: SealedRequest, body: bytes) -> Response:
    return decode_response(sealed.open_response(body))


def inferred(response: Response) -> InferResponse:
    assert response.status == 200, bytes(response.body)
    fields = dict(response.headers)
    length = fields.get(b"inference-header-content-length")
    return decode_infer_response(response.body, None if length is None else int(length))


def code(response: Response) -> str:
    assert dict(response.headers)[b"content-type"] == b"application/problem+json"
    return str(json.loads(bytes(response.body))["code"])


def x(*values: float) -> Tensor:
    return Tensor.from_array("x", np.array(values, np.float32).reshape(-1, 4))


def picture(color: tuple[int, int, int], kind: str = "JPEG") -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (16, 12), color).save(out, kind)
    return out.getvalue()


def pictures(*data: bytes) -> Tensor:
    array = np.empty(len(data), object)
    array[:] = data
    return Tensor("image", "BYTES", (len(data),), array)


# ---- a broker with a service, in this process


@dataclass
class Rig:
    """A broker's store, a simulated platform, and sealed bundles that are registered."""

    folder: Path
    simulator: SimulatorState
    store: Store
    measurement: bytes = MEASUREMENT
    max_evidence_age: int = 600
    sealed: dict[str, Path] = field(default_factory=dict)
    policy: str = ""

    def add_model(self, tar: bytes) -> str:
        """Seal a bundle and register its key; returns the resource."""
        bundle = read_bundle(tar)
        identity = agefile.generate_identity()
        sealed = agefile.seal(tar, agefile.recipient_of(identity))
        path = self.folder / f"{bundle.manifest.name}.sealed"
        path.write_bytes(sealed)
        resource = f"kbs:///default/model/{bundle.manifest.name}"
        admin.register_model(
            self.store,
            resource=resource,
            name=bundle.manifest.name,
            version=bundle.manifest.version,
            manifest_digest=bundle.manifest.digest,
            sealed_sha256=hashlib.sha256(sealed).hexdigest(),
            identity=identity,
        )
        self.sealed[resource] = path
        return resource

    def register(self, **options: Any) -> None:
        self.policy = render_policy(
            kinds=[EvidenceKind.SGX],
            measurements={EvidenceKind.SGX: [self.measurement.hex()]},
            allow_simulated=True,
            simulated_roots=[self.simulator.root_sha256],
            max_evidence_age=self.max_evidence_age,
            service=SERVICE,
        )
        admin.register_service(self.store, SERVICE, self.policy, list(self.sealed), "a test", **options)

    @property
    def init_data(self) -> InitData:
        return InitData(
            service=SERVICE,
            broker_key=admin.signing_key_text(self.store),
            release_policy=Policy.parse(self.policy).digest,
            models=tuple(self.sealed),
        )

    def client_policy(self) -> Policy:
        return Policy.parse(
            render_policy(
                kinds=[EvidenceKind.SGX],
                measurements={EvidenceKind.SGX: [self.measurement.hex()]},
                allow_simulated=True,
                simulated_roots=[self.simulator.root_sha256],
                max_evidence_age=self.max_evidence_age,
                allow_unattested_broker=True,
                broker_key=admin.signing_key_text(self.store),
                service=SERVICE,
            )
        )

    @property
    def roots(self) -> TrustRoots:
        return TrustRoots(simulated=frozenset({self.simulator.root_sha256}))

    def quoter(self, init_data: bytes | None = None) -> SimulatedQuoter:
        return SimulatedQuoter(self, init_data or self.init_data.to_toml())


@dataclass
class SimulatedQuoter:
    """The launcher's quoting, without a process around it."""

    rig: Rig
    init_data: bytes

    def quote(self, report_data: bytes) -> Evidence:
        made = self.rig.simulator.quote(
            EvidenceKind.SGX, self.rig.measurement, initdata.digest(self.init_data), report_data
        )
        return replace(made, init_data=self.init_data)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Store.open(tmp_path / "broker") as store:
        yield Rig(tmp_path, SimulatorState.open(tmp_path / "simulator"), store)


@contextmanager
def broker_server(store: Store, port: int = 0) -> Iterator[str]:
    """The broker over loopback HTTP, in a thread; gives its address."""
    import socket

    import uvicorn

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    config = uvicorn.Config(create_app(store), log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    sock.listen(64)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        sock.close()
