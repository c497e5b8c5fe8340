# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""cni_config beside pods of the real bridge plugin: live ones are protected, what dead ones left is removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.cni import bridge as cni_bridge
from support.cni import Node, cni, conf_dir, config, names
from support.netns import Namespace


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return conf_dir(tmp_path)


@pytest.fixture
def node(conf: Path) -> Iterator[Node]:
    with Namespace() as host, Namespace() as pod:
        node = Node(conf, host, pod)
        node.cni(config=config(conf))
        node.plugin("ADD")
        yield node


def test_live_pods_are_protected(node: Node) -> None:
    changed = config(node.conf, ipam={**config(node.conf)["ipam"], "subnet": "10.244.7.0/24"})
    for args in ({"state": "absent"}, {"config": changed}, {"state": "absent", "leftovers": True}):
        refused = node.cni(**args)
        assert refused["failed"] and "cni0 has 1 ports" in refused["msg"] and "allow_live_pods" in refused["msg"]
        assert node.cni(**args, check=True)["failed"]
    assert json.loads((node.conf / "10-bridge.conf").read_text()) == config(node.conf)
    unharmful = node.cni(config=config(node.conf, ipMasq=False))
    assert unharmful["changed"] and unharmful["leases"] == 1 and unharmful["affected"] == []
    dry = node.cni(state="absent", allow_live_pods=True, check=True)
    allowed = node.cni(state="absent", allow_live_pods=True)
    assert allowed["changed"] and any("keep running on the former" in text for text in allowed["warnings"])
    (loss,) = allowed["affected"]
    assert dry["affected"] == [loss] and "are live (1 in" in loss and "addresses that are in use" in loss


def test_a_list_takes_the_place_of_the_plain_file_under_a_live_pod(node: Node) -> None:
    """As an installation of an earlier version is moved: the same network, its pod is taken off by the new list."""
    plain = config(node.conf)
    network = {key: plain.pop(key) for key in ("cniVersion", "name")}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    listed = {**network, "plugins": [{**plain, "hairpinMode": True, "ipMasq": False}, portmap]}
    args = {"name": "10-bridge.conflist", "config": listed, "replaces": ["10-bridge.conf"], "foreign": "refuse"}
    dry = node.cni(**args, check=True)
    assert dry["loaded_is_ours"] and names(node.conf) == ["10-bridge.conf"]
    done = node.cni(**args)
    assert done["removed"] == dry["removed"] == [str(node.conf / "10-bridge.conf")]
    assert done["leases"] == 1 and done["loaded_is_ours"] and names(node.conf) == ["10-bridge.conflist"]
    assert not node.cni(**args)["changed"]
    # Back again, still under the pod; and a removal knows either file. Only ipMasq would come too late for the pod.
    back = {"replaces": ["10-bridge.conflist"], "foreign": "refuse"}
    refused = node.cni(config=config(node.conf), **back)
    assert refused["failed"] and "ipMasq is turned on" in refused["msg"] and "allow_live_pods" in refused["msg"]
    told = node.cni(config=config(node.conf), allow_live_pods=True, check=True, **back)
    assert ["no way out of the cluster" in each for each in told["affected"]] == [True]
    assert node.cni(config=config(node.conf, ipMasq=False), **back)["loaded_is_ours"]
    assert names(node.conf) == ["10-bridge.conf"]
    assert node.cni(**{**args, "state": "absent"}, leftovers=True)["failed"]
    node.plugin("DEL")
    assert "device cni0" in node.cni(**{**args, "state": "absent"}, leftovers=True)["removed"]
    assert names(node.conf) == [] and node.bridges() == []


def test_a_live_pods_port_gets_hairpin_mode(node: Node) -> None:
    """As a pod of the plain file has it, which a list with hairpinMode replaces: it reaches itself through services."""
    wanted = {"config": config(node.conf, hairpinMode=True)}
    assert node.hairpin() == [False]
    dry = node.cni(**wanted, check=True)
    assert dry["diff"][-1]["after"].endswith(" on\n") and node.hairpin() == [False]
    done = node.cni(**wanted)
    assert done["diff"] == dry["diff"] and done["affected"] == [] and node.hairpin() == [True]
    assert not node.cni(**wanted)["changed"]
    # Nobody asked for it to be off again.
    assert node.cni(config=config(node.conf))["changed"] and node.hairpin() == [True]


def test_a_write_that_fails_leaves_the_ports_as_they_were(node: Node) -> None:
    (port,) = (link["ifname"] for link in node.host.ip_json("link", "show", "master", "cni0"))

    def fail() -> None:
        with cni_bridge.hairpin([port]):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        node.host.call(fail)
    assert node.hairpin() == [False]


def test_an_uplink_in_the_bridge_is_no_pods_port(node: Node) -> None:
    node.host.ip("link", "add", "uplink", "master", "cni0", "type", "vxlan", "id", "9", "dstport", "4790")
    assert node.cni(config=config(node.conf, hairpinMode=True))["changed"]
    assert sorted(node.hairpin()) == [False, True]
    assert not node.cni(config=config(node.conf, hairpinMode=True))["changed"]


def test_leftovers_of_live_pods_stay(node: Node) -> None:
    done = node.cni(state="absent", allow_live_pods=True, leftovers=True)
    assert "device cni0" not in done["removed"] and node.bridges() == ["cni0"]
    assert "10.244.0.2" in names(node.leases)


def test_reset_after_the_pods_are_gone(node: Node) -> None:
    node.plugin("DEL")
    node.host.ip("link", "add", "br-foreign", "type", "bridge")
    assert "lock" in names(node.leases) and "cni0" in node.bridges()
    dry = node.cni(state="absent", leftovers=True, check=True)
    assert "cni0" in node.bridges() and node.leases.is_dir() and names(node.conf) == ["10-bridge.conf"]
    done = node.cni(state="absent", leftovers=True)
    assert done["removed"] == dry["removed"] and "device cni0" in done["removed"]
    assert node.bridges() == ["br-foreign"] and not node.leases.exists() and names(node.conf) == []
    assert not node.cni(state="absent", leftovers=True)["changed"]
    assert not node.cni(state="absent", leftovers=True, config=config(node.conf))["changed"]


def test_leaked_leases_are_told_and_removed(node: Node) -> None:
    node.host.ip("link", "del", "cni0")
    told = node.cni(state="absent", check=True)
    assert not told["failed"] and any("1 leases" in text and "belong to no pod" in text for text in told["warnings"])
    assert str(node.leases / "10.244.0.2") in node.cni(state="absent", leftovers=True)["removed"]
    assert not node.leases.exists()


def test_a_killed_removal_is_completed(node: Node) -> None:
    """Killed after the file left its place: the next run still knows the network."""
    node.plugin("DEL")
    (node.conf / "10-bridge.conf").rename(node.conf / ".10-bridge.conf.leaving")
    done = node.cni(state="absent", leftovers=True)
    assert "device cni0" in done["removed"] and node.bridges() == [] and names(node.conf) == []


def test_what_is_gone_already_is_told_by_config(node: Node) -> None:
    node.plugin("DEL")
    (node.conf / "10-bridge.conf").unlink()
    assert not node.cni(state="absent", leftovers=True)["changed"]
    assert node.cni(state="absent", leftovers=True, config=config(node.conf))["changed"]
    assert node.bridges() == [] and not node.leases.exists()


def moved(node: Node) -> dict[str, Any]:
    """The same network with another subnet, so another address for the bridge."""
    return config(node.conf, ipam={**config(node.conf)["ipam"], "subnet": "10.244.7.0/24"})


def test_a_bridge_with_another_address_makes_room(node: Node) -> None:
    """The bridge plugin never changes an address: without this, every new pod fails."""
    node.plugin("DEL")
    before = node.host.ip_json("-4", "address", "show", "cni0")[0]["addr_info"][0]["local"]
    dry = node.cni(config=moved(node), check=True)
    assert before == "10.244.0.1" and "device cni0" in dry["removed"] and "device cni0" in str(dry["diff"])
    assert "cni0" in node.bridges()
    done = node.cni(config=moved(node))
    assert done["changed"] and done["removed"] == dry["removed"] and node.bridges() == []
    node.plugin("ADD", moved(node))
    assert node.host.ip_json("-4", "address", "show", "cni0")[0]["addr_info"][0]["local"] == "10.244.7.1"
    assert not node.cni(config=moved(node))["changed"] and node.bridges() == ["cni0"]


def test_a_bridge_with_another_address_and_ports_is_refused(node: Node) -> None:
    """Nobody's configuration tells of these pods; the ports do."""
    (node.conf / "10-bridge.conf").unlink()
    refused = node.cni(config=moved(node))
    assert refused["failed"] and "10.244.0.1/24" in refused["msg"] and "10.244.7.1/24" in refused["msg"]
    assert names(node.conf) == [] and node.bridges() == ["cni0"]
    allowed = node.cni(config=moved(node), allow_live_pods=True)
    assert ["no new pod would start" in each for each in allowed["affected"]] == [True]
    assert (
        allowed["changed"] and node.bridges() == ["cni0"] and any("no new pod" in each for each in allowed["warnings"])
    )


def test_a_link_of_that_name_that_is_no_bridge_stays(conf: Path) -> None:
    with Namespace() as host:
        host.ip("link", "add", "cni0", "type", "veth", "peer", "name", "other")
        cni(conf, config=config(conf), netns=host.path)
        cni(conf, state="absent", leftovers=True, netns=host.path)
        assert host.ip_json("link", "show", "cni0")
