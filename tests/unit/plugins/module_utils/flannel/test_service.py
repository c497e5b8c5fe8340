# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld.service as text, what makes it restart, what its silence means, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.core import leftovers as core_leftovers
from ansible_collections.weft.podnet.plugins.module_utils.core.flanneld import CHAINS
from ansible_collections.weft.podnet.plugins.module_utils.flannel import leftovers as flannel_leftovers
from ansible_collections.weft.podnet.plugins.module_utils.flannel import ready as flannel_ready
from ansible_collections.weft.podnet.plugins.module_utils.flannel import state as flannel_state
from ansible_collections.weft.podnet.plugins.module_utils.flannel import unit as flannel_unit

CONF = {"Network": "10.244.0.0/16", "EnableNFTables": False, "Backend": {"Type": "vxlan"}}
DEFAULTS = {name: rule.get("default") for name, rule in flannel_unit.ARGUMENT_SPEC.items()}
OPTIONS: dict[str, Any] = {
    **DEFAULTS,
    "net_conf": {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}},
    "node_name": "worker-1",
    "api_url": "https://control-plane:6443",
    "binaries": {"/usr/local/bin/flanneld": "/opt/weft-podnet/flannel/v1/flanneld"},
}


def unit(conf: dict[str, Any] | None = None, state: str = "0", modprobe: str = "", **changes: Any) -> str:
    return flannel_unit.unit_text({**OPTIONS, **changes}, conf or CONF, state, modprobe)


def digest(conf: dict[str, Any] | None = None, binary: str = "b", kubeconfig: str = "k", **changes: Any) -> str:
    return flannel_unit.state_digest(conf or CONF, unit(conf, **changes), binary, kubeconfig)


def test_the_unit_says_what_the_lesson_says() -> None:
    text = unit(iface=["172.16.0.3", "eth1"], state="abc")
    for line in (
        "Type=notify",
        # kubelet, which waits for it, starts in the end.
        "TimeoutStartSec=120",
        "Environment=NODE_NAME=worker-1",
        "Environment=PODNET_STATE=abc",
        "WantedBy=multi-user.target",
    ):
        assert line in text.splitlines()
    start = text.partition("ExecStart=")[2].partition("\nRuntimeDirectory")[0]
    assert start.replace("\\\n ", "").split() == [
        "/usr/local/bin/flanneld",
        "--kube-subnet-mgr",
        "--kube-api-url=https://control-plane:6443",
        "--kubeconfig-file=/etc/kubernetes/flannel.conf",
        "--net-config-path=/etc/flannel/net-conf.json",
        "--subnet-file=/run/flannel/subnet.env",
        "--ip-masq",
        "--iface=172.16.0.3",
        "--iface=eth1",
    ]
    assert "kubelet" not in text and "Before=kubelet.service" in unit(before_kubelet=True)


@pytest.mark.parametrize(
    "changes, flag",
    [
        ({"healthz_port": 8081}, "--healthz-ip=127.0.0.1 --healthz-port=8081"),
        ({"iface_can_reach": "172.16.0.2"}, "--iface-can-reach=172.16.0.2"),
        ({"public_ip": ["192.0.2.1"]}, "--public-ip=192.0.2.1"),
        ({"public_ip": ["2001:db8::1"]}, "--public-ipv6=2001:db8::1"),
        ({"public_ip": ["192.0.2.1", "2001:db8::1"]}, "--public-ip=192.0.2.1 --public-ipv6=2001:db8::1"),
        ({"iptables_resync": 30}, "--iptables-resync=30"),
        ({"verbosity": 4}, "-v=4"),
    ],
)
def test_flags(changes: dict[str, Any], flag: str) -> None:
    assert flag in " ".join(flannel_unit.flags({**OPTIONS, **changes}))
    assert flannel_unit.problems({**OPTIONS, **changes}) == []


def test_the_backend_udp_keeps_its_device_and_legacy_its_modules() -> None:
    assert "PrivateDevices=yes" in unit()
    assert "PrivateDevices" not in unit({**CONF, "Backend": {"Type": "udp"}})
    assert "ReadWritePaths=/run /var/lib/x" in unit(subnet_file="/var/lib/x/subnet.env")
    assert "ExecStartPre=-+/sbin/modprobe --all --quiet ip_tables" in unit(modprobe="/sbin/modprobe")


@pytest.mark.parametrize(
    "changes, pieces",
    [
        ({"net_conf": None, "node_name": None, "api_url": ""}, ["net_conf: is", "node_name: is", "api_url: is"]),
        ({"state": "absent", "net_conf": None, "node_name": None, "api_url": None}, []),
        ({"node_name": "Worker_1"}, ["node_name: found 'Worker_1'"]),
        ({"node_name": "a\nExecStartPre=x"}, ["node_name"]),
        ({"api_url": "control-plane:6443"}, ["api_url: found"]),
        ({"kubeconfig": "etc/x"}, ["kubeconfig: found 'etc/x', expected an absolute path"]),
        ({"net_conf_path": "/etc/a b"}, ["net_conf_path"]),
        ({"binaries": {"/a/b": "c", "/x": "/x"}}, ["binaries: /a/b: found 'c'", "/x: leads to itself"]),
        ({"binaries": {"/a/../b": 5}}, ["binaries: found '/a/../b'", "found 5"]),
        ({"iface": ["eth0 --x"]}, ["iface: found"]),
        ({"iface_can_reach": "here", "public_ip": ["1.2.3"]}, ["iface_can_reach", "public_ip"]),
        ({"healthz_port": 80, "ready_timeout": 0, "verbosity": 11}, ["verbosity", "ready_timeout", "healthz_port"]),
        ({"nftables": "true", "net_conf": CONF}, ["nftables: is true, but net_conf says EnableNFTables: false"]),
    ],
)
def test_problems(changes: dict[str, Any], pieces: list[str]) -> None:
    problems = flannel_unit.problems({**OPTIONS, **changes})
    assert len(problems) == len(pieces), problems
    assert all(piece in problem for piece, problem in zip(pieces, sorted(problems, key=problems.index)))


def test_what_makes_it_restart() -> None:
    same = digest()
    assert digest(before_kubelet=True) == same
    assert digest(binaries={"/usr/local/bin/flanneld": "/elsewhere/flanneld"}) == same
    assert flannel_unit.state_digest(CONF, unit(state="other"), "b", "k") == same
    others = [
        digest(binary="c"),
        digest(kubeconfig="l"),
        digest({**CONF, "EnableNFTables": True}),
        digest(node_name="worker-2"),
        digest(ip_masq=False),
        digest(iface=["eth1"]),
    ]
    assert len({same, *others}) == len(others) + 1


def test_a_kubeconfig_counts_by_what_is_read_once() -> None:
    embedded = "certificate-authority-data: QUFB\nclient-certificate-data: QkJC\nclient-key-data: S0VZ\ntoken: geheim\n"
    identity = flannel_unit.kubeconfig_identity(embedded)
    assert "QUFB" in identity and "QkJC" in identity
    assert "S0VZ" not in identity and "geheim" not in identity
    as_json = json.dumps(dict(line.split(": ") for line in embedded.splitlines()))
    assert flannel_unit.kubeconfig_identity(as_json) == identity
    assert flannel_unit.kubeconfig_identity(embedded.replace("QkJC", "Q0ND")) != identity
    by_path = "    certificate-authority: /etc/kubernetes/pki/ca.crt\n    client-certificate: /x.crt\n"
    assert flannel_unit.authority_path(by_path) == "/etc/kubernetes/pki/ca.crt"
    assert flannel_unit.authority_path(embedded) == ""
    assert "/x.crt" in flannel_unit.kubeconfig_identity(by_path)


def test_a_run_gives_up_before_systemd_does() -> None:
    assert "TimeoutStartSec=930" in unit(ready_timeout=900).splitlines()
    assert digest() == digest(ready_timeout=900)


def test_net_conf() -> None:
    given_conf = OPTIONS["net_conf"]
    assert flannel_unit.net_conf(OPTIONS, nftables=False) == CONF
    assert flannel_unit.net_conf(OPTIONS, nftables=True)["EnableNFTables"] is True
    assert flannel_unit.net_conf({**OPTIONS, "nftables": "false"}, nftables=True)["EnableNFTables"] is False
    said = {**OPTIONS, "net_conf": {**given_conf, "EnableNFTables": True}}
    assert flannel_unit.net_conf(said, nftables=False)["EnableNFTables"] is True
    secret = flannel_unit.net_conf({**OPTIONS, "psk": "geheim"}, nftables=False)
    text = flannel_unit.net_conf_text(secret)
    assert flannel_unit.parse_net_conf(text) == secret and flannel_unit.has_secret(secret)
    assert "geheim" in text and "geheim" not in flannel_unit.masked(text)
    assert [flannel_unit.parse_net_conf(text) for text in (None, "", "[]", "{", "{}")] == [None] * 5


@pytest.mark.parametrize(
    ("given", "mtu"),
    [
        ({"EnableIPv6": True, "Backend": {"Type": "vxlan"}}, 1480),
        ({"EnableIPv6": True, "EnableIPv4": False, "Backend": {"Type": "vxlan"}}, 1480),
        ({"EnableIPv6": True, "Backend": {"Type": "vxlan", "MTU": 1400}}, 1400),
        ({"EnableIPv6": True, "Backend": {"Type": "host-gw"}}, None),
        ({"EnableIPv6": True, "Backend": {"Type": "wireguard"}}, None),
        ({"Backend": {"Type": "vxlan"}}, None),
    ],
)
def test_pods_get_what_the_device_of_ipv6_takes(given: dict[str, Any], mtu: int | None) -> None:
    """The kernel gives it 70 bytes less than its interface has, and flanneld gives pods 50 less than MTU."""
    options = {**OPTIONS, "net_conf": given}
    assert flannel_unit.net_conf(options, False, 1500)["Backend"].get("MTU") == mtu
    assert flannel_unit.net_conf(options, False, 0) == {"EnableNFTables": False, **given}


@pytest.mark.parametrize(
    "old, new, stale",
    [
        ({"Type": "vxlan"}, {"Type": "vxlan"}, []),
        ({"Type": "vxlan"}, {"Type": "vxlan", "DirectRouting": True}, []),
        ({"Type": "vxlan"}, {"Type": "vxlan", "MTU": 1400}, ["flannel.1", "flannel-v6.1"]),
        ({"Type": "vxlan", "VNI": 7}, {"Type": "vxlan"}, ["flannel.7", "flannel-v6.7"]),
        ({"Type": "vxlan"}, {"Type": "host-gw"}, ["flannel.1", "flannel-v6.1"]),
        ({"Type": "host-gw"}, {"Type": "vxlan"}, []),
        ({"Type": "ipip"}, {"Type": "vxlan"}, ["flannel.ipip"]),
    ],
)
def test_devices_that_flanneld_would_keep(old: dict[str, Any], new: dict[str, Any], stale: list[str]) -> None:
    assert flannel_unit.stale_devices({"Backend": old}, {"Backend": new}) == stale
    assert flannel_unit.stale_devices(None, {"Backend": new}) == []


PATHS = st.from_regex(r"/[a-z0-9./_-]{1,20}", fullmatch=True)


@given(st.dictionaries(PATHS, PATHS, max_size=4), PATHS)
def test_a_unit_remembers_what_it_brought_along(binaries: dict[str, str], path: str) -> None:
    text = unit(binaries=binaries, net_conf_path=path)
    assert flannel_unit.record(text) == flannel_unit.Record(path, "/run/flannel/subnet.env", binaries)
    assert flannel_unit.record("[Service]\n") is None and flannel_unit.record(None) is None


def test_a_unit_of_somebody_else_is_in_the_way(tmp_path: Path) -> None:
    program = tmp_path / "flanneld"
    program.write_text("theirs")
    service = flannel_ready.Service("inactive", "dead", "", "loaded", flannel_unit.UNIT_PATH, 0, "", 0, "", "")
    found = flannel_state.observe([], [str(program)], service)._replace(files={flannel_unit.UNIT_PATH: "[Unit]\n"})
    wanted = found._replace(links={str(program): "/opt/x"})
    problems = flannel_state.adoption_problems(found, wanted, service, adopt=False)
    assert [problem.partition(":")[0] for problem in problems] == [flannel_unit.UNIT_PATH, str(program)]
    assert all("set adopt: true" in problem for problem in problems)
    assert flannel_state.adoption_problems(found, wanted, service, adopt=True) == []
    masked = service._replace(load="masked")
    assert "systemctl unmask" in flannel_state.adoption_problems(found, wanted, masked, adopt=True)[0]


@pytest.mark.parametrize(
    "env, problem",
    [
        ("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\n", ""),
        ("FLANNEL_NETWORK=10.245.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\n", "expected a subnet of 10.244.0.0/16"),
        ("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.245.3.1/24\n", "expected a subnet"),
        ("FLANNEL_NETWORK=10.244.0.0/16\n", "expected a subnet"),
        ("", "there is no"),
    ],
)
def test_ready_means_a_subnet_of_the_network(tmp_path: Path, env: str, problem: str) -> None:
    path = tmp_path / "subnet.env"
    path.write_text(env)
    service = flannel_ready.Service("active", "running", "enabled", "loaded", "", 1, "", 0, "", "")
    conf = {**CONF, "Backend": {"Type": "host-gw"}}
    told = flannel_ready.missing(service, conf, str(path))
    assert problem in told and bool(problem) == bool(told)
    assert "activating" in flannel_ready.missing(service._replace(active="activating"), conf, str(path))
    vxlan = {**CONF, "Backend": {"Type": "vxlan", "VNI": 16777215}}
    if not problem:
        assert "flannel.16777215 is not up" in flannel_ready.missing(service, vxlan, str(path))


@pytest.mark.parametrize(
    "line, piece",
    [
        ('Failed to create SubnetManager: error retrieving pod spec: nodes "worker2" not found', "no Node worker2;"),
        ('nodes is forbidden: User \\"system:flannel\\" cannot list resource', "RBAC"),
        ("failed to read net conf: open /etc/flannel/net-conf.json: no such file", "net_conf_path"),
        ("Failed to check br_netfilter: stat /proc/sys/net/bridge/bridge-nf-call-iptables", "modprobe br_netfilter"),
        ('failed to acquire lease: node "n1" pod cidr not assigned', "--allocate-node-cidrs"),
        (
            'subnet "10.244.0.0/16" specified in the flannel net config doesn\'t contain "10.9.0.0/24" PodCIDR',
            "the Node's podCIDR is outside",
        ),
        ("x509: certificate has expired or is not yet valid: current time", "clock"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "make both of one CA"),
        ("dial tcp 172.16.0.2:6443: connect: connection refused", "api_url"),
        ("Main process exited, code=exited, status=203/EXEC", "architecture"),
        ("main.go:410] Error registering network: Link not found", "an IPv4 and an IPv6 address on one interface"),
        (
            "Could not find interface matching 10.9.0.3: v6 interface eth1 must be the same with v4 interface eth0",
            "an IPv4 and an IPv6 address on one interface",
        ),
        ("Error registering network: could not create wireguard device: operation not supported", "load its module"),
    ],
)
def test_what_messages_mean(line: str, piece: str) -> None:
    (meaning,) = flannel_ready.meanings(["flannel is ready", line, line])
    assert piece in meaning


def test_the_journal_without_repetitions() -> None:
    lines = [f"E1122 13:14:{second:02} 1 reflector.go:200] nodes is forbidden: User" for second in range(40)]
    assert flannel_ready.last_lines(["I1122 13:14:00.0 1 main.go:1] hello", *lines, ""]) == lines[-1:]
    assert flannel_ready.last_lines(["I1122 13:14:00.0 1 main.go:1] hello"]) == ["I1122 13:14:00.0 1 main.go:1] hello"]


SAVED = """\
*filter
:FORWARD ACCEPT [0:0]
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FORWARD -j DOCKER
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
:CNI-abc - [0:0]
COMMIT
"""


def test_jumps_go_before_the_chain() -> None:
    fwd, post = core_leftovers.in_saved("/sbin/iptables-nft", "", SAVED, CHAINS.__contains__)
    base = ["/sbin/iptables-nft", "-w", "10", "-t"]
    assert fwd.commands == [
        [*base, "filter", "-D", "FORWARD", "-m", "comment", "--comment", "flanneld forward", "-j", "FLANNEL-FWD"],
        [*base, "filter", "-F", "FLANNEL-FWD"],
        [*base, "filter", "-X", "FLANNEL-FWD"],
    ]
    assert post.text == "iptables-nft: nat, chain FLANNEL-POSTRTG"
    assert core_leftovers.in_saved("x", "", "*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n", CHAINS.__contains__) == []


def test_only_routes_of_flanneld_go(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = [
        {"dst": "10.244.1.0/24", "gateway": "172.16.0.4", "dev": "eth0"},
        {"dst": "10.244.2.0/24", "gateway": "10.244.2.0", "dev": "flannel.1"},
        {"dst": "10.244.3.0/24", "gateway": "10.244.0.9", "dev": "cni0"},
        {"dst": "10.244.0.0/24", "dev": "eth0"},
        {"dst": "10.9.0.0/24", "gateway": "172.16.0.4", "dev": "eth0"},
        # The whole network by hand, and a mesh on another device.
        {"dst": "10.244.0.0/16", "gateway": "172.16.0.4", "dev": "eth0"},
        {"dst": "10.244.4.0/24", "gateway": "10.244.4.0", "dev": "flannel.7"},
        {"dst": "default", "gateway": "172.16.0.1", "dev": "eth0"},
    ]

    def run(_argv: list[str]) -> tuple[int, str, str]:
        return 0, json.dumps(routes), ""

    (found,) = flannel_leftovers._routes(run, "-4", {"10.244.0.0/16"}, ["flannel.1"])
    assert found.text == "route 10.244.1.0/24 via 172.16.0.4 dev eth0"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"Type": "host-gw"}, {"Type": "wireguard"}, ["Type from host-gw to wireguard"]),
        ({"type": "vxlan"}, {"Type": "vxlan", "VNI": 1, "Port": 8472}, []),
        ({"Type": "vxlan"}, {"Type": "vxlan", "DirectRouting": True, "MTU": 1400}, []),
        (
            {"Type": "vxlan", "VNI": 1},
            {"Type": "vxlan", "VNI": 7, "Port": 1},
            ["VNI from 1 to 7", "Port from 8472 to 1"],
        ),
        ({"Type": "wireguard", "PSK": "one"}, {"Type": "wireguard", "PSK": "two"}, ["PSK"]),
        ({}, {"Type": "udp"}, []),
    ],
)
def test_what_nodes_must_have_alike(old: dict[str, Any], new: dict[str, Any], told: list[str]) -> None:
    assert flannel_unit.disagreements({"Backend": old}, {"Backend": new}) == told
    assert flannel_unit.disagreements(None, {"Backend": new}) == []


@pytest.mark.parametrize("tables, expected", [("table ip kube-proxy\n", True), ("table ip nat\n", False)])
def test_nftables_follows_kube_proxy(tables: str, expected: bool) -> None:
    def run(_argv: list[str]) -> tuple[int, str, str]:
        return 0, tables, ""

    assert flannel_leftovers.nft_of_kube_proxy(run, lambda name: name) is expected
    assert flannel_leftovers.nft_of_kube_proxy(run, lambda _name: None) is False


def test_the_former_state_of_a_killed_run_of_an_older_version_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flannel_state, "FORMER", str(tmp_path / "former.json"))
    links = {"/a": "(text of an older version)", "/b": "/opt/b", "/c": None}
    flannel_state.keep_former(flannel_state.State({}, links, False, False, "", []))
    former = flannel_state.read_former()
    assert former is not None and former.links == {**links, "/a": flannel_state.FILE}
