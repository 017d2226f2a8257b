"""Certificates for tests, made by the openssl program in the test's own folder."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Pair:
    certificate: Path
    key: Path


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates; `path` is its own."""

    def __init__(self, folder: Path, name: str = "authority"):
        self.folder = folder / name
        self.folder.mkdir()
        self.path, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-days", "2", "-addext", "keyUsage=critical,keyCertSign", "-keyout", self.key, "-out", self.path,
        )  # fmt: skip
        self.count = 0

    def issue(self, names: str = "DNS:localhost,IP:127.0.0.1", usage: str = "serverAuth") -> Pair:
        self.count += 1
        pair = Pair(self.folder / f"{self.count}.pem", self.folder / f"{self.count}.key")
        request, extensions = self.folder / "request", self.folder / "extensions"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage={usage}\n")
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN=test-{self.count}",
            "-keyout", pair.key, "-out", request,
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
            "-extfile", extensions, "-out", pair.certificate,
        )  # fmt: skip
        return pair

    def server_context(self, pair: Pair, clients: Authority | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.path)
        return context
