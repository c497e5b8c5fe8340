# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of flanneld's stand-in: flags, net-conf.json, kubeconfig, Nodes, rules and devices."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from standins.flanneld import goflags, kubeconfig, netconf, nodes, traffic, vxlan
from support.flanneld_standin import ENV

NAMES = nodes.names("flannel.alpha.coreos.com")
NETWORK, SUBNET = IPv4Network("10.244.0.0/16"), IPv4Network("10.244.1.0/24")
DATA = '{"VNI":1,"VtepMAC":"5e:0a:77:82:8c:24"}'


def node(pod_cidr: str | None = "10.244.1.0/24", **annotations: str) -> dict[str, Any]:
    named = {f"flannel.alpha.coreos.com/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"metadata": {"name": "n2", "annotations": named}, "spec": {"podCIDR": pod_cidr} if pod_cidr else {}}


# Flags


def test_flags_in_every_spelling_and_from_the_environment() -> None:
    words = ["-kube-subnet-mgr", "--iface=eth0", "-iface", "eth1", "--v", "4", "-ip-masq=false", "--", "-x"]
    flags, given = goflags.parse(words, (0, 27, 2))
    assert flags["kube-subnet-mgr"] is True and flags["iface"] == ["eth0", "eth1"] and flags["v"] == 4
    assert flags["subnet-file"] == "/run/flannel/subnet.env" and "ip-masq-fully-random-disable" not in flags
    environ = {"FLANNELD_IP_MASQ": "true", "FLANNELD_PUBLIC_IP": "192.0.2.1", "FLANNELD_HEALTHZ_PORT": "x"}
    problems = goflags.from_environment(flags, given, environ)
    assert problems == ['invalid value "x" for FLANNELD_HEALTHZ_PORT: parse error']
    assert flags["ip-masq"] is False and flags["public-ip"] == "192.0.2.1", "the command line comes first"
    assert goflags.parse([], (0, 27, 2))[0]["iface"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-nope"], "flag provided but not defined: -nope"),
        (["-ip-masq-fully-random-disable"], "flag provided but not defined: -ip-masq-fully-random-disable"),
        (["-public-ip"], "flag needs an argument: -public-ip"),
        (["-ip-masq=maybe"], 'invalid boolean value "maybe" for -ip-masq: parse error'),
        (["-v=x"], 'invalid value "x" for flag -v: parse error'),
    ],
)
def test_wrong_flags(words: list[str], said: str) -> None:
    with pytest.raises(goflags.FlagError, match=said):
        goflags.parse(words, (0, 27, 2))


# net-conf.json


def test_net_conf_is_read_with_gos_leniency() -> None:
    found = netconf.parse(
        '{"network": "10.244.7.9/16", "Nonsense": [], "BACKEND": {"type": "vxlan", "directrouting": true}}'
    )
    assert (found.network, found.backend_type, found.enable_ipv4, found.enable_nftables) == (
        NETWORK,
        "vxlan",
        True,
        False,
    )
    settings = netconf.vxlan(found.backend, 1500)
    assert settings == netconf.VxlanConf(1, 0, 1500, False, False, True)
    assert netconf.parse('{"Network": "10.244.0.0/16"}').backend_type == "udp"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unexpected end of JSON input"),
        ("[]", "cannot unmarshal array"),
        ('{"Network": "10.244.0.0"}', "invalid CIDR address: 10.244.0.0"),
        ('{"EnableNFTables": "no"}', "cannot unmarshal string into Go struct field Config.EnableNFTables of type bool"),
    ],
)
def test_wrong_net_conf(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        netconf.parse(text)


# Kubeconfig


def test_kubeconfig_is_read_as_a_yaml_reader_does(tmp_path: Path) -> None:
    text = """\
apiVersion: v1
kind: Config
# a comment
clusters:
  - name: default
    cluster: {}
  - cluster:
      server: "https://control-plane:6443"  # another
      certificate-authority-data: 'QUJD'
    name: other
contexts:
- context:
    cluster: other
    user: default
  name: default
current-context: default
preferences: {}
users:
-
  name: default
  user:
    client-certificate: pki/flannel.crt
    client-key: /etc/flannel.key
"""
    assert kubeconfig.read_yaml(text) == yaml.safe_load(text)
    assert kubeconfig.read_yaml(json.dumps(yaml.safe_load(text))) == yaml.safe_load(text)
    (tmp_path / "flannel.conf").write_text(text)
    with pytest.raises(
        ValueError, match=r"invalid configuration: \[unable to read client-cert .*flannel.crt for default"
    ):
        kubeconfig.load(str(tmp_path / "flannel.conf"))
    (tmp_path / "flannel.conf").write_text(text.replace("/etc/flannel.key", "flannel.key"))
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "flannel.crt").touch()
    (tmp_path / "flannel.key").touch()
    access = kubeconfig.load(str(tmp_path / "flannel.conf"))
    assert (access.server, access.ca) == ("https://control-plane:6443", b"ABC")
    assert access.cert == tmp_path / "pki" / "flannel.crt"
    assert kubeconfig.load(str(tmp_path / "flannel.conf"), "https://192.0.2.1/").server == "https://192.0.2.1"


@pytest.mark.parametrize("text", ["clusters: []\n  x: 1\n", "a: {b: c}\n", "- a\n- b\n", "just text\n", "a: 1\nb\n"])
def test_wrong_kubeconfig(text: str) -> None:
    with pytest.raises(ValueError, match=r"yaml|mapping"):
        kubeconfig.read_yaml(text)


# Nodes


def test_a_node_becomes_a_lease() -> None:
    found = nodes.lease(node(backend_data=DATA, backend_type="vxlan", public_ip="172.31.0.12"), NAMES, [4])
    assert found == nodes.Lease("vxlan", (nodes.Part(SUBNET, ip_address("172.31.0.12"), DATA),))
    with pytest.raises(ValueError, match="invalid IP address format"):
        nodes.lease(node(), NAMES, [4])
    with pytest.raises(ValueError, match="missing IPv4 address"):
        nodes.lease(node("fd00::/64", public_ip="172.31.0.12"), NAMES, [4])
    dual = node(public_ip="172.31.0.12", public_ipv6="fd00::12", backend_v6_data="{}")
    dual["spec"]["podCIDRs"] = ["fd00:1::/64", "10.244.9.0/24"]
    assert [str(subnet) for subnet in nodes.lease(dual, NAMES, [4, 6]).subnets] == ["10.244.9.0/24", "fd00:1::/64"]
    with pytest.raises(ValueError, match="invalid IP address format"):
        nodes.lease(node(public_ip="172.31.0.12"), NAMES, [4, 6])


def test_only_flannels_annotations_are_an_update() -> None:
    one = node(public_ip="172.31.0.12")
    assert not nodes.changed(one, node("10.244.2.0/24", public_ip="172.31.0.12", other="x"), NAMES, [4])
    moved = node(public_ip="172.31.0.13")
    assert nodes.changed(one, moved, NAMES, [4])
    assert not nodes.changed(one, moved, NAMES, [4, 6]), "in dual stack both must differ, as in flanneld"


def test_the_stored_mac_needs_flannelds_compact_json() -> None:
    assert nodes.stored_mac(node(backend_data=DATA), NAMES, 4) == "5e:0a:77:82:8c:24"
    assert nodes.stored_mac(node(backend_data=DATA.replace(":", ": ")), NAMES, 4) == ""
    assert nodes.stored_mac(node(backend_data=DATA.replace("5e", "xx")), NAMES, 4) == ""
    assert nodes.stored_mac(node(), NAMES, 4) == "" and nodes.vxlan_data(1, "5e:0a:77:82:8c:24") == DATA


def test_the_patch_holds_what_differs() -> None:
    assert nodes.annotation_patch(node(), NAMES, "vxlan", [(4, "172.31.0.12", DATA)]) == {
        "metadata": {
            "annotations": {
                "flannel.alpha.coreos.com/backend-data": DATA,
                "flannel.alpha.coreos.com/backend-type": "vxlan",
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                "flannel.alpha.coreos.com/public-ip": "172.31.0.12",
            }
        }
    }
    done = node(backend_data=DATA, backend_type="vxlan", kube_subnet_manager="true", public_ip="172.31.0.12")
    assert nodes.annotation_patch(done, NAMES, "vxlan", [(4, "172.31.0.12", DATA)]) is None
    moved = node(public_ip_overwrite="192.0.2.1")
    patch = nodes.annotation_patch(moved, NAMES, "vxlan", [(4, "172.31.0.12", DATA)])
    assert patch is not None and patch["metadata"]["annotations"][NAMES.families[4].public_ip] == "192.0.2.1"


def test_the_own_subnet() -> None:
    assert nodes.own_subnets(node(), [NETWORK]) == (SUBNET,)
    with pytest.raises(ValueError, match='node "n2" pod cidr not assigned'):
        nodes.own_subnets(node(None), [NETWORK])
    said = 'subnet "10.0.0.0/16" specified in .* doesn\'t contain "10.244.1.0/24" PodCIDR of the "n2" node'
    with pytest.raises(ValueError, match=said):
        nodes.own_subnets(node(), [IPv4Network("10.0.0.0/16")])
    assert nodes.subnet_env([NETWORK], [SUBNET], 1450, True) == ENV


# Rules and devices


def test_rules_that_are_there_are_put_in_order() -> None:
    rules = traffic.forward_rules(NETWORK)
    assert traffic.restore_text(rules, {rules[1]}).splitlines() == [
        "*filter",
        '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
        '-D FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
        '-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
        '-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
        "COMMIT",
    ]
    specs = [" ".join(rule.spec) for rule in traffic.masquerade_rules(NETWORK, SUBNET, fully_random=False)]
    assert len(specs) == 7 and "-m mark --mark 0x4000/0x4000" in specs[1] and "--random-fully" not in " ".join(specs)


def test_which_device_can_stay() -> None:
    conf = netconf.VxlanConf(1, 0, 1500, False, False, False)
    data = {"id": 1, "link": "eth0", "local": "172.31.0.11", "port": 4789, "learning": True}
    link = {"mtu": 1300, "linkinfo": {"info_kind": "vxlan", "info_data": data}}
    assert vxlan.incompatible(link, conf, "eth0", "172.31.0.11") == "", (
        "MTU, learning and the default port do not count"
    )
    assert vxlan.incompatible(link, conf, "eth1", "172.31.0.11") == "vtep (external) interface: eth1 vs eth0"
    assert vxlan.incompatible(link, conf, "eth0", "172.31.0.9") == "vtep (external) IP: 172.31.0.9 vs 172.31.0.11"
    assert vxlan.incompatible({}, conf, "eth0", "") == "link type: vxlan vs device"
    assert vxlan.incompatible(link, netconf.VxlanConf(1, 8472, 1500, False, False, False), "eth0", "172.31.0.11") == (
        "port: 8472 vs 4789"
    )
    assert all(int(vxlan.new_mac()[:2], 16) & 3 == 2 for _time in range(50))
