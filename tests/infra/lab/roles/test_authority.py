"""Certificates of the lab's authority do what real ones do in a real handshake."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from infra.lab.roles.authority import Certificate, create_authority, issue


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority")
    create_authority(path)
    return path


def handshake(certificate: Certificate, directory: Path, name: str) -> str:
    """Serve one TLS connection and verify it as `name`; the verification's error, or nothing."""
    combined = directory / "server.pem"
    combined.write_text(certificate.combined)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(combined)
    verifying = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            try:
                serving.wrap_socket(theirs, server_side=True).close()
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            verifying.wrap_socket(ours, server_hostname=name).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        thread.join(5)
    return ""


def test_a_certificate_is_good_for_its_name_only(directory: Path) -> None:
    certificate = issue(directory, "shop.production.lab")
    assert handshake(certificate, directory, "shop.production.lab") == ""
    assert "Hostname mismatch" in handshake(certificate, directory, "shop.staging.lab")


def test_an_expired_certificate_is_refused(directory: Path) -> None:
    certificate = issue(directory, "shop.production.lab", days_before=30, days_after=-1)
    assert "expired" in handshake(certificate, directory, "shop.production.lab")


def test_a_certificate_ends_when_it_was_asked_to(directory: Path) -> None:
    certificate = x509.load_pem_x509_certificate(
        issue(directory, "x.lab", days_before=80, days_after=10).certificate.encode()
    )
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=9, hours=23) < left <= timedelta(days=10)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=90)


def test_a_certificate_of_another_authority_is_refused(directory: Path, tmp_path: Path) -> None:
    create_authority(tmp_path)
    foreign = issue(tmp_path, "shop.production.lab")
    assert "unable to get local issuer" in handshake(foreign, directory, "shop.production.lab")


def test_the_authority_keeps_its_key_to_itself(directory: Path) -> None:
    assert (directory / "ca.key").stat().st_mode & 0o777 == 0o600
