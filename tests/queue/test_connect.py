from __future__ import annotations

import datetime
import ipaddress
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from strongroom.config import TlsFiles
from strongroom.errors import QueueError, StrongroomError
from strongroom.queue.client import persist
from strongroom.queue.connect import connect, parse_url


def code(call: Callable[[], object]) -> str:
    with pytest.raises(StrongroomError) as caught:
        call()
    return caught.value.code


def test_a_unix_socket() -> None:
    target = parse_url("unix:///run/strong%20room/q.sock")
    assert (target.path, target.database, target.user, target.password) == (
        "/run/strong room/q.sock",
        0,
        "",
        "",
    )
    assert parse_url("unix:///q?db=3").database == 3
    target = parse_url("unix://me:p%40ss@/q")
    assert (target.path, target.user, target.password) == ("/q", "me", "p@ss")


def test_a_tcp_port() -> None:
    target = parse_url("redis://queue.example")
    assert (target.host, target.port, target.database, target.tls) == ("queue.example", 6379, 0, None)
    target = parse_url("redis://:secret@[::1]:7000/15")
    assert (target.host, target.port, target.database, target.password) == ("::1", 7000, 15, "secret")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/run/q.sock",
        "http://host",
        "redis://",
        "redis:///1",
        "redis://host:notaport",
        "redis://host:70000",
        "redis://host/x",
        "redis://host/-1",
        "redis://host/1024",
        "redis://host/00001",
        "redis://host/\u0663",
        "redis://host/1/2",
        "redis://host?db=1",
        "redis://host#x",
        "redis://me@host",
        "redis://[::1",
        "rediss://host",
        "unix://",
        "unix://relative/path",
        "unix:relative",
        "unix:///q?db=x",
        "unix:///q?db=1&db=2",
        "unix:///q?other=1",
        "unix:///q%00x",
        "unix:///" + "x" * 5000,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    assert code(lambda: parse_url(url)) == "queue-url-invalid"


def test_a_bad_url_is_not_shown() -> None:
    with pytest.raises(StrongroomError) as caught:
        parse_url("redis://me:s3cret@host/bad")
    assert "s3cret" not in str(caught.value) + repr(caught.value)
    assert caught.value.exit_code == 2


def test_tls_files_for_what_is_no_tls_are_refused() -> None:
    files = TlsFiles("ca.pem", "cert.pem", "key.pem")
    for url in ("redis://host", "unix:///q"):
        assert code(lambda url=url: parse_url(url, tls=files)) == "queue-url-invalid"


PARTS = [
    "unix",
    "redis",
    "rediss",
    "://",
    ":",
    "/",
    "//",
    "@",
    "?",
    "#",
    "db=",
    "=",
    "&",
    "[",
    "]",
    "%",
    "%00",
]
PARTS += ["%ff", "1", "99999", "host", "::1", "a.b", "me", "\x00", "\n", "ä", "\ud800", "0", "-1", " "]
GOOD = ["unix:///run/q.sock?db=1", "redis://me:secret@host:6379/0", "redis://[::1]:1/2", "unix://u:p@/q"]


def outcome(url: str) -> str:
    """Whether a URL was understood, or the code of our error; any other error goes through."""
    try:
        parse_url(url)
    except StrongroomError as error:
        return error.code
    return "understood"


def test_20000_mutated_urls_are_understood_or_refused() -> None:
    rng = random.Random(7)
    counts = {"understood": 0, "queue-url-invalid": 0}
    for _ in range(20_000):
        url = rng.choice(GOOD)
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(len(url) + 1)
            url = url[:place] + rng.choice(PARTS) + url[place + rng.randint(0, 2) :]
        counts[outcome(url)] += 1
    assert all(counts.values())
    assert sum(counts.values()) == 20_000


@given(st.text(max_size=40) | st.lists(st.sampled_from(PARTS), max_size=10).map("".join))
def test_any_text_is_understood_or_refused(url: str) -> None:
    assert outcome(url) in {"understood", "queue-url-invalid"}


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._subject, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=True,
                    crl_sign=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, host: str = "", password: bytes = b"") -> tuple[Path, Path]:
        """Certificate and key files for `name`; for a server's host name or address if given."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key)
        if host:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        files = self.folder / f"{self.name}.{name}.pem", self.folder / f"{self.name}.{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
            )
        )
        return files

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder, "ours")


def files(authority: Authority, certificate: Path, key: Path) -> TlsFiles:
    return TlsFiles(str(authority.file), str(certificate), str(key))


@pytest.fixture
def secured(
    redis_server: Callable[..., subprocess.Popen[bytes]], authority: Authority, port: int
) -> Callable[..., str]:
    """Start redis-server with TLS only and client certificates required; returns its URL."""

    def start(host: str = "127.0.0.1", issuer: Authority = authority) -> str:
        certificate, key = issuer.issue("server", host=host)
        redis_server(
            *("--port", 0, "--tls-port", port, "--bind", "127.0.0.1"),
            *("--tls-cert-file", certificate, "--tls-key-file", key),
            *("--tls-ca-cert-file", authority.file, "--tls-auth-clients", "yes"),
        )
        return f"rediss://127.0.0.1:{port}"

    return start


async def ping(url: str, tls: TlsFiles) -> object:
    async with connect(url, tls=tls) as client:
        return await persist(lambda: client.execute("PING"), seconds=20)


async def refusal(url: str, tls: TlsFiles) -> QueueError:
    with pytest.raises(QueueError) as caught:
        await ping(url, tls)
    return caught.value


@pytest.mark.system
async def test_the_whole_way_over_mutual_tls(
    secured: Any, authority: Authority, record: Any, reply: Any
) -> None:
    from strongroom.queue.consumer import WorkQueue
    from strongroom.queue.producer import ReplyReader, RequestQueue

    url = secured()
    tls = files(authority, *authority.issue("client"))
    body = random.Random(1).randbytes(3_000_000)
    async with connect(url, tls=tls) as front, connect(url, tls=tls) as back:
        worker = WorkQueue(back, "pictures", 0, "w0")
        await worker.start()
        reader = ReplyReader(front, "pictures", "fe")
        await RequestQueue(front, "pictures", max_length=2).submit(record(body=body))
        [delivery] = await worker.take(1, 10_000)
        assert delivery.record.body == body
        assert await worker.answer([(delivery, reply(body=body[::-1]))]) == [True]
        assert (await anext(reader)).body == body[::-1]
        protocol = await front.execute("PING")
        await reader.aclose()
        await worker.aclose()
    assert protocol == b"PONG"


@pytest.mark.system
async def test_a_client_with_another_cas_certificate_is_refused_by_the_server(
    secured: Any, authority: Authority, folder: Path
) -> None:
    url = secured()
    stranger = Authority(folder, "stranger").issue("client")
    await ping(url, files(authority, *authority.issue("client")))
    assert (await refusal(url, files(authority, *stranger))).code == "queue-tls-failed"


@pytest.mark.system
async def test_a_server_with_another_cas_certificate_is_refused(
    secured: Any, authority: Authority, folder: Path
) -> None:
    stranger = Authority(folder, "stranger")
    url = secured(issuer=stranger)
    error = await refusal(url, files(authority, *authority.issue("client")))
    assert (error.code, error.exit_code) == ("queue-tls-failed", 4)
    assert error.found == "CERTIFICATE_VERIFY_FAILED"


@pytest.mark.system
async def test_a_server_whose_certificate_names_another_host_is_refused(
    secured: Any, authority: Authority
) -> None:
    url = secured(host="127.0.0.2")
    error = await refusal(url, files(authority, *authority.issue("client")))
    assert (error.code, error.found) == ("queue-tls-failed", "CERTIFICATE_VERIFY_FAILED")


@pytest.mark.system
async def test_plain_text_to_a_tls_port_fails(secured: Any, authority: Authority) -> None:
    url = secured()
    await ping(url, files(authority, *authority.issue("client")))
    async with connect(url.replace("rediss", "redis"), timeout=0.5) as client:
        with pytest.raises(StrongroomError) as caught:
            await client.execute("PING")
    assert caught.value.code in {"queue-unreachable", "queue-protocol"}


async def test_tls_to_what_speaks_none_fails(redis_server: Any, authority: Authority, port: int) -> None:
    redis_server("--port", port, "--bind", "127.0.0.1")
    async with connect(f"redis://127.0.0.1:{port}") as client:
        await persist(lambda: client.execute("PING"), seconds=20)
    async with connect(
        f"rediss://127.0.0.1:{port}", tls=files(authority, *authority.issue("client")), timeout=0.5
    ) as client:
        with pytest.raises(StrongroomError) as caught:
            await client.execute("PING")
    assert caught.value.code in {"queue-tls-failed", "queue-unreachable"}


def test_files_that_cannot_be_used_are_refused(authority: Authority, folder: Path) -> None:
    certificate, key = authority.issue("client")
    other = authority.issue("other")[1]
    sealed = authority.issue("sealed", password=b"x")
    for bad in (
        TlsFiles(str(folder / "none"), str(certificate), str(key)),
        TlsFiles(str(authority.file), str(folder / "none"), str(key)),
        TlsFiles(str(authority.file), str(certificate), str(other)),
        TlsFiles(str(key), str(certificate), str(key)),
        files(authority, *sealed),
        TlsFiles("a\0b", str(certificate), str(key)),
    ):
        assert code(lambda bad=bad: connect("rediss://host", tls=bad)) == "queue-tls-failed"


def test_no_tls_below_1_2_and_no_unchecked_server(authority: Authority) -> None:
    import ssl

    context = parse_url("rediss://host:1", tls=files(authority, *authority.issue("client"))).tls
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
