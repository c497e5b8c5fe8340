# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory, planned; and the observations that site.yml would leave on its workers, by the very steps of a run."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.weft.podnet.plugins.module_utils.core.vtep import vtep_mac
from ansible_collections.weft.podnet.plugins.module_utils.flannel import unit
from ansible_collections.weft.podnet.plugins.module_utils.masquerade import rules as masquerade
from ansible_collections.weft.podnet.plugins.module_utils.node.info import cni
from ansible_collections.weft.podnet.plugins.module_utils.node.info.section import Notes
from ansible_collections.weft.podnet.plugins.plugin_utils.node import steps
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import cluster, inventory

Json = dict[str, Any]
SHA = "0123456789abcdef" * 4
MTU = 1500
OVERHEAD = {4: 50, 6: 70}


def plan(hosts: Mapping[str, Json], subnets: Mapping[str, list[str]]) -> Json:
    """As cluster_plan makes it; ``subnets``: the lock file's."""
    problems: list[str] = [line for name in hosts for line in inventory.check_host(name, _podnet(hosts[name]))]
    values = inventory.common(inventory.cluster_names(), hosts, problems)
    problems += inventory.check_flannel(values, hosts)
    assert not problems, problems
    settings = inventory.settings(values)
    nodes = cluster.plan(settings, [inventory.worker(name, hosts[name]) for name in hosts], subnets)
    return {
        "backend": settings.backend,
        "control_planes": ["control-plane"],
        "api_server": values["podnet_api_server"] or "https://control-plane:6443",
        "pod_cidrs": settings.pod_cidrs,
        "vxlan": {key: values[f"podnet_vxlan_{key}"] for key in ("vni", "port", "direct_routing")},
        "settings": inventory.kept(values),
        "nodes": [{**node.as_dict(), "settings": _own(hosts[node.name])} for node in nodes],
    }


def _podnet(variables: Mapping[str, Any]) -> Json:
    return {key: value for key, value in variables.items() if key.startswith("podnet_")}


def _own(variables: Mapping[str, Any]) -> Json:
    common = set(inventory.cluster_names())
    return {key: value for key, value in _podnet(variables).items() if key not in common}


def parts(planned: Json, name: str) -> dict[str, list[Json]]:
    """A worker's steps by part of a run."""
    node = next(node for node in planned["nodes"] if node["name"] == name)
    node = {
        "node_name": node["name"],
        **node,
        "settings": {**inventory.worker_defaults(), **node["settings"]},
    }
    versions = {
        kind: planned["settings"][f"podnet_{kind}_version"] for kind in ("flannel", "flannel_cni", "cni_plugins")
    }
    files = [
        {
            "component": kind,
            "version": version,
            "architecture": "amd64",
            "sha256": SHA,
            "room": 1,
            "name": f"{kind}.tgz",
            "path": f"/cache/{kind}.tgz",
        }
        for kind, version in versions.items()
    ]
    backend = planned["settings"]["podnet_flannel_backend"]
    worker = steps.Worker(planned, node, planned["nodes"], (), files, "amd64", backend, "CA")
    return {part: steps.part(worker, part) for part in (("flannel", "last") if worker.kind == "flannel" else ("last",))}


def effects(planned: Json, name: str) -> list[Json]:
    """A worker's steps, masquerading by the rules that come of it: lists of networks may overlap, or concern no pod."""
    found = []
    for step in [step for part in parts(planned, name).values() for step in part]:
        if step["module"] == "pod_masquerade" and planned["pod_cidrs"]:
            shown = _rules(step["args"]) if step["args"]["state"] == "present" else []
            step = {**step, "args": shown}
        found.append(step)
    return found


def observed(planned: Json, name: str) -> Json:
    """What pod_network_info would return for a worker after a run."""
    node = next(node for node in planned["nodes"] if node["name"] == name)
    made = parts(planned, name)
    ips = {ipaddress.ip_address(ip).version: ip for ip in node["node_ips"]}
    near = {4: 24, 6: 64}
    seen: Json = {
        "links": [_link("lo", mtu=65536), _link("eth0"), _link("eth1")],
        "addresses": [
            {"dev": "eth0", "address": f"{ip}/{near[version]}", "scope": "global"} for version, ip in ips.items()
        ],
        "routes": [{"dst": "default", "via": "172.16.255.254", "dev": "eth0", "version": 4, "owner": "static"}],
        "neighbours": [],
        "fdb": [],
        "masquerade": [],
        "forward": [],
        "problems": [],
        "runtime": {"socket": "/run/containerd/containerd.sock", "running": True},
        "kubelet": {"running": True, "node_name": node.get("node_name", name), "server": planned["api_server"]},
        "flannel": {"unit": {"exists": False, "ours": False, "active": "", "node_name": ""}, "processes": []},
        "certificates": [],
    }  # fmt: skip
    env: dict[str, str] = {}
    for step in [step for part in made.values() for step in part]:
        args = step["args"]
        if step["module"] == "vxlan_peer":
            _mesh(seen, args, name)
        elif step["module"] == "pod_route":
            seen["routes"] += [_route(each["dst"], each["via"], "eth0") for each in args["routes"]]
        elif step["module"] == "pod_masquerade" and args["state"] == "present":
            seen["masquerade"] += _rules(args)
        elif step["module"] == "flannel_service":
            env = _flanneld(seen, args, node, planned)
    seen["cni"] = _cni(made["last"], env, seen)
    return {**seen, "hostname": name, "format": 1, "time": 0.0, "truncated": {}}


def _link(name: str, **more: Any) -> Json:
    return {"name": name, "kind": "", "mac": "", "mtu": MTU, "up": True, "running": True, "master": "", **more}


def _route(dst: str, via: str, dev: str, **more: Any) -> Json:
    return {"dst": dst, "via": via, "dev": dev, "table": "main", "type": "unicast", "owner": "weft.podnet", **more}


def _mesh(seen: Json, args: Json, name: str) -> None:
    version = ipaddress.ip_address(args["local"]).version
    seen["links"].append(
        _link(
            args["name"],
            kind="vxlan",
            mac=args.get("mac") or vtep_mac(name, args["vni"]),
            mtu=args.get("mtu") or MTU - OVERHEAD[version],
            vni=args["vni"],
            port=args["port"],
            local=args["local"],
            underlay=args.get("underlay") or "eth0",
            learning=False,
            ours=True,
        )
    )
    for peer in args["peers"]:
        near = ipaddress.ip_network(f"{args['local']}/{24 if version == 4 else 64}", strict=False)
        if args["direct_routing"] and ipaddress.ip_address(peer["public_ip"]) in near:
            seen["routes"].append(_route(peer["pod_cidr"], peer["public_ip"], "eth0"))
            continue
        vtep = peer["pod_cidr"].partition("/")[0]
        mac = peer.get("vtep_mac") or vtep_mac(peer["name"], args["vni"])
        seen["routes"].append(_route(peer["pod_cidr"], vtep, args["name"], onlink=True))
        seen["neighbours"].append({"dst": vtep, "dev": args["name"], "mac": mac, "state": "permanent"})
        seen["fdb"].append({"mac": mac, "dev": args["name"], "dst": peer["public_ip"]})


def _rules(args: Json) -> list[Json]:
    """The places of the masquerade rules, in nftables or in iptables."""
    given = {"persist": True, **{name: [] for name in ("pod_subnets", "cluster_cidrs", "exclude")}, **args}
    found = []
    for version, policy in masquerade.policy(given).items():
        family = masquerade.NFT_FAMILY[version]
        place = f"nftables: table {family} {masquerade.TABLE}"
        lines = [line.strip() for line in masquerade.nft_table(version, policy)[3:-2]]
        if args["backend"] == "iptables":
            place = f"{'iptables' if version == 4 else 'ip6tables'} (nft): nat, chain {masquerade.CHAIN}"
            lines = masquerade.iptables_chain(policy)[1:]
        found.append({"place": place, "owner": "weft.podnet", "rules": lines})
    return found


def _flanneld(seen: Json, args: Json, node: Json, planned: Json) -> dict[str, str]:
    """What flanneld shows; its subnet.env."""
    options = {**{name: rule.get("default") for name, rule in unit.ARGUMENT_SPEC.items()}, **args}
    version = planned["settings"]["podnet_flannel_version"]
    conf = unit.net_conf(options, nftables=False, underlay_mtu=MTU)
    env = {"FLANNEL_MTU": str(conf["Backend"].get("MTU", MTU) - 50), "FLANNEL_IPMASQ": str(args["ip_masq"]).lower()}
    for subnet in node["pod_subnets"]:
        key = "FLANNEL_IPV6_SUBNET" if ":" in subnet else "FLANNEL_SUBNET"
        env[key] = str(ipaddress.ip_interface((ipaddress.ip_network(subnet)[1], int(subnet.partition("/")[2]))))
    own_unit = {"exists": True, "ours": True, "active": "active", "node_name": args["node_name"]}
    words = unit.flags(options)
    seen["flannel"] = {
        "unit": {**own_unit, "arguments": words},
        "processes": [{"pid": 7, "ours": True, "version": f"{version}-{SHA[:12]}", "arguments": words}],
        "net_conf": conf,
        "subnet_env": env,
    }
    seen["kubeconfig"] = {"path": options["kubeconfig"], "server": args["api_url"]}
    own = "" if planned["settings"]["podnet_flannel_identity"] == "shared" else f", O=podnet:node:{node['name']}"
    seen["certificates"] = [
        {
            "path": "/etc/kubernetes/pki/flannel.crt",
            "subject": f"CN=system:flannel{own}",
            "key_type": planned["settings"]["podnet_flannel_key_type"],
        }
    ]
    return env


def _cni(made: Sequence[Json], env: Mapping[str, str], seen: Json) -> Json:
    texts, folders = {}, {}
    for step in made:
        if step["module"] == "cni_config" and step["args"].get("state") != "absent":
            config = json.loads(json.dumps(step["args"]["config"]))
            sizes = [link["mtu"] for link in seen["links"] if link["kind"] == "vxlan"]
            if step.get("mesh_mtu") and sizes:
                next(iter(config.get("plugins", [config])))["mtu"] = min(sizes)
            texts[step["args"]["name"]] = json.dumps(config)
            folders = {name: step["args"][name] for name in ("conf_dir", "bin_dir")}
    files = cni.configurations(dict(sorted(texts.items())), env, "/nowhere", Notes(), "/nowhere")
    version = next(
        (step["args"]["source"] for step in made if step["module"] == "cni_plugins" and "source" in step["args"]), ""
    )
    source = version or "/usr/lib/cni"
    names = {"bridge", "host-local", "loopback", "portmap", *(kind for file in files for kind in file["types"])}
    return {
        **folders,
        "files": [{**file, "ours": True} for file in files],
        "loaded": min(texts),
        "broken": "",
        "plugins": {
            each: {"path": f"{folders['bin_dir']}/{each}", "target": f"{source}/{each}", "executable": True}
            for each in sorted(names)
        },
        "networks": [],
        "pods": [],
    }
