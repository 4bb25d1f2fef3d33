"""The guard on https, with a certificate that openssl makes here."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prep import fetch_guard
from prep.fetch_guard import FetchError, Limits
from prep.fetch_image import fetch

from .hostile_server import HostileServer, picture, serving

PATIENT = Limits(timeout=60, max_seconds=60, max_bytes=1 << 20, allow_private=True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of a key and its certificate, for 127.0.0.1."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[HostileServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(tls=context) as server:
        yield server


def reason_of(url: str, limits: Limits) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(url, limits)
    return caught.value.reason


def test_https_is_held_to_the_same(server: HostileServer, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_of(f"{server.url}/good/1", PATIENT) == "certificate"
    assert reason_of(f"{server.url}/good/1", Limits()) == "address_refused"
    assert server.requests.total() == 0
    monkeypatch.setattr(fetch_guard, "_TLS", ssl.create_default_context(cafile=str(certificate)))
    assert fetch(f"{server.url}/good/1", PATIENT) == picture(1)
    for path, reason in (("cut", "truncated"), ("endless", "too_large"), ("html", "not_an_image")):
        assert reason_of(f"{server.url}/{path}", PATIENT) == reason
    for path in ("slow-body", "slow-headers", "silent"):
        hurried = Limits(timeout=60, max_seconds=0.5, allow_private=True)
        assert reason_of(f"{server.url}/{path}", hurried) == "too_slow"
    with serving() as plain:
        assert fetch(f"{server.url}/to/{plain.url}/good/2", PATIENT) == picture(2)
        assert reason_of(f"https{plain.url[4:]}/good/1", PATIENT) == "tls"
