"""https sources, from a server on loopback: read whole, never followed to another kind of place."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import Tonemill, contents, reasons, write_wav

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.storage import stores
from tonemill.pipelines.storage.paths import as_store, place
from tonemill.pipelines.storage.store_path import StorePath

x509 = pytest.importorskip("cryptography.x509", reason="a certificate is made with cryptography")


def write_certificate(target: Path) -> None:
    """A key, and a certificate for 127.0.0.1 that it signed itself."""
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    target.write_bytes(private + made.public_bytes(pem))


class Handler(BaseHTTPRequestHandler):
    """Files of a folder; `/to/URL` points to it, `/cut/NAME` and `/busy/NAME` fail at first."""

    seen: ClassVar[set[str]] = set()

    def __init__(self, *given: object, folder: Path) -> None:
        self.folder = folder
        super().__init__(*given)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        _, way, *rest = self.path.partition("?")[0].split("/", 2)
        if way == "to":
            self.send_response(302)
            self.send_header("Location", rest[0])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = self.command == "GET" and self.path not in self.seen
        self.seen.update([self.path] if self.command == "GET" else [])
        path = self.folder / (rest[0] if rest else way)
        if way in ("403", "404") or not path.is_file() or (way == "busy" and first):
            self.send_error(int(way) if way.isdigit() else 503 if way == "busy" else 404)
            return
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[: len(data) // 2] if way == "cut" and first else data)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server of `tmp_path/served`."""
    write_certificate(tmp_path / "certificate.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem")
    Handler.seen = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, folder=tmp_path / "served"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(stores, "_stores", {})
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.01)
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def at(url: str) -> StorePath:
    found = as_store(place(url))
    assert found is not None
    return found


def test_files_on_the_web_give_what_local_ones_give(tonemill: Tonemill, web: str, tmp_path: Path) -> None:
    for number in range(2):
        write_wav(tmp_path / "served" / f"{number} tak.wav", 3000, seed=number)
    urls = f"{web}/0%20tak.wav?session=1\n{web}/cut/1%20tak.wav\n".encode()
    (tmp_path / "served" / "1%20tak.wav").symlink_to("1 tak.wav")
    (tmp_path / "served" / "0%20tak.wav").symlink_to("0 tak.wav")
    stream = tonemill("scan", "-", "-q", stdin=urls).done().out
    tonemill("shard", tmp_path / "out", "-q", stdin=stream).done()
    local = tonemill("scan", tmp_path / "served" / "0 tak.wav", tmp_path / "served" / "1 tak.wav", "-q").done().out
    tonemill("shard", tmp_path / "local", "-q", stdin=local).done()
    tars = {name: data for name, data in contents(tmp_path / "out").items() if name.endswith(".tar")}
    assert tars and tars == {name: data for name, data in contents(tmp_path / "local").items() if name in tars}


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/a.wav", "file:///etc/passwd", "ftp://127.0.0.1/a.wav"])
def test_an_answer_that_points_elsewhere_is_not_followed(web: str, target: str) -> None:
    with pytest.raises(PermissionError, match="not https, which is not followed"):
        at(f"{web}/to/{target}").read_bytes()


def test_to_another_https_place_it_is_followed(web: str, tmp_path: Path) -> None:
    write_wav(tmp_path / "served" / "a.wav")
    assert at(f"{web}/to/{web}/a.wav").read_bytes() == (tmp_path / "served" / "a.wav").read_bytes()


def test_what_fails_for_a_moment_is_tried_again_and_what_fails_for_good_is_reported(
    tonemill: Tonemill, web: str, tmp_path: Path
) -> None:
    write_wav(tmp_path / "served" / "a.wav")
    data = (tmp_path / "served" / "a.wav").read_bytes()
    assert at(f"{web}/busy/a.wav").read_bytes() == data
    assert at(f"{web}/cut/a.wav").read_bytes() == data
    assert at(f"{web}/a.wav").read(10, 20) == data[10:20]
    with at(f"{web}/a.wav").open() as file:
        file.seek(-5, 2)
        assert file.read() == data[-5:]
    stream = tonemill("scan", f"{web}/404/no.wav", f"{web}/403/not.wav", f"{web}/a.wav", "-q").refused(2, "no object")
    assert not stream.out
    for name in ("no.wav", "not.wav"):
        write_wav(tmp_path / "served" / name)
    stream = tonemill("scan", f"{web}/no.wav", f"{web}/not.wav", f"{web}/a.wav", "-q").done().out
    gone = stream.replace(b"/no.wav", b"/404/no.wav").replace(b"/not.wav", b"/403/not.wav")
    tonemill("shard", tmp_path / "out", "-q", stdin=gone).done()
    assert set(reasons(tmp_path / "out").values()) == {"missing", "forbidden"}


def test_the_web_is_only_read(web: str, tmp_path: Path) -> None:
    for act in (lambda: at(f"{web}/a").put(tmp_path / "certificate.pem"), lambda: at(f"{web}/a").unlink()):
        with pytest.raises(UsageError, match="only be read"):
            act()
    with pytest.raises(UsageError, match="is not supported"):
        place("http://127.0.0.1/a.wav")
