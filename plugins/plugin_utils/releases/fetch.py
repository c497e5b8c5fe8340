# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release files brought to the controller and checked, each against a SHA-256 from a trusted source.

A digest comes from the user, else from the lock file, else from the publisher: the ``.sha256`` published beside the
archive, or the ``digest`` that GitHub gives for it. Nothing is ever trusted because it arrived.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.module_utils import urls

from ansible_collections.weft.podnet.plugins.module_utils.core import files
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.module_utils.releases import archive as release_archive

from .artifacts import SHA256, Artifact

# Answers that are text are this long at most; a mangled publisher must not fill the memory.
TEXT_LIMIT = 16 << 20
STALE_SECONDS = 86400
GIVE = "give it in podnet_artifacts_sha256, or bring a lock file that has it"


class Source(NamedTuple):
    """Where files come from: a mirror's folder (``url``), a folder of the controller, or else their publishers.

    ``timeout`` is in seconds without a byte.
    """

    url: str
    folder: str
    release_base: str
    api_base: str
    cache: Path
    timeout: float

    def url_of(self, artifact: Artifact) -> str:
        return f"{self.url}/{artifact.name}" if self.url else artifact.url(self.release_base)


class Digest(NamedTuple):
    """A SHA-256, who vouches for it (user, lock, publisher), and where it was read."""

    sha256: str
    checked_by: str
    origin: str


class Fetched(NamedTuple):
    """A checked file on this machine. ``room``: the bytes it takes on a host, with what is unpacked from it."""

    artifact: Artifact
    path: Path
    digest: Digest
    room: int


# Told before each download, a line for the user.
Tell = Callable[[str], None]


def fetch(
    wanted: Sequence[Artifact], known: Mapping[str, Digest], source: Source, require_known: bool, tell: Tell
) -> list[Fetched]:
    """Every file, checked and on this machine. ``known`` holds digests by file name.

    With ``require_known``, a file without a known digest is refused before anything is downloaded. Raises Refused with
    the problems of all files.
    """
    missing = [artifact.name for artifact in wanted if artifact.name not in known]
    if require_known and missing:
        raise Refused(
            [
                f"{name}: has no SHA-256 yet, and podnet_artifacts_require_lock refuses a first use; {GIVE}"
                for name in missing
            ]
        )
    publisher = _Publisher(source)
    fetched, problems = [], []
    for artifact in wanted:
        try:
            digest = known.get(artifact.name) or publisher.digest(artifact)
            found = _in_folder(artifact, digest, source) if source.folder else _in_cache(artifact, digest, source, tell)
            fetched.append(found)
        except Refused as refused:
            # One answer may be about many files.
            problems += [line for line in refused.problems if line not in problems]
    if problems:
        raise Refused(problems)
    return fetched


class _Publisher:
    """What publishers say about their files. GitHub's answer about a release is asked for once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._answers: dict[str, Any] = {}

    def digest(self, artifact: Artifact) -> Digest:
        """Raises Refused."""
        source = self._source
        if source.folder:
            path = Path(source.folder) / f"{artifact.name}.sha256"
            return Digest(_sidecar(artifact, _read_beside(artifact, path), str(path)), "publisher", str(path))
        if source.url or artifact.sidecar:
            url = f"{source.url_of(artifact)}.sha256"
            try:
                text = _text(url, source.timeout)
            except Refused as refused:
                why = f"; {artifact.name} has no SHA-256 then: {GIVE}"
                raise Refused([line + why for line in refused.problems]) from refused
            return Digest(_sidecar(artifact, text, _shown(url)), "publisher", _shown(url))
        url = artifact.api_url(source.api_base)
        return Digest(_asset_digest(artifact, self._answer(url), _shown(url)), "publisher", _shown(url))

    def _answer(self, url: str) -> Any:
        if url not in self._answers:
            try:
                self._answers[url] = json.loads(_text(url, self._source.timeout))
            except ValueError as error:
                raise Refused(
                    [f"{_shown(url)}: the answer is no JSON ({error}); is there a proxy in between?"]
                ) from error
        return self._answers[url]


def _read_beside(artifact: Artifact, path: Path) -> str:
    try:
        text = files.read_text(path, TEXT_LIMIT)
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return text
    except OSError as error:
        raise Refused([f"{path}: {error.strerror}; {artifact.name} has no SHA-256 then: {GIVE}"]) from error


def _sidecar(artifact: Artifact, text: str, where: str) -> str:
    """The digest in sha256sum's output: digits, and the file's name unless it was left out."""
    words = text.split()
    digest = words[0].lower() if words else ""
    named = words[1].lstrip("*").rsplit("/", 1)[-1] if len(words) > 1 else artifact.name
    if not SHA256.fullmatch(digest) or named != artifact.name:
        raise Refused([f"{where}: expected a SHA-256 and the name {artifact.name}, found {text[:120]!r}; {GIVE}"])
    return digest


def _asset_digest(artifact: Artifact, answer: Any, where: str) -> str:
    """The digest of a file in GitHub's answer about its release."""
    assets = answer.get("assets") if isinstance(answer, dict) else None
    if not isinstance(assets, list) or not all(isinstance(asset, dict) for asset in assets):
        raise Refused([f"{where}: the answer has no list of assets; {artifact.name} has no SHA-256 then: {GIVE}"])
    asset = next((asset for asset in assets if asset.get("name") == artifact.name), None)
    if asset is None:
        names = ", ".join(sorted(str(asset.get("name")) for asset in assets)) or "none"
        raise Refused([f"{where}: the release has no file {artifact.name}; it has {names}"])
    digest = asset.get("digest")
    if not isinstance(digest, str) or not re.fullmatch("sha256:[0-9a-fA-F]{64}", digest):
        raise Refused([f"{where}: gives {digest!r} as digest of {artifact.name}, expected sha256:...; {GIVE}"])
    return digest.removeprefix("sha256:").lower()


def _in_folder(artifact: Artifact, digest: Digest, source: Source) -> Fetched:
    path = Path(source.folder) / artifact.name
    try:
        found, size = files.sha256_of(path), path.stat().st_size
    except OSError as error:
        raise Refused([f"{path}: {error.strerror}; put the publisher's file there under this name"]) from error
    if found != digest.sha256:
        raise Refused([_differs(str(path), found, size, digest)])
    return Fetched(artifact, path, digest, release_archive.check_archive(path, artifact.members))


def _in_cache(artifact: Artifact, digest: Digest, source: Source, tell: Tell) -> Fetched:
    """A cached file is checked again; one that differs is downloaded again. The name holds the digest."""
    path = source.cache / f"{digest.sha256[:12]}-{artifact.name}"
    try:
        if not (path.is_file() and files.sha256_of(path) == digest.sha256):
            source.cache.mkdir(parents=True, exist_ok=True)
            _forget_partial(source.cache)
            _download(artifact, path, digest, source, tell)
    except OSError as error:
        raise Refused([f"{error.filename or path}: {error.strerror}; set podnet_cache_dir, or make room"]) from error
    try:
        return Fetched(artifact, path, digest, release_archive.check_archive(path, artifact.members))
    except Refused as refused:
        raise Refused([f"{line} (from {_shown(source.url_of(artifact))})" for line in refused.problems]) from refused


def _forget_partial(cache: Path) -> None:
    """What killed runs left."""
    for left in cache.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - STALE_SECONDS:
                left.unlink()


def _download(artifact: Artifact, path: Path, digest: Digest, source: Source, tell: Tell) -> None:
    """Write the file, whole and checked or not at all. Raises Refused, OSError."""
    url = source.url_of(artifact)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as target:
            found, size = _receive(
                url, target, source.timeout, lambda size: tell(f"{artifact.name}: {size} from {_shown(url)}")
            )
            if found != digest.sha256:
                raise Refused([_differs(_shown(url), found, size, digest)])
            os.fchmod(target.fileno(), 0o644)
            target.flush()
            os.fsync(target.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _receive(url: str, target: Any, timeout: float, begun: Callable[[str], None]) -> tuple[str, int]:
    """(SHA-256, size) of what arrived."""
    digest, size = hashlib.sha256(), 0
    with _opened(url, timeout) as answer:
        length = answer.headers.get("Content-Length")
        begun(f"{int(length) / (1 << 20):.1f} MiB" if length else "of unknown size")
        while block := answer.read(1 << 18):
            digest.update(block)
            size += len(block)
            target.write(block)
        if length and size != int(length):
            raise Refused([f"{_shown(url)}: truncated: {size} of {length} bytes arrived; nothing is kept; try again"])
    return digest.hexdigest(), size


def _differs(where: str, found: str, size: int, digest: Digest) -> str:
    who = {"user": "podnet_artifacts_sha256", "lock": digest.origin, "publisher": digest.origin}[digest.checked_by]
    return (
        f"{where}: its SHA-256 is {found} ({size} bytes), expected {digest.sha256} (says {who}); it is not used. "
        "Find out why before you change what is expected"
    )


def _text(url: str, timeout: float) -> str:
    with _opened(url, timeout) as answer:
        return bytes(answer.read(TEXT_LIMIT)).decode("utf-8", errors="replace")


@contextlib.contextmanager
def _opened(url: str, timeout: float) -> Iterator[Any]:
    """The answer, and every failure of the network, until its end, as Refused. Proxies and CA are the environment's."""
    where = _shown(url)
    try:
        # An archive is wanted as it was published: a server that calls .tgz an encoding must not have it unpacked.
        with contextlib.closing(
            urls.open_url(url, timeout=timeout, decompress=False, http_agent="weft.podnet")
        ) as answer:
            yield answer
    except HTTPError as error:
        hint = "; there is no such file: check version and architecture" if error.code == 404 else _said(error)
        raise Refused([f"{where}: {error.code} {error.reason}{hint}"]) from error
    except URLError as error:
        raise Refused([f"{where}: can't be reached: {error.reason}"]) from error
    except TimeoutError as error:
        raise Refused([f"{where}: nothing has come for {timeout:.0f} s; try again"]) from error
    except (ConnectionError, urls.ConnectionError, ssl.SSLError, http.client.HTTPException, ValueError) as error:
        raise Refused([f"{where}: broke off: {error or type(error).__name__}; try again"]) from error


def _said(error: HTTPError) -> str:
    """GitHub says in its answer why it refuses: a rate limit, for instance."""
    try:
        return f" ({json.loads(error.read(TEXT_LIMIT))['message']})"
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""


def _shown(url: str) -> str:
    """The address without the password that it may contain."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
