"""PostgreSQL: whom the broker connects to, and what happens when the server or another broker goes away."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from postgres_server import PostgresServer, programs
from strongroom.broker.postgres_database import PostgresDatabase, connection_settings
from strongroom.broker.store import Store
from strongroom.errors import StrongroomError

needs_server = pytest.mark.skipif(
    programs() is None, reason="no PostgreSQL server (Debian package postgresql)"
)
TABLE = "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, size INTEGER NOT NULL, body BLOB) STRICT;"
BIG = 2**53


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own, to be killed."""
    made = PostgresServer()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    name = postgres.take()
    made = PostgresDatabase(postgres.url(name), busy_seconds=0.2)
    made.prepare(TABLE, 1)
    yield made
    made.close()
    postgres.give_back(name)


# Where to.


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@db.example.org/keys",
        "postgresql://u@db.example.org:5433/keys?sslrootcert=/ca.crt&sslmode=verify-full",
        "postgresql://db1,db2/keys",
    ],
)
def test_over_a_network_the_server_is_always_verified(url: str) -> None:
    settings = connection_settings(url)
    assert (settings["sslmode"], settings["gssencmode"]) == ("verify-full", "disable")
    assert settings["target_session_attrs"] == "read-write"


def test_a_socket_needs_no_tls() -> None:
    settings = connection_settings("postgresql://u@/keys?host=/run/postgresql")
    assert settings["host"] == "/run/postgresql"
    assert "sslmode" not in settings


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/keys",  # libpq would take PGHOST, or a socket
        "postgresql://u@db.example.org/keys?sslmode=disable",
        "postgresql://u@db.example.org/keys?sslmode=prefer",
        "postgresql://u@db.example.org/keys?sslmode=require",
        "postgresql://u@db.example.org/keys?sslmode=verify-ca",
        "postgresql://u@/keys?host=/run/postgresql,db.example.org",
        "postgresql://u@/keys?host=db.example.org,",
        "postgresql://u@db.example.org/keys?gssencmode=require",
        "postgresql://u@db.example.org/keys?options=-csynchronous_commit%3Doff",
        "postgresql://u@db.example.org/keys?service=other",
        "postgresql://u@db.example.org/keys?hostaddr=10.0.0.1",
        "postgresql://u@db.example.org/keys?nonsense=1",
        "postgresql://u:canary@db.example.org/keys",
        "postgresql://u@db.example.org/keys?password=canary",
        "postgresql://u@[db.example.org/keys?password=canary",
        "host=db.example.org password=canary",
        "sqlite:///canary",
    ],
)
def test_a_location_that_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StrongroomError) as caught:
        PostgresDatabase(url)
    assert caught.value.code == "store-location-invalid"
    assert caught.value.exit_code == 2
    assert "canary" not in str(caught.value)


def test_psycopg_is_imported_only_where_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from strongroom.broker import kbs, service\n"
        "from strongroom.broker.store import Store\n"
        "Store.open(Path(sys.argv[1])).close(); sys.exit('psycopg' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=False).returncode == 0


# Statements.


def test_values_come_back_as_they_were(database: PostgresDatabase) -> None:
    rows = [("a%s?%", BIG, b"\0\xff%?"), ("ü", -1, None)]
    with database.write() as db:
        for row in rows:
            db.execute("INSERT INTO notes VALUES (?, ?, ?)", row)
    with database.read() as db:
        assert db.execute("SELECT * FROM notes ORDER BY size DESC").fetchall() == rows
        assert [row[0] for row in db.execute("SELECT name FROM notes WHERE name LIKE 'a%'")] == ["a%s?%"]


def test_what_is_committed_is_on_disk(database: PostgresDatabase) -> None:
    with database.read() as db:
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)


@pytest.mark.system
@needs_server
def test_a_server_that_does_not_write_to_disk_is_refused(refused) -> None:
    server = PostgresServer("-c", "fsync=off")
    try:
        server.start()
        with refused("store-unusable"):
            PostgresDatabase(server.url(server.take())).prepare(TABLE, 1)
    finally:
        server.stop()


# Going away.


def test_a_server_that_is_not_there(tmp_path: Path, refused) -> None:
    with refused("store-unreachable"):
        PostgresDatabase(f"postgresql://u@/keys?host={tmp_path}").prepare(TABLE, 1)


def test_a_user_or_database_that_is_not_there(postgres: PostgresServer, refused) -> None:
    with refused("store-unreachable"):
        PostgresDatabase(f"postgresql://nobody@/nothing?host={postgres.folder}").prepare(TABLE, 1)


@pytest.mark.system
@needs_server
def test_a_restarted_server_costs_no_transaction(server: PostgresServer) -> None:
    database = PostgresDatabase(server.url(server.take()))
    database.prepare(TABLE, 1)
    server.kill()
    server.start()
    with database.write() as db:
        db.execute("INSERT INTO notes VALUES ('a', 1, NULL)")
    database.close()


@pytest.mark.system
@needs_server
def test_a_transaction_in_which_the_server_died_fails_and_the_next_works(
    server: PostgresServer, refused
) -> None:
    database = PostgresDatabase(server.url(server.take()))
    database.prepare(TABLE, 1)
    with refused("store-unreachable"), database.write() as db:
        db.execute("INSERT INTO notes VALUES ('a', 1, NULL)")
        server.kill()
        db.execute("INSERT INTO notes VALUES ('b', 1, NULL)")
    with refused("store-unreachable"), database.read():
        raise AssertionError
    server.start()
    with database.write() as db:
        assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    database.close()


def test_a_connection_that_was_cut_in_a_transaction(
    postgres: PostgresServer, database: PostgresDatabase, refused
) -> None:
    with refused("store-unreachable"), database.write() as db:
        db.execute("INSERT INTO notes VALUES ('a', 1, NULL)")
        (pid,) = db.execute("SELECT pg_backend_pid()").fetchone()
        postgres.execute("postgres", "SELECT pg_terminate_backend(%s, 10000)", (pid,))
    with database.read() as db:
        assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)


def test_who_waits_for_another_writer_goes_on_when_that_one_dies(
    postgres: PostgresServer, database: PostgresDatabase, refused
) -> None:
    other = PostgresDatabase(postgres.url(database._settings["dbname"]), busy_seconds=60)
    written = threading.Event()

    def write() -> None:
        with other.write() as db:
            db.execute("INSERT INTO notes VALUES ('other', 1, NULL)")
        written.set()

    waiting = threading.Thread(target=write)

    def die() -> None:
        with database.write() as db:
            waiting.start()
            (pid,) = db.execute("SELECT pg_backend_pid()").fetchone()
            blocked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not postgres.execute("postgres", blocked):
                assert not written.is_set()
            postgres.execute("postgres", "SELECT pg_terminate_backend(%s, 10000)", (pid,))

    with refused("store-unreachable"):
        die()
    assert written.wait(60)
    waiting.join()
    other.close()


# TLS.


def certificate(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), address]), critical=False
        )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


@pytest.mark.system
@needs_server
def test_only_the_server_that_the_authority_names_gets_a_connection(
    tmp_path: Path, refused, monkeypatch
) -> None:
    authority, other = certificate("an authority"), certificate("another authority")
    server_certificate, server_key = certificate("server", authority)
    for name, (made, _) in {"ca.crt": authority, "other.crt": other}.items():
        (tmp_path / name).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = PostgresServer("-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "ssl=on")
    try:
        key = server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        owner = server.data.stat()
        for name, content in {
            "server.crt": server_certificate.public_bytes(serialization.Encoding.PEM),
            "server.key": key,
        }.items():
            path = server.data / name
            path.write_bytes(content)
            path.chmod(0o600)
            os.chown(path, owner.st_uid, owner.st_gid)
        with (server.data / "pg_hba.conf").open("w") as rules:
            rules.write("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        server.port = port
        server.start()
        server.execute("postgres", "ALTER USER strongroom PASSWORD 'canary'")
        passfile = tmp_path / "pass"
        passfile.write_text("*:*:*:*:canary\n")
        passfile.chmod(0o600)
        place = f"127.0.0.1:{port}/postgres?passfile={passfile}&sslrootcert={tmp_path}"
        database = PostgresDatabase(f"postgresql://strongroom@{place}/ca.crt")
        database.prepare(TABLE, 1)
        with database.read() as db:
            assert db.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
                True,
            )
        database.close()
        for wrong in (
            f"postgresql://strongroom@{place}/other.crt",
            f"postgresql://strongroom@{place}/missing.crt",
        ):
            with refused("store-unreachable"):
                PostgresDatabase(wrong).prepare(TABLE, 1)
        passfile.write_text("*:*:*:*:canary-wrong\n")
        with pytest.raises(StrongroomError) as caught:
            PostgresDatabase(f"postgresql://strongroom@{place}/ca.crt").prepare(TABLE, 1)
        assert caught.value.code == "store-unreachable"
        assert "canary" not in str(caught.value)
    finally:
        server.stop()


# A folder alone is not enough.


def test_a_store_says_what_it_needs(tmp_path: Path, refused) -> None:
    with refused("store-location-invalid"):
        Store.open(tmp_path / "s", url="postgresql://u@/keys")
