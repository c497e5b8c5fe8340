# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A publisher for tests: flannel's releases, made of the stand-ins, under the upstream names, and served like GitHub's.

The stand-ins are scripts: one content serves every architecture. A folder named by PODNET_REAL_BINARIES that holds
``flanneld`` or ``flannel`` (the CNI plugin) gives the real ones instead.

    python tests/standins/release.py build FOLDER --flannel v0.27.2 --cni-plugin v1.7.1-flannel2 --arch amd64
    python tests/standins/release.py serve FOLDER --address 127.0.0.1 --port 8000
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
REAL_BINARIES = "PODNET_REAL_BINARIES"
FLANNEL, CNI_PLUGIN, PLUGINS = "flannel-io/flannel", "flannel-io/cni-plugin", "containernetworking/plugins"
DISTRIBUTION_PLUGINS = Path("/usr/lib/cni")
ARCHITECTURES = ("amd64", "arm64")
INTERPRETER = b"#!/usr/bin/env python3\n"
# 2026-01-01: an archive of the same content has the same bytes.
MTIME = 1767225600

README = """# Stand-in for flannel {tag}

This archive was made by the tests of weft.podnet. Its flanneld is a stand-in, not flannel.
"""
DOCKER_OPTIONS = """#!/bin/sh
# A stand-in for flannel's mk-docker-opts.sh: the Docker options of subnet.env.
. "${1:-/run/flannel/subnet.env}"
echo "DOCKER_OPTS=\"--bip=$FLANNEL_SUBNET --mtu=$FLANNEL_MTU\"" >"${2:-/run/docker_opts.env}"
"""


class Asset(NamedTuple):
    """Where a release file belongs: repository and tag."""

    repository: str
    tag: str


PATTERNS = (
    (FLANNEL, re.compile(r"flannel-(v.+)-linux-[a-z0-9]+\.tar\.gz")),
    (CNI_PLUGIN, re.compile(r"cni-plugin-flannel-linux-[a-z0-9]+-(v.+)\.tgz(?:\.sha256)?")),
    (PLUGINS, re.compile(r"cni-plugins-linux-[a-z0-9]+-(v.+)\.tgz(?:\.sha256)?")),
)


def asset(name: str) -> Asset | None:
    """The release that a file name belongs to; None for any other file."""
    for repository, pattern in PATTERNS:
        found = pattern.fullmatch(name)
        if found:
            return Asset(repository, found[1])
    return None


def flanneld(version: str, broken: bool = False, environ: Mapping[str, str] | None = None) -> bytes:
    """flanneld as one executable file; a broken one answers --version and exits 1 at its start."""
    real = _real("flanneld", environ)
    if real is not None and not broken:
        return real
    package = HERE / "flanneld"
    files = {f"standins/flanneld/{path.name}": path.read_bytes() for path in package.glob("*.py")}
    files["standins/__init__.py"] = b""
    start = f"from standins.flanneld.main import main\n\nraise SystemExit(main({version!r}, broken={broken}))\n"
    files["__main__.py"] = start.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), files[name])
    return INTERPRETER + buffer.getvalue()


def flannel_cni(version: str, environ: Mapping[str, str] | None = None) -> bytes:
    """flannel's CNI plugin as one executable file."""
    real = _real("flannel", environ)
    if real is not None:
        return real
    text = (HERE / "flannel_cni.py").read_text(encoding="utf-8")
    return INTERPRETER + text.replace('VERSION = "unpacked"', f'VERSION = "{version}"').encode()


def build_flannel(
    folder: Path, tag: str, architectures: Sequence[str] = ARCHITECTURES, broken: bool = False
) -> list[Path]:
    """The archives of flannel's release; no checksum files, as upstream."""
    archive = pack(
        {
            "flanneld": (flanneld(tag, broken), 0o755),
            "mk-docker-opts.sh": (DOCKER_OPTIONS.encode(), 0o755),
            "README.md": (README.format(tag=tag).encode(), 0o644),
        }
    )
    return [_write(folder, f"flannel-{tag}-linux-{arch}.tar.gz", archive) for arch in architectures]


def build_cni_plugin(folder: Path, tag: str, architectures: Sequence[str] = ARCHITECTURES) -> list[Path]:
    """The archives of flannel's CNI plugin with their .sha256 files."""
    plugin = flannel_cni(tag)
    made = []
    for arch in architectures:
        archive = pack({f"flannel-{arch}": (plugin, 0o755)})
        made += _with_sum(folder, f"cni-plugin-flannel-linux-{arch}-{tag}.tgz", archive)
    return made


def build_plugins(
    folder: Path, tag: str, architectures: Sequence[str] = ARCHITECTURES, source: Path = DISTRIBUTION_PLUGINS
) -> list[Path]:
    """The reference plugins' archives with their .sha256 files, of what the distribution has installed."""
    plugins = {f"./{path.name}": (path.read_bytes(), 0o755) for path in source.iterdir() if path.is_file()}
    archive = pack(plugins)
    made = []
    for arch in architectures:
        made += _with_sum(folder, f"cni-plugins-linux-{arch}-{tag}.tgz", archive)
    return made


def pack(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A gzipped tar of files (name: content and mode) owned by root; the same files give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            content, mode = files[name]
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, MTIME
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=1, mtime=0)


class Publisher:
    """Serves a folder of release files. Use as a context manager.

    ``url`` is the base: <url>/<owner>/<repo>/releases/download/<tag>/<file> and GitHub's REST answer at
    <url>/repos/<owner>/<repo>/releases/tags/<tag>. ``requests`` counts by path. ``digests`` (file name: sha256:...)
    publishes another digest than the file's; the files are read again for every request.
    """

    def __init__(
        self, folder: Path, address: str = "127.0.0.1", port: int = 0, digests: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.digests = dict(digests or {})
        self.requests: collections.Counter[str] = collections.Counter()
        self._server = ThreadingHTTPServer((address, port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_address[1]}"
        self._lock = threading.Lock()

    def __enter__(self) -> Publisher:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a GET of that path."""
        with self._lock:
            self.requests[path] += 1
        found = re.fullmatch(r"/([^/]+/[^/]+)/releases/download/([^/]+)/([^/]+)", path)
        if found:
            file = self.folder / found[3]
            if asset(found[3]) == Asset(found[1], found[2]) and file.is_file():
                return 200, "application/octet-stream", file.read_bytes()
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)/releases/tags/([^/]+)", path)
        if found:
            release = self.release(Asset(found[1], found[2]))
            if release["assets"]:
                return 200, "application/json; charset=utf-8", json.dumps(release).encode()
        return 404, "application/json; charset=utf-8", b'{"message": "Not Found", "status": "404"}'

    def release(self, wanted: Asset) -> dict[str, object]:
        """GitHub's answer for one release, as far as it is used."""
        assets = []
        for file in sorted(self.folder.iterdir()):
            if asset(file.name) == wanted:
                digest = self.digests.get(file.name) or f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
                location = f"{self.url}/{wanted.repository}/releases/download/{wanted.tag}/{file.name}"
                size = file.stat().st_size
                assets.append({"name": file.name, "size": size, "digest": digest, "browser_download_url": location})
        return {"tag_name": wanted.tag, "name": wanted.tag, "draft": False, "prerelease": False, "assets": assets}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = publisher.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_args: object) -> None:
                """Requests are counted, not printed."""

        return Handler


def _real(name: str, environ: Mapping[str, str] | None) -> bytes | None:
    folder = (os.environ if environ is None else environ).get(REAL_BINARIES)
    path = Path(folder) / name if folder else None
    return path.read_bytes() if path is not None and path.is_file() else None


def _with_sum(folder: Path, name: str, content: bytes) -> list[Path]:
    line = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    return [_write(folder, name, content), _write(folder, f"{name}.sha256", line.encode())]


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Releases made of the stand-ins, for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="write release files into a folder")
    build.add_argument("folder", type=Path)
    build.add_argument("--flannel", metavar="TAG", action="append", default=[])
    build.add_argument("--broken-flannel", metavar="TAG", action="append", default=[], help="exits 1 at its start")
    build.add_argument("--cni-plugin", metavar="TAG", action="append", default=[])
    build.add_argument("--plugins", metavar="TAG", action="append", default=[], help="from /usr/lib/cni")
    build.add_argument("--arch", action="append", help="default: amd64 and arm64")
    serve = commands.add_parser("serve", help="serve a folder until interrupted")
    serve.add_argument("folder", type=Path)
    serve.add_argument("--address", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.command == "serve":
        publisher = Publisher(options.folder, options.address, options.port)
        print(publisher.url, flush=True)
        publisher.serve()
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    architectures = options.arch or ARCHITECTURES
    made: list[Path] = []
    for tag in options.flannel:
        made += build_flannel(options.folder, tag, architectures)
    for tag in options.broken_flannel:
        made += build_flannel(options.folder, tag, architectures, broken=True)
    for tag in options.cni_plugin:
        made += build_cni_plugin(options.folder, tag, architectures)
    for tag in options.plugins:
        made += build_plugins(options.folder, tag, architectures)
    for path in made:
        print(path)


if __name__ == "__main__":
    main()
