# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI configurations as a runtime reads them, and the plan for one of them; files in temporary directories only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.weft.podnet.plugins.module_utils.cni import bridge as cni_bridge
from ansible_collections.weft.podnet.plugins.module_utils.cni import change as cni_change
from ansible_collections.weft.podnet.plugins.module_utils.cni import config as cni
from ansible_collections.weft.podnet.plugins.module_utils.cni import gateway as cni_gateway
from ansible_collections.weft.podnet.plugins.module_utils.cni import host as cni_host
from ansible_collections.weft.podnet.plugins.module_utils.cni import leftovers as cni_leftovers

DATA = Path(__file__).parents[3] / "data" / "cni" / "valid"
BRIDGE = json.loads((DATA / "lesson-03-bridge.json").read_text())
LOOPBACK = json.loads((DATA / "lesson-04-loopback.json").read_text())
FLANNEL = json.loads((DATA / "lesson-18-flannel.json").read_text())
IDLE = cni_bridge.Bridge(7, ())
BUSY = cni_bridge.Bridge(7, ("veth1", "veth2"))
LEASES = ("10.244.0.2", "10.244.0.3")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
file_names = st.from_regex(r"[0-9a-z.-]{1,5}(\.conf|\.conflist|\.json|\.bak|\.tmp)?", fullmatch=True)


@given(st.lists(file_names, unique=True))
def test_runtime_order_sorts_what_it_reads(names: list[str]) -> None:
    ordered = cni.runtime_order(names)
    assert ordered == sorted(name for name in names if name.endswith((".conf", ".conflist", ".json")))
    assert cni.runtime_order(reversed(ordered)) == ordered


def test_hidden_files_are_read_and_others_not() -> None:
    names = ["10-b.conflist", "10-b.conf", ".9.conf", "10-b.conf.x.bak", ".10-b.conf.x.tmp", "5.JSON", "README"]
    assert cni.runtime_order(names) == [".9.conf", "10-b.conf", "10-b.conflist"]


@given(json_values)
def test_meaning_survives_another_order_and_look(value: Any) -> None:
    def turned(each: Any) -> Any:
        if isinstance(each, dict):
            return {key: turned(each[key]) for key in reversed(each)}
        return [turned(item) for item in each] if isinstance(each, list) else each

    assert cni.same_meaning(value, json.loads(json.dumps(turned(value), indent=7)))


@pytest.mark.parametrize("one, other", [(1, True), (1, 1.0), ("1", 1), ([1, 2], [2, 1]), ({}, []), (None, False)])
def test_other_meanings(one: Any, other: Any) -> None:
    assert not cni.same_meaning({"a": one}, {"a": other})


@pytest.mark.parametrize(
    "config, needed",
    [
        (BRIDGE, ["bridge", "host-local"]),
        (LOOPBACK, ["loopback"]),
        (FLANNEL, ["bridge", "flannel", "host-local", "portmap"]),
        ({"plugins": [{"type": "flannel", "delegate": {"type": "ptp"}}]}, ["flannel", "host-local", "ptp"]),
        ({"Plugins": [{"Type": "calico", "IPAM": {"type": "calico-ipam"}}]}, ["calico", "calico-ipam"]),
        ({"plugins": [5, {"type": 5}, {"type": "../x"}, {"type": "a", "ipam": []}]}, ["a"]),
    ],
)
def test_required_plugins(config: dict[str, Any], needed: list[str]) -> None:
    assert cni.required_plugins(config) == needed


@given(st.dictionaries(st.sampled_from(["name", "type", "plugins", "ipam", "delegate", "bridge"]), json_values))
def test_odd_configurations_raise_nothing(config: dict[str, Any]) -> None:
    cni.required_plugins(config)
    cni.network(config)
    cni_gateway.expected(config, lambda _path: None)
    cni.loaded({"a.conf": json.dumps(config), "a.conflist": json.dumps(config)})


def test_the_first_file_by_name_is_loaded() -> None:
    files = {"20.conf": cni.render(BRIDGE), "10.conflist": cni.render(FLANNEL)}
    assert cni.loaded(files)[0] == "10.conflist"
    assert cni.loaded({**files, "10.bak": ""})[0] == "10.conflist"
    assert cni.loaded({}) == (None, None, None)


@pytest.mark.parametrize(
    "name, text, why",
    [
        ("05.conf", "{", "no JSON"),
        ("05.conf", "[]", "no JSON object"),
        ("05.conf", cni.render(FLANNEL), "no 'type' (a list must end in .conflist)"),
        ("05.json", cni.render(FLANNEL), "no 'type'"),
        ("05.conflist", cni.render(BRIDGE), "no 'plugins'"),
        ("05.conflist", '{"plugins": [{"type": "bridge"}]}', "no 'name'"),
        ("05.conflist", '{"name": "x", "plugins": [{}]}', "a plugin of the list has no 'type'"),
        ("05.conf", None, "can't be read"),
    ],
)
def test_a_broken_first_file_fails_the_whole_load(name: str, text: str | None, why: str) -> None:
    good = cni.render(BRIDGE)
    assert cni.loaded({"10.conf": good, "20" + name: text})[0] == "10.conf"
    will = cni.loaded({"10.conf": good, name: text})
    assert will.name is None and will.broken is not None and will.broken.startswith(f"{name}: ") and why in will.broken


def test_network_has_one_form_for_equal_ranges() -> None:
    top = {"type": "host-local", "subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}
    nested = {"type": "host-local", "ranges": [[{"gateway": "10.0.0.1", "subnet": "10.0.0.0/24"}]], "routes": []}
    assert cni.network({**BRIDGE, "ipam": top}) == cni.network({**BRIDGE, "ipam": nested})
    assert cni.network({**BRIDGE, "ipMasq": False}) == cni.network(BRIDGE)
    assert cni.network(FLANNEL) == cni.Network("cbr0", "cni0", "/var/lib/cni/networks", "host-local", "[]")


@pytest.mark.parametrize(
    "output, problem",
    [
        ('{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}', None),
        ('{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}', "does not support cniVersion 1.0.0, only"),
        ('{"code": 4, "msg": "CNI_NETNS missing"}', "CNI_NETNS missing"),
        ("usage: bridge", "is no JSON"),
        ("", "is no JSON"),
        ("[]", "does not answer"),
    ],
)  # fmt: skip
def test_version_answers(output: str, problem: str | None) -> None:
    found = cni.version_problem(output, "1.0.0")
    assert found is None if problem is None else problem in str(found)


@pytest.mark.parametrize(
    "value, mode",
    [("0644", 0o644), (0o600, 0o600), ("600", 0o600), (644, None), ("u=rw", None), (True, None), ("0044", None)],
)  # fmt: skip
def test_file_mode(value: Any, mode: int | None) -> None:
    assert cni_change.file_mode(value) == mode


# --- the plan -------------------------------------------------------------------------------------------------------


def wish(**changes: Any) -> cni_change.Spec:
    wanted = cni_change.Spec("10-bridge.conf", True, BRIDGE, "/c", None, False, 0o644, 0, 0, False, False)
    return wanted._replace(**changes)


def host(
    files: dict[str, Any], leases: tuple[str, ...] = (), bridge: cni_bridge.Bridge | None = None, **more: Any
) -> cni_host.Observed:
    texts = {name: cni.render(value) if isinstance(value, dict) else value for name, value in files.items()}
    networks = {*cni_host.networks_of(texts).values(), cni.network(BRIDGE), cni.network(FLANNEL)}
    live = {network: cni_host.Live(leases, bridge, "/leases") for network in networks}
    return cni_host.Observed(texts, cni_host.Attributes(0o644, 0, 0), None, live)._replace(**more)


HERE = {"10-bridge.conf": BRIDGE}
OTHER_SUBNET = {**BRIDGE, "ipam": {"type": "host-local", "subnet": "10.244.9.0/24"}}


def test_equal_meaning_is_no_change() -> None:
    looks_different = json.dumps(dict(reversed(BRIDGE.items())))
    assert not cni_change.plan(wish(), host({"10-bridge.conf": looks_different})).changed


def test_other_attributes_keep_the_look() -> None:
    text = json.dumps(BRIDGE)
    plan = cni_change.plan(wish(mode=0o600), host({"10-bridge.conf": text}))
    assert plan.text == text
    assert plan.diff[0]["before"] == "mode 0644, owner 0, group 0\n"
    assert plan.diff[0]["after"] == "mode 0600, owner 0, group 0\n"


@pytest.mark.parametrize(
    "wanted, files",
    [
        (wish(present=False), HERE),
        (wish(config=OTHER_SUBNET), HERE),
        (wish(config={**BRIDGE, "name": "other"}), HERE),
        (wish(config={**BRIDGE, "bridge": "cni1"}), HERE),
        (wish(name="20.conflist", config=FLANNEL, exclusive=[]), HERE),
        (wish(name="05.conflist", config=FLANNEL), HERE),
    ],
)
def test_live_pods_forbid_the_loss_of_their_network(wanted: cni_change.Spec, files: dict[str, Any]) -> None:
    plan = cni_change.plan(wanted, host(files, LEASES, BUSY))
    assert len(plan.problems) == 1
    for piece in ("10-bridge.conf", "'bridge'", "10.244.0.2", "cni0 has 2 ports", "in use"):
        assert piece in plan.affected[0]
    for way_out in ("Drain the node first", "allow_live_pods: true", "podnet_live_pods: keep, or recreate"):
        assert way_out in plan.problems[0] and way_out not in plan.affected[0]
    assert plan.problems[0].startswith(plan.affected[0])
    allowed = cni_change.plan(wanted._replace(allow_live_pods=True), host(files, LEASES, BUSY))
    assert allowed.problems == [] and allowed.affected == plan.affected
    (warning,) = (line for line in allowed.warnings if line.startswith(plan.affected[0]))
    assert "keep running on the former configuration" in warning and "allow_live_pods" not in warning


@pytest.mark.parametrize(
    "wanted, leases, bridge",
    [
        (wish(config={**BRIDGE, "ipMasq": False}), LEASES, BUSY),
        (wish(name="05-renamed.conf", exclusive=[]), LEASES, BUSY),
        (wish(name="20.conflist", config=FLANNEL), LEASES, BUSY),
        (wish(present=False), (), BUSY),
        (wish(present=False), (), None),
    ],
)
def test_what_live_pods_do_not_forbid(wanted: Any, leases: tuple[str, ...], bridge: Any) -> None:
    plan = cni_change.plan(wanted, host(HERE, leases, bridge))
    assert plan.problems == plan.affected == []


@pytest.mark.parametrize("bridge", [IDLE, None])
def test_leases_without_ports_are_leaked(bridge: Any) -> None:
    plan = cni_change.plan(wish(present=False), host(HERE, LEASES, bridge))
    assert plan.problems == [] and "2 leases in /leases belong to no pod: cni0 has no port" in plan.warnings[0]


def test_leases_alone_count_where_no_bridge_is_known() -> None:
    ptp = {**BRIDGE, "type": "ptp"}
    assert cni_change.plan(wish(present=False), host({"10-bridge.conf": ptp}, LEASES)).problems


def test_the_winner_is_named() -> None:
    plan = cni_change.plan(wish(), host({"05-first.conf": LOOPBACK}))
    assert "/c/05-first.conf (network 'lo'), not 10-bridge.conf" in plan.warnings[0]
    plan = cni_change.plan(wish(), host({"05-first.conf": "{"}))
    assert "no configuration at all, because of /c/05-first.conf: it is no JSON" in plan.warnings[0]
    assert cni_change.plan(wish(), host({"15-later.conf": "{"})).warnings == []


@pytest.mark.parametrize("earlier", [LOOPBACK, "{", None])
def test_what_would_be_loaded_in_its_place_is_refused_or_set_aside(earlier: Any) -> None:
    files = {"05-first.conf": earlier, "06-second.json": LOOPBACK, "20-later.conf": "{"}
    refused = cni_change.plan(wish(foreign="refuse"), host(files))
    assert len(refused.problems) == 1 and refused.warnings == []
    for piece in ("/c/05-first.conf", "foreign: keep", "podnet_cni_foreign"):
        assert piece in refused.problems[0]
    removed = cni_change.plan(wish(foreign="remove"), host(files))
    assert removed.others == removed.set_aside == ("05-first.conf", "06-second.json")
    assert removed.problems == removed.warnings == []
    assert cni_change.plan(wish(foreign="refuse"), host({"20-later.conf": "{"})).problems == []


def test_a_removal_of_what_is_in_front_spares_live_pods() -> None:
    files = {"05-first.conf": {**BRIDGE, "name": "other"}}
    assert (
        "pods of network 'other' are live"
        in cni_change.plan(wish(foreign="remove"), host(files, LEASES, BUSY)).problems[0]
    )


def test_another_form_of_the_same_network_takes_its_place_under_live_pods() -> None:
    listed = {
        "cniVersion": "1.0.0",
        "name": "bridge",
        "plugins": [{**BRIDGE, "hairpinMode": True}, {"type": "portmap"}],
    }
    wanted = wish(name="10-bridge.conflist", config=listed, replaces=("10-bridge.conf",), foreign="refuse")
    plan = cni_change.plan(wanted, host(HERE, LEASES, BUSY))
    assert plan.problems == plan.warnings == [] and plan.others == ("10-bridge.conf",) and plan.set_aside == ()
    back = wish(replaces=("10-bridge.conflist",), foreign="refuse")
    plan = cni_change.plan(back, host({"10-bridge.conflist": listed}, LEASES, BUSY))
    assert plan.problems == [] and plan.others == ("10-bridge.conflist",)


def test_exclusive() -> None:
    others = {"10-bridge.conf": BRIDGE, "99-loopback.conf": LOOPBACK, "20-x.conflist": FLANNEL, "30-y.json": "{"}
    assert cni_change.plan(wish(), host(others)).others == ()
    assert cni_change.plan(wish(exclusive=["99-*", "*.json"]), host(others)).others == ("20-x.conflist",)
    assert cni_change.plan(wish(exclusive=[]), host(others)).others == (
        "99-loopback.conf",
        "20-x.conflist",
        "30-y.json",
    )


# --- leftovers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """/var/lib/cni of a host where pods of networks pods and pods-2 were."""
    for name in ("pods", "pods-2"):
        state = tmp_path / "networks" / name
        state.mkdir(parents=True)
        for file in ("10.1.0.2", "fd00::2", "last_reserved_ip.0", "lock"):
            (state / file).write_text("x")
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / f"{name}-abc-eth0").write_text(json.dumps({"kind": "cniCacheV1", "networkName": name}))
    return tmp_path


def network(root: Path, name: str = "pods", bridge: str = "br-none") -> cni.Network:
    ipam = {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": str(root / "networks")}
    return cni.network({"name": name, "type": "bridge", "bridge": bridge, "ipam": ipam})


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def leftovers(root: Path, name: str = "pods", others: Any = (), **live: Any) -> cni_leftovers.Leftovers:
    one = network(root, name)
    return cni_leftovers.find(one, cni_host.pods(one, str(root))._replace(**live), others, str(root))


def test_leftovers_of_one_network_only(root: Path) -> None:
    cni_leftovers.remove(leftovers(root))
    assert tree(root) == [
        "networks", "networks/pods-2", "networks/pods-2/10.1.0.2", "networks/pods-2/fd00::2",
        "networks/pods-2/last_reserved_ip.0", "networks/pods-2/lock", "results", "results/pods-2-abc-eth0",
    ]  # fmt: skip
    assert leftovers(root).names() == []
    cni_leftovers.remove(leftovers(root, "pods-2"))
    assert not root.exists()


def test_foreign_files_stay(root: Path) -> None:
    (root / "networks" / "pods" / "notes.txt").write_text("mine")
    found = leftovers(root)
    assert "notes.txt" in found.warnings[0]
    cni_leftovers.remove(found)
    assert [path.name for path in (root / "networks" / "pods").iterdir()] == ["notes.txt"]


def test_what_another_configuration_shares_stays(root: Path) -> None:
    assert leftovers(root, others=[network(root)], bridge=IDLE).names() == []
    assert leftovers(root, others=[network(root, "other")], bridge=IDLE).bridge is None
    assert leftovers(root, others=[network(root, "other", "br-other")], bridge=IDLE).bridge == "br-none"


def test_leases_and_bridge_of_live_pods_stay(root: Path) -> None:
    found = leftovers(root, bridge=BUSY, leases=("10.1.0.2",))
    assert found.names() == []
    assert "veth1, veth2" in found.warnings[0] and "leases" in found.warnings[1]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_leads_elsewhere_removes_nothing(root: Path, name: str) -> None:
    before = tree(root)
    cni_leftovers.remove(leftovers(root, name))
    assert tree(root) == before
