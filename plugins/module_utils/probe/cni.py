# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CNI keeps about a probe pod, and taking it away again.

`ctr` adds a pod to the network but does not take a detached one off it, and where it does, it gives the plugins no
network namespace, so that the bridge plugin leaves its masquerade rules behind. libcni's own cache of results holds all
a proper DEL needs: the configuration as it was at ADD, also when /etc/cni/net.d has changed since.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..core import documents, files, tools

CONF_DIR = Path("/etc/cni/net.d")
BIN_PATH = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"
STATE_DIR = Path("/var/lib/cni")
PLUGIN_TIMEOUT = 30


def configurations() -> list[Path]:
    """The configurations the runtime finds, the one it takes first. The extensions are the runtime's own list."""
    found = CONF_DIR.iterdir() if CONF_DIR.is_dir() else []
    return sorted(path for path in found if path.suffix in (".conf", ".conflist", ".json"))


def current(container: str) -> dict[str, Any]:
    """What libcni would have cached about ``container``, from the configuration in use now: no result."""
    paths = configurations()
    config = (files.read_bytes(paths[0]) if paths else None) or b""
    return {"containerId": container, "config": base64.b64encode(config).decode()}


def cached(container_prefix: str) -> list[tuple[Path, dict[str, Any]]]:
    """libcni's cached results of the containers whose id starts with ``container_prefix``, as (file, contents)."""
    found = []
    for path in sorted((STATE_DIR / "results").glob(f"*-{container_prefix}*")):
        try:
            entry = documents.from_json(files.read_text(path) or "")
        except (OSError, ValueError):
            continue
        if str(entry.get("containerId", "")).startswith(container_prefix):
            found.append((path, entry))
    return found


def addresses(entry: dict[str, Any]) -> list[str]:
    """The addresses with prefix that the plugins gave, from a cached result: ["10.244.0.5/24"]."""
    return [str(item["address"]) for item in (entry.get("result") or {}).get("ips") or [] if "address" in item]


def interfaces(entry: dict[str, Any]) -> list[str]:
    """The host's ends of a pod's links, and its bridges, from a cached result."""
    found = (entry.get("result") or {}).get("interfaces") or []
    return [str(item["name"]) for item in found if item.get("name") and not item.get("sandbox")]


def plugin_inputs(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The configurations for a DEL, one per plugin, last plugin first, as libcni makes them. Raises ValueError."""
    try:
        network = documents.from_json(base64.b64decode(entry["config"]))
    except (KeyError, binascii.Error) as error:
        raise ValueError(f"unreadable configuration: {error}") from error
    if not isinstance(network, dict) or "name" not in network:
        raise ValueError("the configuration has no name")
    plugins = network.get("plugins") or [network]
    arguments = entry.get("capabilityArgs") or {}
    inputs = []
    for plugin in reversed(plugins):
        given = {**plugin, "name": network["name"], "cniVersion": network.get("cniVersion", "0.1.0")}
        wanted = [name for name, on in (plugin.get("capabilities") or {}).items() if on and name in arguments]
        if wanted:
            given["runtimeConfig"] = {name: arguments[name] for name in wanted}
        # Plugins know the previous result at DEL since version 0.4.0.
        if entry.get("result") and given["cniVersion"] not in ("0.1.0", "0.2.0", "0.3.0", "0.3.1"):
            given["prevResult"] = entry["result"]
        inputs.append(given)
    return inputs


def detach(entry: dict[str, Any], netns: str) -> list[str]:
    """Take one container off its network; what went wrong, as texts. The cached result stays, for the caller to remove.

    ``netns`` is the path of its network namespace, "" when that is gone.
    """
    problems = []
    environment = _environment("DEL", entry, netns)
    try:
        inputs = plugin_inputs(entry)
    except ValueError as error:
        inputs, problems = [], [f"CNI's record of {entry['containerId']} can't be used: {error}"]
    for given in inputs:
        name = str(given.get("type", ""))
        program = shutil.which(name, path=BIN_PATH)
        if program is None:
            problems.append(f"CNI plugin {name!r} is in none of {BIN_PATH}: its part of {entry['containerId']} stays")
            continue
        problem = _run(program, given, environment)
        if problem:
            problems.append(f"CNI plugin {name!r} could not take {entry['containerId']} off the network: {problem}")
    return problems


def add(entry: dict[str, Any], plugin: str, netns: str) -> str:
    """Have one plugin of a container's configuration do its part once more, with the entry's ``capabilityArgs``.

    What went wrong, or "".
    """
    try:
        given = next((each for each in plugin_inputs(entry) if each.get("type") == plugin), None)
    except ValueError as error:
        return str(error)
    program = shutil.which(plugin, path=BIN_PATH)
    if given is None or program is None:
        return f"the CNI plugin {plugin} is in none of {BIN_PATH}" if given else f"the configuration has no {plugin}"
    return _run(program, given, _environment("ADD", entry, netns))


def _environment(verb: str, entry: dict[str, Any], netns: str) -> dict[str, str]:
    return {
        "PATH": tools.SEARCH_PATH,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": str(entry["containerId"]),
        "CNI_NETNS": netns,
        "CNI_IFNAME": str(entry.get("ifName", "eth0")),
        "CNI_ARGS": ";".join("=".join(pair) for pair in entry.get("cniArgs") or []),
        "CNI_PATH": BIN_PATH,
    }


def _run(program: str, given: dict[str, Any], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            [program], input=json.dumps(given), env=environment, capture_output=True, text=True,
            timeout=PLUGIN_TIMEOUT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    try:
        answer = documents.from_json(done.stdout)
        return " ".join(str(answer[key]) for key in ("msg", "details") if answer.get(key))
    except ValueError:
        return done.stderr.strip() or f"exit status {done.returncode}"


def release_leases(container_prefix: str) -> list[Path]:
    """Remove host-local's leases of our containers that no DEL removed (killed in the middle of ADD)."""
    removed = []
    networks = STATE_DIR / "networks"
    for path in sorted(networks.glob("*/*")) if networks.is_dir() else []:
        try:
            owner = (files.read_bytes(path) if path.is_file() else None) or b""
        except OSError:
            continue
        if (
            owner.startswith(container_prefix.encode())
            and path.name[:1].isalnum()
            and not path.name.startswith("last_")
        ):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                removed.append(path)
    return removed
