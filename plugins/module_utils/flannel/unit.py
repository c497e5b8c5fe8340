# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld.service as text: options, net-conf.json, the unit, and the digest that shows when it must restart. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ..core import documents
from ..core.persist import UNIT_DIR

UNIT = "flanneld.service"
UNIT_PATH = f"{UNIT_DIR}/{UNIT}"
HEADER = "# Written by weft.podnet (flannel_service); changes are overwritten."
STATE_VARIABLE = "PODNET_STATE"
# systemd skips sections whose names begin with X-. Ours remembers what this unit brought along, so that a later run
# removes all of it and nothing else.
RECORD = "[X-Weft-Podnet]"
# How long a start may take, in seconds, and by how much a run gives up before systemd does.
START_SECONDS, START_MARGIN = 120, 30
# Lists of devices and settings: a backend's settings that an existing device keeps whatever net-conf.json says.
DEVICE_SETTINGS = ("Type", "VNI", "Port", "MTU", "GBP", "Learning", "ListenPort", "ListenPortV6", "Mode")
# What flanneld does not count of a VXLAN header over IPv6.
UNCOUNTED = 70 - 50
# With less, IPv6 would not work on pods' links.
LEAST_UNDERLAY = 1280 + 70
# By backend: what all nodes must have alike to reach each other, with flanneld's defaults.
AGREED: dict[str, dict[str, Any]] = {
    "vxlan": {"VNI": 1, "Port": 8472},
    "udp": {"Port": 8285},
    "wireguard": {"ListenPort": 51820, "ListenPortV6": 51821, "Mode": "separate", "PSK": ""},
}
KUBECONFIG_FIELDS = (
    *("certificate-authority-data", "certificate-authority", "client-certificate-data", "client-certificate"),
    *("client-key", "tokenFile", "server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"),
    "current-context",
)

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "net_conf": {"type": "dict"},
    "psk": {"type": "str", "no_log": True},
    "nftables": {"type": "str", "choices": ["auto", "true", "false"], "default": "auto"},
    "net_conf_path": {"type": "path", "default": "/etc/flannel/net-conf.json"},
    "flanneld": {"type": "path", "default": "/usr/local/bin/flanneld"},
    "binaries": {"type": "dict", "default": {}},
    "node_name": {"type": "str"},
    "api_url": {"type": "str"},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/flannel.conf"},
    "subnet_file": {"type": "path", "default": "/run/flannel/subnet.env"},
    "iface": {"type": "list", "elements": "str", "default": []},
    "iface_can_reach": {"type": "str"},
    "public_ip": {"type": "list", "elements": "str", "default": []},
    "ip_masq": {"type": "bool", "default": True},
    "healthz_port": {"type": "int", "default": 0},
    "iptables_resync": {"type": "int", "default": 5},
    "verbosity": {"type": "int", "default": 0},
    "before_kubelet": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "backend_change": {"type": "bool", "default": False},
    "ready_timeout": {"type": "int", "default": 60},
}
RANGES = {"iptables_resync": (1, 3600), "verbosity": (0, 10), "ready_timeout": (1, 3600)}
PATHS = ("net_conf_path", "flanneld", "kubeconfig", "subnet_file")
SAFE_PATH = re.compile(r"/[A-Za-z0-9_./@:+-]+")
NODE_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
API_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9./_~-]*)?")
INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,45}")


class Record(NamedTuple):
    """What was installed together with our unit. ``links``: destination -> source."""

    net_conf_path: str
    subnet_file: str
    links: dict[str, str]


def problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the module's options, a line each. net_conf is checked on the controller."""
    found = []
    if options["state"] == "present":
        found += [f"{name}: is missing" for name in ("net_conf", "node_name", "api_url") if not options[name]]
    for name in PATHS:
        found += _path_problems(name, options[name])
    for destination, source in options["binaries"].items():
        found += _path_problems("binaries", destination) + _path_problems(f"binaries: {destination}", source)
        if destination == source:
            found.append(f"binaries: {destination}: leads to itself; expected the path of a program elsewhere")
    for name, pattern, expected in (
        ("node_name", NODE_NAME, "the Node's name in lower case, such as worker-1"),
        ("api_url", API_URL, "the API server's URL, such as https://control-plane:6443"),
    ):
        if options[name] and not pattern.fullmatch(options[name]):
            found.append(f"{name}: found {options[name]!r}, expected {expected}")
    for entry in options["iface"]:
        if not INTERFACE.fullmatch(entry):
            found.append(f"iface: found {entry!r}, expected an interface's name or address, such as eth1 or 172.16.0.3")
    for name, values in (("iface_can_reach", [options["iface_can_reach"]]), ("public_ip", options["public_ip"])):
        found += [f"{name}: found {value!r}, expected an IP address" for value in values if not _is_address(value)]
    if len({":" in value for value in options["public_ip"]}) != len(options["public_ip"]):
        found.append(f"public_ip: found {', '.join(options['public_ip'])}, expected one address of each family")
    for name, (least, most) in RANGES.items():
        if not least <= options[name] <= most:
            found.append(f"{name}: found {options[name]}, expected {least} to {most}")
    if options["healthz_port"] and not 1024 <= options["healthz_port"] <= 65535:
        found.append(f"healthz_port: found {options['healthz_port']}, expected 0 (off) or 1024 to 65535")
    return found + _nftables_problems(options)


def _nftables_problems(options: Mapping[str, Any]) -> list[str]:
    given = (options["net_conf"] or {}).get("EnableNFTables")
    if given is None or options["nftables"] in ("auto", str(given).lower()):
        return []
    return [f"nftables: is {options['nftables']}, but net_conf says EnableNFTables: {str(given).lower()}; remove one"]


def _path_problems(name: str, path: object) -> list[str]:
    if isinstance(path, str) and SAFE_PATH.fullmatch(path) and ".." not in PurePosixPath(path).parts:
        return []
    return [f"{name}: found {path!r}, expected an absolute path of letters, digits and _ . / @ : + -"]


def _is_address(text: str | None) -> bool:
    """Nothing is no wrong address."""
    if not text:
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def wants_mtu(conf: Mapping[str, Any]) -> bool:
    """Does a net-conf.json need an MTU? flanneld counts 50 bytes for the header of either IP version, and gives pods 20
    more than what its device for IPv6 takes.
    """
    return bool(conf.get("EnableIPv6")) and conf["Backend"].get("Type") == "vxlan" and "MTU" not in conf["Backend"]


def net_conf(options: Mapping[str, Any], nftables: bool, underlay_mtu: int = 0) -> dict[str, Any]:
    """net-conf.json as flanneld is to read it. ``nftables``: what "auto" means on this host. ``underlay_mtu``: of its
    interface, 0 for unknown.
    """
    conf = {key: value for key, value in options["net_conf"].items() if key not in ("EnableNFTables", "Backend")}
    chosen = nftables if options["nftables"] == "auto" else options["nftables"] == "true"
    conf["EnableNFTables"] = options["net_conf"].get("EnableNFTables", chosen)
    conf["Backend"] = dict(options["net_conf"]["Backend"])
    if underlay_mtu >= LEAST_UNDERLAY and wants_mtu(conf):
        conf["Backend"]["MTU"] = underlay_mtu - UNCOUNTED
    if options["psk"]:
        conf["Backend"]["PSK"] = options["psk"]
    return conf


def parse_net_conf(text: str | None) -> dict[str, Any] | None:
    """The content of a net-conf.json; None for none that flanneld could read."""
    try:
        conf = documents.from_json(text or "")
    except ValueError:
        return None
    return conf if isinstance(conf, dict) and isinstance(conf.get("Backend"), dict) else None


def net_conf_text(conf: Mapping[str, Any]) -> str:
    return json.dumps(conf, indent=2) + "\n"


def masked(text: str) -> str:
    """A net-conf.json for a diff: without its preshared key."""
    return re.sub(r'(?i)("PSK"\s*:\s*)"[^"]*"', r'\1"(hidden)"', text)


def has_secret(conf: Mapping[str, Any] | None) -> bool:
    return any(key.lower() == "psk" for key in (conf or {}).get("Backend", {}))


def devices(conf: Mapping[str, Any] | None) -> list[str]:
    """The devices that flanneld makes for this configuration and leaves behind when it stops."""
    backend = (conf or {}).get("Backend", {})
    vni = backend.get("VNI", 1)
    return {
        "vxlan": [f"flannel.{vni}", f"flannel-v6.{vni}"],
        "wireguard": ["flannel-wg", "flannel-wg-v6"],
        "ipip": ["flannel.ipip"],
        "udp": ["flannel0"],
    }.get(str(backend.get("Type")), [])


def stale_devices(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Devices to delete between two configurations: flanneld keeps one that is there, with its former MTU and flags.

    Without a former configuration there are none: any device that exists is foreign.
    """
    if old is None or new is None:
        return []
    before, after = ({key: conf["Backend"].get(key) for key in DEVICE_SETTINGS} for conf in (old, new))
    return devices(old) if before != after else []


def makes_direct_routes(conf: Mapping[str, Any] | None) -> bool:
    """Does flanneld make a route to each node, past any device? Those outlive it, and win over wider ones."""
    backend = (conf or {}).get("Backend", {})
    return bool(backend.get("Type") == "host-gw" or backend.get("DirectRouting"))


def disagreements(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """What nodes must have in common and does not between two configurations, a text each: "VNI from 1 to 7"."""
    if old is None:
        return []
    before, after = _agreed(old), _agreed(new)
    if before["Type"] != after["Type"]:
        return [f"Type from {before['Type']} to {after['Type']}"]
    return [
        key if key == "PSK" else f"{key} from {before[key]} to {after[key]}"
        for key in before
        if before[key] != after[key]
    ]


def _agreed(conf: Mapping[str, Any]) -> dict[str, Any]:
    # flanneld reads keys in any case, and takes a missing type for udp.
    backend = {key.lower(): value for key, value in conf["Backend"].items()}
    kind = str(backend.get("type") or "udp")
    return {"Type": kind, **{key: backend.get(key.lower()) or value for key, value in AGREED.get(kind, {}).items()}}


def state_digest(conf: Mapping[str, Any], unit: str, binary: str, kubeconfig: str) -> str:
    """One digest over all that a running flanneld has read at its start, and so needs a restart for.

    ``unit``: its text; ``binary``: the program's own digest; ``kubeconfig``: see ``kubeconfig_identity``.
    """
    _before, _head, service = unit.partition("[Service]\n")
    lines = service.partition("\n[Install]")[0].splitlines()
    # How long systemd waits is nothing that flanneld reads.
    ignored = ("#", f"Environment={STATE_VARIABLE}=", "TimeoutStartSec=")
    kept = [line for line in lines if not line.startswith(ignored)]
    content = json.dumps([conf, kept, binary, kubeconfig], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def kubeconfig_identity(text: str) -> str:
    """What of a kubeconfig is read once: where to, whom to trust, and which certificate, where that is embedded.

    A certificate by path shows as its path only, since client-go reads the file again when it changes. No key and no
    token is looked at; a key changes with its certificate.
    """
    names = "|".join(KUBECONFIG_FIELDS)
    found = re.findall(rf"(?<![\w-])[\"']?({names})[\"']?\s*:\s*[\"']?([^\"'\s,}}]+)", text)
    return json.dumps(sorted(set(found)))


def authority_path(text: str) -> str:
    """The path of the CA that a kubeconfig names, "" where it is embedded. client-go reads that file only once."""
    match = re.search(r"(?<![\w-])[\"']?certificate-authority[\"']?\s*:\s*[\"']?([^\"'\s,}]+)", text)
    return match[1] if match else ""


def is_ours(unit: str | None) -> bool:
    return (unit or "").startswith(HEADER)


def record(unit: str | None) -> Record | None:
    """What was installed together with our unit; None for any other unit."""
    if not is_ours(unit):
        return None
    values: dict[str, list[str]] = {"NetConf": [], "SubnetFile": [], "Link": []}
    for line in str(unit).partition(f"{RECORD}\n")[2].splitlines():
        key, _equals, value = line.partition("=")
        values.setdefault(key, []).append(value)
    links = dict(value.split(" ", 1) for value in values["Link"])
    return Record((values["NetConf"] or [""])[0], (values["SubnetFile"] or [""])[0], links)


def flags(options: Mapping[str, Any]) -> list[str]:
    """flanneld's command line, without options that have their default value."""
    words = [
        "--kube-subnet-mgr",
        f"--kube-api-url={options['api_url']}",
        f"--kubeconfig-file={options['kubeconfig']}",
        f"--net-config-path={options['net_conf_path']}",
        f"--subnet-file={options['subnet_file']}",
        *(["--ip-masq"] if options["ip_masq"] else []),
        *(f"--iface={name}" for name in options["iface"]),
    ]
    if options["iface_can_reach"]:
        words.append(f"--iface-can-reach={options['iface_can_reach']}")
    words += [f"--public-ip{'v6' if ':' in address else ''}={address}" for address in options["public_ip"]]
    if options["healthz_port"]:
        # flanneld's own default address is 0.0.0.0.
        words += ["--healthz-ip=127.0.0.1", f"--healthz-port={options['healthz_port']}"]
    if options["iptables_resync"] != ARGUMENT_SPEC["iptables_resync"]["default"]:
        words.append(f"--iptables-resync={options['iptables_resync']}")
    if options["verbosity"]:
        words.append(f"-v={options['verbosity']}")
    return words


def unit_text(options: Mapping[str, Any], conf: Mapping[str, Any], state: str, modprobe: str) -> str:
    """The unit. ``modprobe``: the command's path where iptables-legacy is in use, else ""."""
    lines = [
        HEADER,
        "[Unit]",
        "Description=flannel: the pod network of this node (weft.podnet)",
        "Documentation=https://github.com/flannel-io/flannel",
        "Wants=network-online.target",
        # The firewalls empty the rule set when they start.
        "After=network-online.target nftables.service firewalld.service ufw.service",
        *(["Before=kubelet.service"] if options["before_kubelet"] else []),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        # flanneld may wait for the API server for ever. What is ordered after it, as kubelet, waits no longer than
        # this; flanneld itself is started again.
        f"TimeoutStartSec={max(START_SECONDS, options['ready_timeout'] + START_MARGIN)}",
        "TimeoutStopSec=20",
        "Restart=always",
        "RestartSec=5",
        f"Environment=NODE_NAME={options['node_name']}",
        f"Environment={STATE_VARIABLE}={state}",
    ]
    if modprobe:
        lines += [
            "# iptables-legacy loads these itself, for which flanneld's own rights do not suffice.",
            f"ExecStartPre=-+{modprobe} --all --quiet ip_tables ip6_tables",
        ]
    command = [options["flanneld"], *flags(options)]
    lines += ["ExecStart=" + " \\\n  ".join(word.replace("%", "%%") for word in command)]
    lines += _hardening(options, conf)
    lines += ["", "[Install]", "WantedBy=multi-user.target", "", RECORD]
    lines += [f"NetConf={options['net_conf_path']}", f"SubnetFile={options['subnet_file']}"]
    lines += [f"Link={destination} {source}" for destination, source in sorted(options["binaries"].items())]
    return "\n".join([*lines, ""])


def _hardening(options: Mapping[str, Any], conf: Mapping[str, Any]) -> Iterable[str]:
    folder = str(PurePosixPath(options["subnet_file"]).parent)
    # Writable: subnet.env's folder, and /run for xtables.lock, which may not be there yet.
    writable = ["/run"] if f"{folder}/".startswith("/run/") else ["/run", folder]
    return [
        "RuntimeDirectory=flannel",
        "RuntimeDirectoryMode=0755",
        "RuntimeDirectoryPreserve=yes",
        "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        f"ReadWritePaths={' '.join(writable)}",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        # The backend udp needs /dev/net/tun.
        *([] if conf["Backend"]["Type"] == "udp" else ["PrivateDevices=yes"]),
        "ProtectControlGroups=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectClock=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
    ]
