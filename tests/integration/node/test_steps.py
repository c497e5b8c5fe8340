# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_steps: what its steps do one by one it does in one process, and what one refuses is reported with the rest."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.action.node_steps import ActionModule
from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from support.modules import run_module
from support.netns import Namespace, connect

ROUTES = {"routes": [{"dst": "10.244.1.0/24", "via": "172.16.0.4"}], "purge": True, "persist": False}
FAR = {"routes": [{"dst": "10.244.1.0/24", "via": "10.99.0.1"}], "persist": False}


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace() as node, Namespace() as peer:
        connect(node, "172.16.0.3/24", peer, "172.16.0.4/24")
        yield node


def mesh(**changes: Any) -> dict[str, Any]:
    peer = {"name": "worker-2", "pod_cidr": "10.244.1.0/24", "public_ip": "172.16.0.4"}
    given = {"local": "172.16.0.3", "address": "10.244.0.0", "peers": [peer], "persist": False, "node": "worker-1"}
    return {"module": "vxlan_peer", "args": {**given, **changes}}


def cni(folder: Path, **changes: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "subnet": "10.244.0.0/24"}
    config = {"cniVersion": "1.0.0", "name": "bridge", "type": "bridge", "bridge": "cni0", "ipam": ipam}
    given = {"name": "10-bridge.conf", "config": config, "conf_dir": str(folder), "check_plugins": False}
    return {"module": "cni_config", "args": {**given, **changes}}


def steps(host: Namespace, *given: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """As the controller would send them."""
    arguments = ActionModule.arguments({"steps": list(given)}, {"inventory_hostname": "worker-1"})
    return run_module("node_steps", arguments, check=check, netns=host.path)


def kernel(host: Namespace) -> str:
    host.settle_meshes()
    return host.ip("route", "show", "table", "all") + host.ip("-o", "link", "show", "type", "vxlan")


def test_run_again_and_removed(host: Namespace, tmp_path: Path) -> None:
    wanted = (mesh(), {"module": "pod_route", "args": {**ROUTES, "routes": []}}, {**cni(tmp_path), "mesh_mtu": True})
    before = kernel(host)
    dry = steps(host, *wanted, check=True)
    assert dry["changed"] and kernel(host) == before and not list(tmp_path.iterdir())
    first = steps(host, *wanted)
    assert first["changed"] and first["diff"] == dry["diff"] and first["results"] == dry["results"]
    assert [(each["module"], each["changed"]) for each in first["results"]] == [
        ("vxlan_peer", True),
        ("pod_route", False),
        ("cni_config", True),
    ]
    # The pods' MTU is the mesh's, which is known only on the host.
    assert json.loads((tmp_path / "10-bridge.conf").read_text())["mtu"] == 1450
    again = steps(host, *wanted)
    assert not again["changed"] and again["diff"] == []
    gone = steps(host, cni(tmp_path, state="absent"), {"module": "vxlan_leftovers", "args": {"vni": 1}})
    assert gone["changed"] and kernel(host) == before and not list(tmp_path.iterdir())
    assert "10.244.1.0/24" in first["diff"][0]["after"] and "10.244.1.0/24" in gone["diff"][1]["before"]


def test_a_mesh_takes_the_place_of_routes(host: Namespace) -> None:
    routes = {"module": "pod_route", "args": ROUTES}
    steps(host, routes)
    none = {"module": "pod_route", "args": {**ROUTES, "routes": []}}
    moved = steps(host, mesh(), none)
    assert moved["results"][0]["replaced"] and "via 172.16.0.4" not in host.ip("route")
    back = steps(host, routes, {"module": "vxlan_leftovers", "args": {"vni": 1}})
    assert back["changed"] and "10.244.1.0/24 via 172.16.0.4" in host.ip("route") and "flannel.1" not in kernel(host)


def test_a_mesh_that_is_wanted_is_no_leftover(host: Namespace) -> None:
    steps(host, mesh())
    kept = steps(host, {"module": "vxlan_leftovers", "args": {"vni": 1, "keep": ["flannel.1"]}})
    assert not kept["changed"] and "flannel.1" in kernel(host)


@pytest.mark.parametrize(("mtu", "wanted"), [("1400", 1400), ("1500", None), ("9000", None)])
def test_pods_get_the_mtu_of_the_links_to_other_nodes(host: Namespace, tmp_path: Path, mtu: str, wanted: Any) -> None:
    """Where routes lead there, that is; a larger one than pods' links have otherwise changes nothing."""
    host.ip("link", "set", "eth0", "mtu", mtu)
    given = ({"module": "pod_route", "args": ROUTES}, {**cni(tmp_path), "mesh_mtu": True})
    assert steps(host, *given, check=True)["changed"] and steps(host, *given)["changed"]
    assert json.loads((tmp_path / "10-bridge.conf").read_text()).get("mtu") == wanted
    assert not steps(host, *given)["changed"]


def test_a_look_finds_all_problems_and_a_run_ends_with_the_first(host: Namespace, tmp_path: Path) -> None:
    far = {"module": "pod_route", "args": FAR}
    wanted = (cni(tmp_path), far, mesh(underlay="eth9"), far)
    before = kernel(host)
    look = steps(host, *wanted, check=True)
    assert look["failed"] and len(look["problems"]) == 2 and look["msg"] == "\n".join(look["problems"]), look
    assert "10.99.0.1" in look["problems"][0] and "eth9" in look["problems"][1]
    run = steps(host, *wanted)
    assert run["failed"] and len(run["problems"]) == 1 and "10.99.0.1" in run["msg"]
    # What came before is done, and said.
    assert run["changed"] and [each["module"] for each in run["results"]] == ["cni_config"]
    assert (tmp_path / "10-bridge.conf").exists() and kernel(host) == before


def test_steps_of_packages_that_are_missing_wait_in_a_look(host: Namespace) -> None:
    missing = {"module": "node_preflight", "args": {"plugins": ["acme"], "bin_dir": "/nowhere"}}
    far = {"module": "pod_route", "args": FAR}
    # Where the node lacks something, the rest would only say so in other words.
    look = steps(host, missing, far, check=True)
    assert look["failed"] and "acme" in look["msg"] and "10.99.0.1" not in look["msg"], look


@pytest.mark.parametrize(
    "given, words",
    [
        ([{"module": "shell"}], "steps[0].module: found 'shell', expected one of bridge_absent, checkpoint, "),
        (["pod_route"], "steps[0]: expected a dictionary with module and args"),
        ([{"module": "pod_route", "args": {"routes": [{"dst": "nonsense"}]}}], "nonsense"),
        ([{"module": "pod_route", "args": {"routs": []}}], "routs"),
        ([{"module": ["pod_route"]}], "steps[0].module: found ['pod_route']"),
        ([{"module": "pod_route", "args": {"routes": []}, "mesh_mtu": True}], "steps[0].mesh_mtu: goes with"),
        ([{"module": "pod_route", "args": {"routes": [], "protocol": float("inf")}}], "expects a whole number"),
        ([{"module": "cni_config", "args": {"name": "a.conf", "config": {"type": "bridge"}}}], "a.conf"),
    ],
)
def test_nonsense_never_leaves_the_controller(given: list[Any], words: str) -> None:
    with pytest.raises(Refused) as refused:
        ActionModule.arguments({"steps": [*given, {"module": "pod_route", "args": {"routes": "text"}}]}, {})
    assert words in str(refused.value) and "text" in str(refused.value)


def test_a_preshared_key_travels_apart() -> None:
    key = base64.b64encode(bytes(32)).decode()
    conf = {"Network": "10.244.0.0/16", "Backend": {"Type": "wireguard", "PSK": key}}
    flannel = {"module": "flannel_service", "args": {"net_conf": conf, "node_name": "w", "api_url": "https://a:6443"}}
    arguments = ActionModule.arguments({"steps": [flannel]}, {})
    assert arguments["psk"] == key and key not in json.dumps(arguments["steps"])
