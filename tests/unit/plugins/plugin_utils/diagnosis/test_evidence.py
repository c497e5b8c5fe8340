# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an observation lacks or has of another type, rules neither fail nor take it for a fault."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis import findings
from ansible_collections.weft.podnet.plugins.plugin_utils.diagnosis.observation import Host, Link, read
from support.observations import BACKENDS, World

WRONG: tuple[Any, ...] = (None, True, -1, 1.5, 10**400, "", "x", "10.0.0.0/8", "::/0", [], ["x", None, {}], {"x": 1})
REAL = Path(__file__).parents[3] / "data" / "observation" / "host.json"


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and every item in it, at any depth."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def parent(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def rules(world: World) -> set[str]:
    result = findings.diagnose(**world.given())
    return {each["rule"] for each in result["findings"] if each["severity"] == "error"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_key_that_is_not_there_is_no_fault(backend: str) -> None:
    """Of one host. Entries of lists are evidence, and so are keys that name a thing: their loss is a break."""
    world = World(backend, (4, 6) if backend == "vxlan" else (4,), planned=backend == "bridge")
    for path in list(paths(world[2])):
        if isinstance(path[-1], int) or path[:2] in (("flannel", "subnet_env"), ("flannel", "net_conf")):
            continue
        holder = parent(world[2], path)
        before = holder.pop(path[-1])
        assert rules(world) - excused(path) == set(), path
        holder[path[-1]] = before


def excused(path: tuple[Any, ...]) -> set[str]:
    """An entry of a list without its name, address or device is no such entry, which the list then lacks."""
    lists = {
        "routes": {"no-route-back", "no-route-to-pods", "route-without-gateway", "route-via-stranger"},
        "neighbours": {"neighbour-missing", "neighbour-mac-wrong"},
        "fdb": {"fdb-missing", "fdb-wrong-node"},
        "links": {"mesh-device-missing", "bridge-missing"},
        "addresses": {"bridge-address-wrong", "mesh-source-wrong", "mesh-address-missing"},
    }
    deep = len(path) > 2 or path[:1] == ("links",)
    return lists.get(path[0], set()) if deep else set()


@pytest.mark.parametrize(
    ("backend", "part", "times"),
    [
        ("routes", "worker-2", 1),
        ("flannel", "worker-2", 1),
        ("vxlan", "plan", 4),
        ("flannel", "plan", 2),
        ("flannel", "api", 4),
    ],
)
def test_a_value_of_another_type_never_fails(backend: str, part: str, times: int) -> None:
    world = World(backend)
    whole = {"worker-2": world[2], "plan": world.plan, "api": world.api}[part]
    # Every value at every place would take minutes; each meets each kind of place often enough.
    chance = random.Random(7)
    for path in list(paths(whole)):
        holder = parent(whole, path)
        before = holder[path[-1]]
        for wrong in chance.sample(WRONG, times):
            holder[path[-1]] = copy.deepcopy(wrong)
            findings.diagnose(**world.given())
        holder[path[-1]] = before


def test_the_builders_observations_are_like_a_real_one() -> None:
    """What the module returned in a network namespace has every key of the builder's, with values of the same type."""
    real = json.loads(REAL.read_text())
    # Younger than this observation.
    real["programs"] = {"iptables": "/usr/sbin/xtables-nft-multi"}
    real["firewalls"]["closed_udp"] = [{"port": 8472, "place": "iptables (nft): filter, chain INPUT"}]
    for backend in BACKENDS:
        assert list(strange(World(backend)[2], real)) == []


def strange(made: Any, real: Any, path: str = "host") -> Iterator[str]:
    """Where the builder has another key or type than a real observation; lists by any item with such keys."""
    if isinstance(made, dict) and isinstance(real, dict):
        by_name = all(isinstance(each, dict) for each in [*made.values(), *real.values()]) and path.count(".") < 3
        for key, value in made.items():
            if path.endswith((".ways", ".sysctls", ".plugins", ".units", ".subnet_env", ".net_conf", ".programs")):
                others = list(real.values())
                yield from strange(value, others[0], f"{path}.{key}") if others and by_name else ()
            elif key not in real:
                yield f"{path}.{key}"
            else:
                yield from strange(value, real[key], f"{path}.{key}")
    elif isinstance(made, list) and isinstance(real, list):
        kinds = [each for each in real if isinstance(each, dict)]
        known = {key: value for each in kinds for key, value in each.items()}
        for each in made:
            if kinds and isinstance(each, dict):
                yield from strange(each, known, f"{path}[]")
    elif real is not None and type(made) is not type(real) and {type(made), type(real)} != {int, float}:
        yield f"{path}: {type(made).__name__}, really {type(real).__name__}"


def test_what_could_not_be_read_is_not_missing() -> None:
    world = World("flannel")
    world[2].update(routes=world[2]["routes"][:1], fdb=[], masquerade=[], problems=["kernel: no permission"])
    world[2]["problems"].append("packet filters: nft: no permission")
    world[2]["flannel"].update(processes=[], subnet_env={})
    world[2]["problems"].append("flannel: can't be read (KeyError)")
    assert findings.diagnose(**world.given())["findings"] == []


def test_nothing_at_all_is_no_fault() -> None:
    assert findings.diagnose({})["findings"] == []
    assert (
        findings.diagnose({"worker-1": {}, "worker-2": {"links": None}, "worker-3": {"format": 99}})["findings"] == []
    )
    assert findings.diagnose({"worker-1": {}}, {}, World("vxlan").plan)["findings"] == []


def test_a_list_that_was_cut_is_not_searched_for_what_is_missing() -> None:
    world = World("vxlan")
    world[2]["routes"] = world[2]["routes"][:1]
    world[2]["fdb"] = []
    assert rules(world)
    world[2]["truncated"] = {"routes": 4000, "fdb": 4000}
    assert rules(world) == set()


def test_parts_are_read_by_type() -> None:
    link = read(Link, {"name": "eth0", "mtu": True, "up": "yes", "vni": 1.0, "hairpin": False, "other": 1})
    assert (link.name, link.mtu, link.up, link.vni, link.hairpin) == ("eth0", 0, None, None, False)
    assert link.knows("name", "hairpin") and not link.knows("mtu")
    host = read(Host, {"links": [{"name": "lo"}, 7, None], "rules": [{"from": "10.0.0.0/8"}], "ways": {"x": 1}})
    assert [each.name for each in host.links] == ["lo"]
    assert host.rules[0].from_ == "10.0.0.0/8" and host.ways == {}
    assert host.whole("links") and not host.whole("routes")
