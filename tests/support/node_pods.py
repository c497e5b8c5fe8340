# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods on a lab's node, as a runtime makes them: a network namespace, and the plugins of the configuration in use."""

from __future__ import annotations

import json
import re
from typing import Any

from support.lab import Lab, until

# libcni in a few lines: the first configuration by name, its plugins in order (DEL: in reverse), each given the result
# of the one before. ADD also writes what libcni caches.
LIBCNI = r"""
import json, os, subprocess, sys
verb, pod, ports = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
folder = "/etc/cni/net.d"
name = sorted(n for n in os.listdir(folder) if n.endswith((".conf", ".conflist", ".json")))[0]
network = json.load(open(f"{folder}/{name}"))
plugins = network.get("plugins") or [network]
result = None
cache = f"/var/lib/cni/results/{network['name']}-{pod}-eth0"
if verb == "DEL" and os.path.exists(cache):
    result = json.load(open(cache))["result"]
for plugin in plugins if verb == "ADD" else reversed(plugins):
    given = {**plugin, "name": network["name"], "cniVersion": network["cniVersion"]}
    if plugin.get("capabilities", {}).get("portMappings"):
        given["runtimeConfig"] = {"portMappings": ports}
    if result:
        given["prevResult"] = result
    netns = f"/run/netns/{pod}" if os.path.exists(f"/run/netns/{pod}") else ""
    env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": pod, "CNI_NETNS": netns, "CNI_IFNAME": "eth0",
           "CNI_PATH": "/opt/cni/bin", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run([f"/opt/cni/bin/{plugin['type']}"], input=json.dumps(given), env=env, text=True,
                          capture_output=True)
    if done.returncode:
        sys.exit(f"{plugin['type']}: {done.stdout} {done.stderr}")
    if verb == "ADD":
        result = json.loads(done.stdout)
if verb == "ADD":
    os.makedirs(os.path.dirname(cache), exist_ok=True)
    entry = {"kind": "cniCacheV1", "containerId": pod, "ifName": "eth0", "networkName": network["name"]}
    json.dump({**entry, "result": result}, open(cache, "w"))
    print(result["ips"][0]["address"].split("/")[0])
elif os.path.exists(cache):
    os.unlink(cache)
"""
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).status)"


def start(lab: Lab, node: str, pod: str, *ports: dict[str, Any]) -> str:
    """A pod that serves HTTP on port 8000; its address."""
    lab.exec(node, "ip", "netns", "add", pod)
    lab.exec(node, "ip", "-n", pod, "link", "set", "lo", "up")
    address = lab.exec(node, "python3", "-c", LIBCNI, "ADD", pod, json.dumps(ports)).strip()
    assert re.fullmatch(r"[0-9.]+", address), address
    lab.sh(node, f"setsid ip netns exec {pod} python3 -m http.server -d /srv 8000 >/dev/null 2>&1 </dev/null &")
    assert until(lambda: fetch(lab, node, f"{address}:8000", pod), 20), address
    return address


def stop(lab: Lab, node: str, pod: str) -> None:
    """Off the network, as a runtime does it, then gone."""
    lab.exec(node, "python3", "-c", LIBCNI, "DEL", pod, "[]")
    lose(lab, node, pod)


def lose(lab: Lab, node: str, pod: str) -> None:
    """Gone without a DEL: what its plugins keep stays."""
    lab.sh(node, f"ip netns pids {pod} | xargs -r kill -9; ip netns del {pod}")


def fetch(lab: Lab, node: str, target: str, pod: str = "") -> bool:
    """Does HTTP work to this address and port, from the node or a pod on it?"""
    inside = ["ip", "netns", "exec", pod] if pod else []
    try:
        return lab.exec(node, *inside, "python3", "-c", FETCH, f"http://{target}/").strip() == "200"
    except AssertionError:
        return False
