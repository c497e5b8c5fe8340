# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that join and leave, and whose lock file it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.weft.podnet.plugins.module_utils.core.problems import Refused
from ansible_collections.weft.podnet.plugins.plugin_utils.plan import cluster, lock_file, members

SETTINGS = cluster.Settings("routes", ["10.244.0.0/16"], {4: 24, 6: 64})
EMPTY = lock_file.LockFile(lock_file.HEAD, {})


def worker(number: int) -> cluster.Worker:
    return cluster.Worker(f"w{number}", [f"172.16.0.{number + 2}"], [])


def planned(lock: lock_file.LockFile, *numbers: int, settings: cluster.Settings = SETTINGS) -> lock_file.LockFile:
    workers = [worker(number) for number in numbers]
    names = [entry.name for entry in workers]
    nodes = cluster.plan(settings, workers, lock.pod_subnets(), members.left(lock, names))
    hosts = {entry.name: {"ansible_host": entry.node_ips[0]} for entry in workers}
    return members.recorded(lock, [node.as_dict() for node in nodes], hosts, settings)


def test_a_worker_that_left_keeps_its_subnet_until_it_is_reset() -> None:
    first = planned(EMPTY, 1, 2, 3)
    second = planned(first, 1, 3, 4)
    assert members.left(second, ["w1", "w3", "w4"]) == ["w2"]
    assert second.pod_subnets()["w2"] == ["10.244.1.0/24"] and second.pod_subnets()["w4"] == ["10.244.3.0/24"]
    assert "w2 (10.244.1.0/24) left the inventory" in members.told(second, ["w2"])[0]
    gone = members.without(second, ["w2"], ["w1", "w3", "w4"])
    assert "w2" not in gone.pod_subnets() and not members.left(gone, ["w1", "w3", "w4"])
    assert planned(gone, 1, 3, 4, 5).pod_subnets()["w5"] == ["10.244.1.0/24"]


def test_one_that_is_reset_first_and_then_leaves_is_not_missed(tmp_path: Path) -> None:
    lock = members.without(planned(EMPTY, 1, 2), ["w1", "w2"], ["w1", "w2"])
    assert lock.pod_subnets()["w2"] == ["10.244.1.0/24"]
    file = tmp_path / lock_file.NAME
    lock_file.write(file, lock)
    assert not members.left(lock_file.read(file), ["w1"])
    assert "w2" not in planned(lock_file.read(file), 1).pod_subnets()


def test_who_is_new_stays_new_until_all_learned() -> None:
    lock = members.learned(planned(EMPTY, 1, 2), ["w1", "w2"])
    assert not members.unknown(lock, ["w1", "w2"], ["w1"])
    grown = planned(lock, 1, 2, 3)
    said = members.unknown(grown, ["w1", "w2", "w3"], ["w3"])
    assert len(said) == 1 and "w3: new, or moved, and w1, w2 did not learn the way" in said[0]
    assert not members.unknown(grown, ["w1", "w2", "w3"], ["w1", "w2", "w3"])
    assert planned(grown, 1, 2, 3).workers()["w3"]["new"]
    assert not members.unknown(members.learned(grown, ["w1", "w2", "w3"]), ["w1", "w2", "w3"], ["w3"])
    flannel = planned(lock, 1, 2, 3, settings=SETTINGS._replace(backend="flannel", allots=False))
    assert not members.unknown(flannel, ["w1", "w2", "w3"], ["w3"])


def test_who_moves_is_new_again() -> None:
    lock = members.learned(planned(EMPTY, 1, 2), ["w1", "w2"])
    node = {"name": "w1", "node_ips": ["172.16.0.99"], "pod_subnets": ["10.244.0.0/24"]}
    moved = members.recorded(lock, [node], {"w1": {}, "w2": {}}, SETTINGS)
    assert moved.workers()["w1"]["new"]


def test_a_lock_file_of_an_older_version_names_its_workers() -> None:
    old = EMPTY.with_pod_subnets({"w1": ["10.244.0.0/24"], "w2": ["10.244.1.0/24"]})
    assert members.left(old, ["w1"]) == ["w2"]
    assert not planned(old, 1, 2).workers()["w1"].get("new")
    with pytest.raises(Refused, match="does not say where w2 is reached"):
        members.returning(old, ["w2"], ["w1"])


def test_how_one_that_left_is_reached() -> None:
    lock = planned(EMPTY, 1, 2, 3)
    assert members.returning(lock, ["w3"], ["w1", "w2"]) == [
        {"name": "w3", "ansible_host": "172.16.0.5", "node_ips": ["172.16.0.5"]}
    ]
    with pytest.raises(Refused) as refused:
        members.returning(lock, ["w1", "w9"], ["w1", "w2"])
    assert "w1 is in the inventory" in refused.value.problems[0] and "those that left are: w3" in str(refused.value)


def test_another_size_of_subnets_says_who_keeps_what() -> None:
    lock = planned(EMPTY, 1, 2)
    smaller = SETTINGS._replace(mask_sizes={4: 26, 6: 64})
    nodes = [node.as_dict() for node in cluster.plan(smaller, [worker(1), worker(2), worker(3)], lock.pod_subnets())]
    hosts: dict[str, dict[str, Any]] = {f"w{number}": {} for number in (1, 2, 3)}
    said = members.sizes(smaller, nodes, hosts)
    assert (
        len(said) == 1 and "26 is for workers that join from now on; w1 10.244.0.0/24, w2 10.244.1.0/24 keep" in said[0]
    )
    assert "take it out of pod_subnets in the lock file" in said[0] and "w3" not in said[0]
    assert not members.sizes(SETTINGS, nodes[:2], hosts)


def addresses(*numbers: int, start: str = "172.16.0.") -> dict[str, list[str]]:
    return {f"w{number}": [f"{start}{number + 2}"] for number in numbers}


def locate(*sources: Path, **workers: list[str]) -> lock_file.Place:
    return lock_file.locate(None, [str(source) for source in sources], workers)


def kept(place: lock_file.Place, *numbers: int) -> None:
    lock = planned(lock_file.read(place.path), *numbers).with_owners(place.owners, place.path.parent)
    lock_file.write(place.path, lock)


def test_two_inventories_in_one_folder_have_a_lock_file_each(tmp_path: Path) -> None:
    one, two = tmp_path / "production.yml", tmp_path / "staging.yml"
    for file in (one, two):
        file.touch()
    first = locate(one, **addresses(1, 2))
    assert first.path == tmp_path / "podnet.lock.yml"
    kept(first, 1, 2)
    second = locate(two, **addresses(1, 2, start="10.0.0."))
    assert second.path == tmp_path / "staging.podnet.lock.yml" and "belongs to production.yml" in second.notes[0]
    lock_file.write(second.path, EMPTY.with_pod_subnets({"w1": ["10.244.9.0/24"]}).with_owners([two], tmp_path))
    assert locate(one, **addresses(1, 2)).path == first.path and not locate(one).notes
    assert locate(two, **addresses(1, 2, start="10.0.0.")) == lock_file.Place(second.path, [two], [])


def test_a_renamed_or_copied_inventory_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "inventory.yml", tmp_path / "hosts.yml"
    for file in (one, two):
        file.touch()
    kept(locate(one, **addresses(1, 2)), 1, 2)
    with pytest.raises(Refused, match=r"belongs to inventory.yml.*write 'inventory: \[hosts.yml\]' there"):
        locate(two, **addresses(1, 2))
    text = (tmp_path / "podnet.lock.yml").read_text().replace("inventory: [inventory.yml]", "inventory: [hosts.yml]")
    (tmp_path / "podnet.lock.yml").write_text(text)
    assert locate(two, **addresses(1, 2)).path == tmp_path / "podnet.lock.yml"


def test_the_order_of_sources_does_not_matter(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "x.yml", tmp_path / "b" / "y.yml", tmp_path / "b" / "z.yml"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    place = locate(files[1], files[0], **addresses(1))
    assert place == locate(files[0], files[1], **addresses(1))
    kept(place, 1)
    assert locate(files[1], files[0]).path == locate(files[0], files[1]).path == locate(files[0]).path == place.path
    kept(locate(files[2], **addresses(7)), 7)
    assert locate(files[2]).path == tmp_path / "b" / "podnet.lock.yml"
    assert locate(files[1], files[0]).path == place.path


def test_an_inventory_folder_has_its_lock_file_out_of_ansibles_sight(tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    folder.mkdir()
    hosts = folder / "hosts.yml"
    hosts.touch()
    kept(locate(hosts, **addresses(1)), 1)
    with pytest.raises(Refused, match=r"Ansible reads it as inventory.*; mv .*/podnet.lock.yml .*/.podnet.lock.yml"):
        locate(folder, **addresses(1))
    (folder / "podnet.lock.yml").rename(folder / ".podnet.lock.yml")
    with pytest.raises(Refused, match="Ansible reads it; set it to"):
        lock_file.locate("lock.yml", [str(folder)], {})
    # By the folder or by its file, it is the same cluster.
    assert locate(folder, **addresses(1)).path == locate(hosts, **addresses(1)).path == folder / ".podnet.lock.yml"


def test_a_lock_file_without_a_name_in_common_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yml"
    file.touch()
    lock = EMPTY.with_pod_subnets({f"other-{number}": ["10.244.0.0/24"] for number in range(9)})
    place = locate(file)
    with pytest.raises(Refused, match=r"none of its workers \(other-0, other-1, other-2 and 6 more\) is in this"):
        lock_file.refuse_strange(place, lock, ["w1"])
    lock_file.refuse_strange(place, lock, ["w1", "other-3"])
    lock_file.refuse_strange(place, EMPTY, ["w1"])


def test_an_inventory_that_is_no_file_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"this inventory \(a,b,\) is no file; say where"):
        lock_file.locate(None, ["a,b,"], {})
    file = tmp_path / "inv" / "inventory.yml"
    file.parent.mkdir()
    file.touch()
    monkeypatch.chdir(tmp_path)
    assert lock_file.locate("x.yml", [str(file)], {}).path == tmp_path / "inv" / "x.yml"
    assert lock_file.locate("/x/y.yml", ["a,"], {}).path == Path("/x/y.yml")
    (tmp_path / "x.yml").touch()
    with pytest.raises(Refused, match="counts from the inventory's folder; mv"):
        lock_file.locate("x.yml", [str(file)], {})
