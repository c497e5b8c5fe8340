# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schemas and rules of CNI configurations: what must pass, what must not, and what the user reads then."""

from __future__ import annotations

import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.plugin_utils.cni import schema as cni_schema
from ansible_collections.weft.podnet.plugins.plugin_utils.cni.schema import validate

VALID = sorted((Path(__file__).parents[3] / "data" / "cni" / "valid").glob("*.json"))
HOST_LOCAL = {"type": "host-local", "subnet": "10.244.0.0/24"}
BRIDGE: dict[str, Any] = {"type": "bridge", "bridge": "cni0", "ipam": HOST_LOCAL}


def one(**keys: Any) -> dict[str, Any]:
    """The bridge as a single plugin; a key given as None is left out."""
    config = {"cniVersion": "1.0.0", "name": "bridge", **BRIDGE, **keys}
    return {key: value for key, value in config.items() if value is not None}


def ipam(**keys: Any) -> dict[str, Any]:
    return one(ipam={"type": "host-local", **keys})


def many(*plugins: Any, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": list(plugins), **keys}


def after_bridge(**plugin: Any) -> dict[str, Any]:
    return many(BRIDGE, plugin)


def file_for(config: dict[str, Any]) -> str:
    return "10-pods.conflist" if "plugins" in config else "10-pods.conf"


# id, configuration, file name (None: the right one), expected path, expected piece of the message
BROKEN: list[tuple[str, Any, Any, str, str]] = [
    # keys
    ("unknown key", one(isGatway=True), None, "$.isGatway", "unknown key 'isGatway'; did you mean 'isGateway'?"),
    ("unknown key, nothing near", one(zzz=1), None, "$.zzz", "expected one of args, bridge, capabilities"),
    ("unknown key in ipam", ipam(subnets="10.1.0.0/24"), None, "$.ipam.subnets", "did you mean 'subnet'?"),
    ("unknown key in a range", ipam(ranges=[[{"subnet": "10.1.0.0/24", "start": "10.1.0.9"}]]), None,
     "$.ipam.ranges[0][0].start", "unknown key"),
    ("unknown key of a list", many(BRIDGE, disablecheck=True), None, "$.disablecheck", "did you mean 'disableCheck'?"),
    ("unknown key in a delegate", many({"type": "flannel", "delegate": {"hairpin": True}}), None,
     "$.plugins[0].delegate.hairpin", "did you mean 'hairpinMode'?"),
    ("unknown capability", one(capabilities={"portMapping": True}), None, "$.capabilities.portMapping", "portMappings"),
    ("case", one(isgateway=True), None, "$.isgateway", "write 'isGateway'"),
    ("case of type", {"cniVersion": "1.0.0", "name": "x", "Type": "bridge"}, None, "$.Type", "write 'type'"),
    ("case of plugins", {"cniVersion": "1.0.0", "name": "x", "Plugins": [BRIDGE]}, "x.conflist", "$.Plugins",
     "'plugins'"),
    ("case, twice", one(isGateway=True, ISGATEWAY=False), None, "$.ISGATEWAY", "the later one wins"),
    ("reserved runtimeConfig", one(runtimeConfig={}), None, "$.runtimeConfig", "reserved"),
    ("reserved args", after_bridge(type="tuning", args={"cni": {}}), None, "$.plugins[1].args", "reserved"),
    ("reserved prevResult", many(BRIDGE, prevResult={}), None, "$.prevResult", "reserved"),
    ("reserved cni.dev", one(**{"cni.dev/valid-attachments": []}), None, "$['cni.dev/valid-attachments']", "reserved"),
    ("name inside a list", many({**BRIDGE, "name": "x"}), None, "$.plugins[0].name", "belongs to the list"),
    ("key that is no string", {**one(), 5: 1}, None, "$", "key 5 is no string"),
    # types and values
    ("no dictionary", ["a"], "x.conf", "$", "(list), expected a dictionary"),
    ("nothing", None, "x.conf", "$", "expected a dictionary"),
    ("string for a number", one(mtu="1500"), None, "$.mtu", "found '1500' (string), expected a whole number"),
    ("fraction for a number", one(mtu=1500.0), None, "$.mtu", "found 1500.0 (number), expected a whole number"),
    ("truth for a number", one(mtu=True), None, "$.mtu", "found true (boolean), expected a whole number"),
    ("string for truth", one(ipMasq="yes"), None, "$.ipMasq", "expected true or false; write it without quotes"),
    ("number for a string", one(bridge=0), None, "$.bridge", "expected a string; quote it"),
    ("list for a dictionary", one(ipam=[]), None, "$.ipam", "expected a dictionary"),
    ("plugin that is no dictionary", many("bridge"), None, "$.plugins[0]", "expected a dictionary"),
    ("plugins that are no list", many(plugins=BRIDGE), "x.conflist", "$.plugins", "expected a list"),
    ("too large", after_bridge(type="portmap", markMasqBit=32), None, "$.plugins[1].markMasqBit", "at most 31"),
    ("negative", one(mtu=-1), None, "$.mtu", "at least 0"),
    ("reserved VLAN", one(type="vlan", bridge=None, master="eth0", vlanId=4095), None, "$.vlanId", "at most 4094"),
    ("mode", one(type="macvlan", bridge=None, mode="briged"), None, "$.mode", "did you mean 'bridge'?"),
    ("interface name", one(bridge="a-name-of-16-byte"), None, "$.bridge", "1 to 15 bytes"),
    ("interface name with a slash", one(bridge="a/b"), None, "$.bridge", "no space, '/'"),
    ("sysctl outside net", after_bridge(type="tuning", sysctl={"kernel.pid_max": "1", "vm.swappiness": "1"}), None,
     "$.plugins[1].sysctl", "found 'vm.swappiness'; only sysctls below net."),
    ("sysctl as a number", after_bridge(type="tuning", sysctl={"net.a": 1}), None,
     "$.plugins[1].sysctl['net.a']", "quote"),
    ("multicast MAC", after_bridge(type="tuning", mac="01:00:5e:00:00:01"), None, "$.plugins[1].mac", "multicast"),
    ("MAC", after_bridge(type="tuning", mac="02:00:5e:00:00"), None, "$.plugins[1].mac", "hardware address"),
    ("relative path", ipam(subnet="10.1.0.0/24", dataDir="leases"), None, "$.ipam.dataDir", "absolute path"),
    ("PCI address", one(type="host-device", bridge=None, pciBusID="1f.6"), None, "$.pciBusID", "0000:00:1f.6"),
    ("DHCP option", one(ipam={"type": "dhcp", "request": [{"option": "256"}]}), None, "$.ipam.request[0].option",
     "0 to 255"),
    ("disableCheck", many(BRIDGE, disableCheck="no"), None, "$.disableCheck", "expected true or false"),
    ("date", one(ipMasqBackend=datetime.date(2024, 1, 1)), None, "$.ipMasqBackend", "JSON has no form"),
    # addresses
    ("host bits", ipam(subnet="10.244.0.1/24"), None, "$.ipam.subnet", "the network is 10.244.0.0/24"),
    ("host bits of IPv6", ipam(subnet="fd00::1/64"), None, "$.ipam.subnet", "the network is fd00::/64"),
    ("host bits of a route", ipam(subnet="10.1.0.0/24", routes=[{"dst": "10.0.0.1/8"}]), None, "$.ipam.routes[0].dst",
     "the network is 10.0.0.0/8"),
    ("no prefix", ipam(subnet="10.244.0.0"), None, "$.ipam.subnet", "prefix length from /0 to /32"),
    ("mask for a prefix", ipam(subnet="10.244.0.0/255.255.255.0"), None, "$.ipam.subnet", "prefix length"),
    ("no network", ipam(subnet="pods"), None, "$.ipam.subnet", "expected a network in CIDR form"),
    ("no address", ipam(subnet="10.1.0.0/24", gateway="10.1.0.256"), None, "$.ipam.gateway", "IPv4 or IPv6 address"),
    ("address with a zone", ipam(subnet="fe80::/64", gateway="fe80::1%eth0"), None, "$.ipam.gateway", "address"),
    ("route without dst", ipam(subnet="10.1.0.0/24", routes=[{"gw": "10.1.0.1"}]), None, "$.ipam.routes[0]", "'dst'"),
    ("route of two families", ipam(subnet="10.1.0.0/24", routes=[{"dst": "::/0", "gw": "10.1.0.1"}]), None,
     "$.ipam.routes[0].gw", "one family"),
    ("subnet too small", ipam(subnet="10.1.0.0/31"), None, "$.ipam.subnet", "/30 or shorter"),
    ("IPv6 subnet too small", ipam(subnet="fd00::/127"), None, "$.ipam.subnet", "/126 or shorter"),
    ("no subnet", ipam(), None, "$.ipam", "host-local has no addresses"),
    ("rangeStart without subnet", ipam(rangeStart="10.1.0.1", ranges=[[HOST_LOCAL | {"type": None}]]), None,
     "$.ipam.rangeStart", "needs 'subnet'"),
    ("rangeStart outside", ipam(subnet="10.1.0.0/24", rangeStart="10.2.0.1"), None, "$.ipam.rangeStart", "outside"),
    ("rangeEnd outside", ipam(subnet="10.1.0.0/24", rangeEnd="10.2.0.1"), None, "$.ipam.rangeEnd",
     "outside the subnet"),
    ("gateway outside", ipam(ranges=[[{"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}]]), None,
     "$.ipam.ranges[0][0].gateway", "found '10.2.0.1', outside the subnet 10.1.0.0/24"),
    ("range the wrong way round", ipam(subnet="10.1.0.0/24", rangeStart="10.1.0.9", rangeEnd="10.1.0.4"), None,
     "$.ipam.rangeStart", "after 10.1.0.4"),
    ("overlap in a set", ipam(ranges=[[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.128/25"}]]), None,
     "$.ipam.ranges[0][1]", "range 10.1.0.129-10.1.0.254 overlaps 10.1.0.1-10.1.0.254 of $.ipam.ranges[0][0]"),
    ("overlap of sets", ipam(subnet="10.1.0.0/24", ranges=[[{"subnet": "10.1.0.0/16"}]]), None,
     "$.ipam.ranges[0][0]", "of $.ipam"),
    ("set of two families", ipam(ranges=[[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]), None,
     "$.ipam.ranges[0][1]", "a set has one family"),
    ("empty set", ipam(ranges=[[]]), None, "$.ipam.ranges[0]", "is an empty list"),
    ("static address without prefix", one(ipam={"type": "static", "addresses": [{"address": "10.1.0.1"}]}), None,
     "$.ipam.addresses[0].address", "such as 10.244.0.5/24"),
    # names and versions
    ("bad name", one(name="my network"), None, "$.name", "letter or digit first"),
    ("name with a line end", one(name="bridge\n"), None, "$.name", "letter or digit first"),
    ("no name", one(name=None), None, "$", "required key 'name' is missing"),
    ("no cniVersion", one(cniVersion=None), None, "$",
     "required key 'cniVersion' is missing; an absent one is read as 0.1.0"),
    ("unknown cniVersion", one(cniVersion="1.2.0"), None, "$.cniVersion", "valid: 0.1.0, 0.2.0"),
    ("cniVersion as a number", one(cniVersion=1.0), None, "$.cniVersion",
     "found 1.0 (number), expected a string; quote it"),
    ("list too old", many(BRIDGE, cniVersion="0.2.0"), None, "$.cniVersion", "lists need cniVersion 0.3.0"),
    ("bandwidth too old", many(BRIDGE, {"type": "bandwidth"}, cniVersion="0.2.0"), None, "$.plugins[1].type",
     "0.3.0 or later"),
    ("vrf too old", many(BRIDGE, {"type": "vrf", "vrfname": "a"}, cniVersion="0.3.0"), None, "$.plugins[1].type",
     "0.3.1"),
    ("firewall too old", many(BRIDGE, {"type": "firewall"}, cniVersion="0.3.1"), None, "$.plugins[1].type",
     "needs cniVersion 0.4.0"),
    ("two range sets too old", one(cniVersion="0.2.0", ipam={"type": "host-local", "ranges": [
        [{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}), None, "$.ipam.ranges", "2 range sets of IPv4"),
    # plugins and their order
    ("unknown plugin", one(type="brige"), None, "$.type", "unknown plugin 'brige'; did you mean 'bridge'?"),
    ("unknown plugin, nothing near", one(type="calico"), None, "$.type", "needs allow_unknown: true"),
    ("unknown ipam plugin", one(ipam={"type": "hostlocal"}), None, "$.ipam.type", "did you mean 'host-local'?"),
    ("ipam plugin as a plugin", one(type="host-local"), None, "$.type", "belongs into ipam.type"),
    ("path as a type", one(type="../bridge"), None, "$.type", "unknown plugin"),
    ("no type in a plugin", many({"bridge": "cni0"}), None, "$.plugins[0]", "required key 'type' is missing"),
    ("neither type nor plugins", {"cniVersion": "1.0.0", "name": "x"}, "x.conf", "$", "required key 'type' is missing"),
    ("no plugins", many(), None, "$.plugins", "is an empty list"),
    ("chained first", many({"type": "portmap"}, BRIDGE), None, "$.plugins[0].type", "a chained plugin, in first place"),
    ("chained alone", {"cniVersion": "1.0.0", "name": "x", "type": "tuning"}, None, "$.type", "chained plugin"),
    ("ipam missing", one(type="ptp", bridge=None, ipam=None), None, "$", "required key 'ipam' is missing"),
    ("ipam missing in ipvlan", one(type="ipvlan", bridge=None, ipam=None), None, "$",
     "unless another plugin comes before"),
    ("master missing", one(type="vlan", bridge=None, vlanId=5), None, "$", "required key 'master' is missing"),
    ("vrfname missing", after_bridge(type="vrf"), None, "$.plugins[1]", "required key 'vrfname'"),
    ("no device", one(type="host-device", bridge=None), None, "$", "names no device"),
    ("delegate with ipam", many({"type": "flannel", "delegate": {"ipam": {}}}), None,
     "$.plugins[0].delegate.ipam", "refuses"),
    ("delegate with name", many({"type": "flannel", "delegate": {"name": "x"}}), None,
     "$.plugins[0].delegate.name", "refuses"),
    ("chained delegate", many({"type": "flannel", "delegate": {"type": "portmap"}}), None, "$.plugins[0].delegate.type",
     "can't be the delegate"),
    # keys that belong together or exclude each other
    ("hairpin and promiscuous", one(hairpinMode=True, promiscMode=True), None, "$", "can't both be true"),
    ("no interface but ipam", one(disableContainerInterface=True), None, "$", "exclude each other"),
    ("both marks", after_bridge(type="portmap", markMasqBit=1, externalSetMarkChain="X"), None, "$.plugins[1]",
     "exclude"),
    ("mark chain with nftables", after_bridge(type="portmap", backend="nftables", externalSetMarkChain="X"), None,
     "$.plugins[1]", "backend iptables only"),
    ("conditions of the other backend", after_bridge(type="portmap", backend="nftables", conditionsV4=["-d",
     "192.0.2.1"]),
     None, "$.plugins[1].conditionsV4", "iptables syntax"),
    ("rate without burst", after_bridge(type="bandwidth", ingressRate=5), None, "$.plugins[1].ingressRate",
     "needs 'ingressBurst'"),
    ("half a VLAN range", one(vlanTrunk=[{"minID": 5}]), None, "$.vlanTrunk[0].minID", "needs 'maxID'"),
    ("VLAN range the wrong way round", one(vlanTrunk=[{"minID": 5, "maxID": 4}]), None, "$.vlanTrunk[0]", "swap them"),
    # file names
    ("list as .conf", many(BRIDGE), "10-pods.conf", "", "end it in .conflist"),
    ("list as .json", many(BRIDGE), "10-pods.json", "", "end it in .conflist"),
    ("single as .conflist", one(), "10-pods.conflist", "$", "put it into plugins"),
    ("path as a file name", one(), "../10-pods.conf", "", "without a path"),
    ("extension", one(), "10-pods.cfg", "", "ends in .conf, .conflist or .json"),
    ("leading dot", one(), ".10-pods.conf", "", "does not start with a dot"),
    ("empty file name", one(), "", "", "expected a name such as"),
    ("control character", one(), "a\n.conf", "", "no control characters"),
    ("long file name", one(), "x" * 240 + ".conf", "", "at most 240 bytes"),
    ("file name that is no string", one(), 10, "", "expected a name such as"),
]  # fmt: skip


@pytest.mark.parametrize("config, file_name, path, piece", [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken(config: Any, file_name: Any, path: str, piece: str) -> None:
    before = copy.deepcopy(config)
    problems = validate(config, file_for(config) if file_name is None else file_name)
    assert any(problem.path == path and piece in problem.message for problem in problems), list(map(str, problems))
    assert len(problems) == len(set(problems))
    assert config == before


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid(path: Path) -> None:
    config = json.loads(path.read_text())
    assert validate(config, file_for(config)) == []
    assert "plugins" in config or validate(config, "10-pods.json") == []


def test_every_schema_has_a_valid_example() -> None:
    def types(value: Any) -> set[Any]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        found = set().union(*map(types, inner))
        return found | {value.get("type")} if isinstance(value, dict) else found

    used = set().union(*(types(json.loads(path.read_text())) for path in VALID))
    assert set(cni_schema._schemas()) - {"common", "plugin", "ipam", "network_list", "single_conf"} == used - {None}


def test_each_broken_configuration_names_the_problem_once() -> None:
    """A value that is wrong in one way is reported in one line."""
    for config, line in [
        (one(isGatway=True), "$.isGatway: unknown key 'isGatway'; did you mean 'isGateway'?"),
        (one(runtimeConfig={}), "$.runtimeConfig: is reserved: the runtime generates it for every call; remove it"),
        (ipam(subnet="10.244.0.1/24"), "$.ipam.subnet: found '10.244.0.1/24', which has host bits set; the network is "
         "10.244.0.0/24"),
        (many(), "$.plugins: is an empty list, expected at least one entry"),
    ]:  # fmt: skip
        assert list(map(str, validate(config, file_for(config)))) == [line]


def test_all_problems_at_once() -> None:
    config = many(
        {"type": "portmap", "snat": "yes"}, {"type": "bridge", "mtu": "x", "ipam": {"type": "host-local"}}, name="a b"
    )
    assert [problem.path for problem in validate(config, "10-pods.conf")] == [
        "$.name",
        "$.plugins[0].snat",
        "$.plugins[1].mtu",
        "",
        "$.plugins[0].type",
        "$.plugins[1].ipam",
    ]


def test_allow_unknown() -> None:
    third_party = many({"type": "calico", "datastore_type": "kubernetes", "ipam": {"type": "calico-ipam", "x": 1}})
    assert validate(third_party, "10-calico.conflist", allow_unknown=True) == []
    paths = [problem.path for problem in validate(third_party, "10-calico.conflist")]
    assert paths == ["$.plugins[0].type"]
    assert validate(one(vendorKey=1, isGatway=True), "10-pods.conf", allow_unknown=True) == []


@pytest.mark.parametrize(
    "config, path",
    [
        (one(vendorKey=1, mtu="1500"), "$.mtu"),
        (one(isgateway=True), "$.isgateway"),
        (one(type="calico", runtimeConfig={}), "$.runtimeConfig"),
        (one(type="a/b"), "$.type"),
        (one(type=5), "$.type"),
        (many({"type": "calico", "prevResult": {}}), "$.plugins[0].prevResult"),
    ],
)
def test_allow_unknown_still_refuses(config: dict[str, Any], path: str) -> None:
    assert path in [problem.path for problem in validate(config, file_for(config), allow_unknown=True)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
known_keys = st.sampled_from(
    sorted({key for each in cni_schema._schemas().values() for key in each.get("properties", {})} | {"Type", "subnet"})
)
known_values = json_values | st.sampled_from(
    [*sorted(cni_schema._schemas()), "1.0.0", "10.0.0.0/8", "10.0.0.1", "::/0"]
)
configs = st.recursive(
    known_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_keys, inner, max_size=5),
    max_leaves=20,
)


@given(configs, json_values | st.sampled_from(["a.conf", "a.conflist"]), st.booleans())
def test_never_raises(config: Any, file_name: Any, allow_unknown: bool) -> None:
    for problem in validate(config, file_name, allow_unknown):
        assert problem.message and "is not valid under any of the given schemas" not in problem.message


@given(st.permutations(list(json.loads(VALID[0].read_text()).items())))
def test_key_order_does_not_matter(items: list[tuple[str, Any]]) -> None:
    config = dict(items)
    assert validate(config, file_for(config)) == []
