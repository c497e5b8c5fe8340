# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's pure parts: names, addresses, and the files it generates."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from podlab import access, layout, rootfs, tools
from podlab.run import LabError

NODES = layout.plan_nodes(2)


def test_addresses_follow_the_lesson():
    assert [(n.name, n.ipv4, n.ipv6) for n in NODES] == [
        ("control-plane", "172.16.0.2", "fd00:172:16::2"),
        ("worker-1", "172.16.0.3", "fd00:172:16::3"),
        ("worker-2", "172.16.0.4", "fd00:172:16::4"),
    ]


def test_every_node_has_addresses_of_its_own():
    nodes = layout.plan_nodes(layout.MAX_WORKERS)
    for values in ({n.ipv4 for n in nodes}, {n.ipv6 for n in nodes}, {n.mac for n in nodes}):
        assert len(values) == len(nodes)
    assert all(layout.parse_node(n.name) == n for n in nodes)
    assert max(len(n.name) for n in nodes) <= 15  # also the name of a link


@pytest.mark.parametrize(
    "name", ["", "worker-0", "worker-01", "worker-201", "worker", "underlay", "../etc", "worker-1\n"]
)
def test_other_names_are_no_nodes(name):
    with pytest.raises(LabError, match="no node's name"):
        layout.parse_node(name)


@pytest.mark.parametrize("workers", [-1, layout.MAX_WORKERS + 1])
def test_number_of_workers_is_checked(workers):
    with pytest.raises(LabError, match=f"--workers {workers}"):
        layout.plan_nodes(workers)


@pytest.mark.parametrize("name", ["", "Lab", "-lab", "lab-", "a b", "a/b", "..", "x" * 21, "lab\n"])
def test_lab_names_are_checked(name):
    with pytest.raises(LabError, match="--name"):
        layout.Lab(name, Path("/src"))


def test_labs_of_two_checkouts_share_nothing():
    one, other = layout.Lab("lab", Path("/src/one")), layout.Lab("lab", Path("/src/other"))
    assert {one.state, one.files, one.cgroup, one.lock}.isdisjoint({other.state, other.files, other.cgroup, other.lock})


def test_labs_of_this_checkout_and_of_removed_ones_are_found(tmp_path):
    here, elsewhere, gone = tmp_path / "here", tmp_path / "elsewhere", tmp_path / "gone"
    here.mkdir()
    elsewhere.mkdir()
    labs = [layout.Lab("my-lab", here), layout.Lab("a", elsewhere), layout.Lab("b", gone)]
    for lab in labs:
        (tmp_path / "state" / lab.id).mkdir(parents=True)
        (tmp_path / "state" / lab.id / "checkout").write_text(f"{lab.checkout}\n")
    assert set(layout.labs_of(here, tmp_path / "state")) == {labs[0], labs[2]}


def test_inventory_reaches_each_node_through_the_labs_own_ssh_config():
    config, control = Path("/a folder/ssh_config"), Path("/state/cp")
    parsed = yaml.safe_load(access.inventory(NODES, config, control))
    assert list(parsed) == ["control_plane", "workers"]
    assert list(parsed["workers"]["hosts"]) == ["worker-1", "worker-2"]
    values = parsed["workers"]["hosts"]["worker-2"]
    assert values["ansible_host"] == "172.16.0.4"
    assert shlex.split(values["ansible_ssh_common_args"]) == ["-F", str(config)]
    assert values["ansible_control_path_dir"] == str(control)


def test_inventory_without_workers_keeps_the_group():
    parsed = yaml.safe_load(access.inventory(layout.plan_nodes(0), Path("/c"), Path("/cp")))
    assert parsed["workers"] == {"hosts": {}, "vars": {"podnet_backend": "vxlan"}}


def test_ssh_config_escapes_what_ssh_would_expand():
    text = access.ssh_config(NODES, Path("/100%h/.lab"), ["nsenter", "--net=/a b/%net"])
    assert 'IdentityFile "/100%%h/.lab/id_ed25519"' in text
    assert "ProxyCommand nsenter '--net=/a b/%%net' %h %p" in text
    assert "StrictHostKeyChecking yes" in text


HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


def test_hosts_keep_foreign_lines_and_follow_the_lab():
    first = access.merge_hosts(HOSTS, NODES)
    assert first.startswith(HOSTS)
    edited = first.replace("localhost\n", "localhost me\n", 1) + "192.0.2.1 own.example\n"
    smaller = access.merge_hosts(edited, NODES[:2])
    assert smaller.startswith("127.0.0.1 localhost me\n")
    assert smaller.endswith("192.0.2.1 own.example\n")
    assert "172.16.0.3 worker-1\n" in smaller
    assert "worker-2" not in smaller


@pytest.mark.parametrize("text", ["", HOSTS, "127.0.0.1 localhost"])
def test_hosts_merged_again_stay_the_same(text):
    once = access.merge_hosts(text, NODES)
    assert access.merge_hosts(once, NODES) == once


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("ID=debian\n", 0),
        ("NAME=Mint\nID=linuxmint\nID_LIKE='ubuntu debian'\n", 0),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', 1),
        ("ID=manjaro\nID_LIKE=arch\n", 2),
    ],
)
def test_packages_are_named_as_the_system_names_them(text, column):
    assert tools._family(text) == column


def test_apt_options_carry_proxies_and_nothing_of_the_machines_folders():
    dump = 'Acquire "";\nAcquire::http "";\nAcquire::http::Proxy "http://proxy:3128";\nDir "/";\nAPT::Get "";\n'
    options = [o for o in rootfs._apt_options(dump) if not o.startswith("Dir::Etc::netrc")]
    assert options == ['Acquire::http::Proxy "http://proxy:3128";']


def test_another_release_comes_from_the_same_publishers(tmp_path, monkeypatch):
    monkeypatch.setattr(rootfs, "release", lambda: ("debian", "bookworm"))
    lists, work = tmp_path / "sources.list.d", tmp_path / "work"
    lists.mkdir()
    work.mkdir()
    own = lists / "debian.sources"
    own.write_text("Types: deb\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\nComponents: main\n")
    (lists / "other.list").write_text("deb http://other/apt other-bookworm main\n")
    assert rootfs.package_sources(work, "bookworm", tmp_path) == [own, lists / "other.list"]
    (copy,) = rootfs.package_sources(work, "trixie", tmp_path)
    assert "Suites: trixie trixie-updates\n" in copy.read_text() and "bookworm" in own.read_text()
    own.unlink()
    with pytest.raises(LabError, match="--release trixie: no file in"):
        rootfs.package_sources(work, "trixie", tmp_path)
