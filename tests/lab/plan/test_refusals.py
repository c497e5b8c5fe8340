# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and bad worlds: a clear message, and no host touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.lab import Lab, fresh, unlike


@pytest.fixture(scope="module")
def untouched() -> Iterator[Lab]:
    """One lab for all of these: each test proves that it leaves the nodes as they were."""
    with fresh("refusals") as lab:
        lab.variables["podnet_backend"] = "routes"
        yield lab


def refused(lab: Lab, said: str, hosts: dict[str, Any] | None = None, **variables: Any) -> None:
    before = lab.snapshots()
    inventory = lab.inventory_of(hosts) if hosts else None
    play = lab.play("site", inventory=inventory, **variables)
    assert play.code != 0 and said in " ".join(play.output.split()), play.output
    assert "Traceback" not in play.output
    assert not unlike(before, lab.snapshots())


def test_two_workers_with_one_pod_cidr(untouched: Lab) -> None:
    hosts = {name: {**host, "podnet_pod_subnet": "10.244.7.0/24"} for name, host in untouched.hosts().items()}
    refused(untouched, "worker-1 and worker-2 overlap: pod subnet 10.244.7.0/24", hosts)


def test_misspelt_and_wrong_variables(untouched: Lab) -> None:
    hosts = {name: {**host, "podnet_pod_cdir": "10.244.0.0/16"} for name, host in untouched.hosts().items()}
    refused(untouched, "unknown variable podnet_pod_cdir; did you mean podnet_pod_cidr?", hosts)
    refused(
        untouched,
        "podnet_backend: expected one of bridge, routes, vxlan, flannel, found 'flanel'",
        podnet_backend="flanel",
    )


def test_pod_network_over_the_underlay(untouched: Lab) -> None:
    refused(untouched, "podnet_node_ip: 172.16.0.3 lies inside podnet_pod_cidr", podnet_pod_cidr="172.16.0.0/16")


@pytest.mark.parametrize("backend", ["bridge", "routes", "vxlan"])
def test_pods_beside_the_nodes_in_the_underlays_network(untouched: Lab, backend: str, tmp_path: Path) -> None:
    """No node's own address is in there, but other hosts of the subnet are, and the bridge would take them."""
    said = "overlaps this host's own network 172.16.0.0/24 on eth0"
    variables: dict[str, Any] = {
        "podnet_pod_cidr": "172.16.0.128/25",
        "podnet_node_cidr_mask_size": 28,
        "podnet_backend": backend,
    }
    # What is allotted stays in the lock file, also of a run that is refused later.
    refused(untouched, said, podnet_lock_file=str(tmp_path / "podnet.lock.yml"), **variables)


def test_an_unreachable_worker(untouched: Lab) -> None:
    hosts = untouched.hosts()
    hosts["worker-9"] = {**hosts["worker-1"], "ansible_host": "172.16.0.99"}
    refused(untouched, "172.16.0.99", hosts)


def test_an_address_the_worker_does_not_have(untouched: Lab) -> None:
    hosts = untouched.hosts()
    hosts["worker-2"] = {**hosts["worker-2"], "podnet_node_ip": "172.16.0.44"}
    refused(untouched, "podnet_node_ip: 172.16.0.44 is no address of this host, which has 172.16.0.4 on eth0", hosts)


def test_a_worker_without_plugins(untouched: Lab) -> None:
    refused(untouched, "/opt/cni/bin lacks bridge, host-local, loopback", podnet_cni_plugins_source="none")


POORER = r"""
mkdir -p /opt/cni/bin /root/hidden
printf '#!/bin/sh\necho '\''{"supportedVersions":["0.3.1","0.4.0"]}'\''\n' >/opt/cni/bin/bridge
chmod +x /opt/cni/bin/bridge
for tool in nft iptables iptables-legacy; do mv -f $(command -v $tool) /root/hidden/ || true; done
python3 -m venv --without-pip /opt/venv
"""
RESTORED = "rm -r /opt/cni /opt/venv; mv /root/hidden/* /usr/sbin; rmdir /root/hidden"


def test_what_a_run_would_fail_for_later(untouched: Lab) -> None:
    """Old plugins, no firewall tools, an interpreter that no package reaches: all of them in the look, at once."""
    lab, hosts = untouched, untouched.hosts()
    hosts["worker-2"] = {**hosts["worker-2"], "ansible_python_interpreter": "/opt/venv/bin/python3"}
    lab.sh("worker-2", POORER)
    try:
        before = lab.snapshots()
        play = lab.play(
            "site",
            inventory=lab.inventory_of(hosts),
            podnet_backend="vxlan",
            podnet_manage_packages=False,
            podnet_verify_containerd_socket="/run/elsewhere.sock",
        )
        said = " ".join(play.output.split())
        assert play.code != 0 and not unlike(before, lab.snapshots()), play.output
        for problem in (
            "CNI plugin /opt/cni/bin/bridge: it does not support cniVersion 1.0.0, only 0.3.1, 0.4.0",
            "missing here: nft (packages nftables)",
            "/opt/venv/bin/python3 can't import the Python package pyroute2; "
            "the distribution's python3-pyroute2 serves "
            "only /usr/bin/python3: run /opt/venv/bin/python3 -m pip install 'pyroute2>=0.7.2', or set "
            "ansible_python_interpreter: /usr/bin/python3",
            "containerd does not listen on /run/elsewhere.sock",
        ):
            assert problem in said, (problem, play.output)
    finally:
        lab.sh("worker-2", RESTORED)


def test_a_user_without_become(untouched: Lab) -> None:
    lab = untouched
    lab.sh("worker-2", "useradd --create-home plain && cp -r /root/.ssh ~plain/ && chown -R plain: ~plain/.ssh")
    hosts = lab.hosts()
    hosts["worker-2"] = {**hosts["worker-2"], "ansible_user": "plain", "ansible_become": False}
    try:
        for playbook in ("site", "verify", "reset"):
            play = lab.play(playbook, inventory=lab.inventory_of(hosts))
            said = " ".join(play.output.split())
            assert play.code != 0 and "this module needs root, but runs as plain: set become: true" in said, play.output
            assert "Errno" not in play.output and "Traceback" not in play.output, play.output
    finally:
        lab.sh("worker-2", "pkill -u plain; userdel --remove plain || true")


def test_folders_the_runtime_does_not_look_in(untouched: Lab) -> None:
    refused(untouched, "containerd here looks in /opt/cni/bin, the inventory says /usr/lib/cni",
            podnet_cni_bin_dir="/usr/lib/cni")  # fmt: skip


def test_a_route_that_would_cut_ssh(untouched: Lab) -> None:
    before = untouched.snapshots()
    routes = [{"dst": "172.16.0.1/32", "via": "172.16.0.4"}]
    play = untouched.module("worker-1", "pod_route", {"routes": routes})
    assert play.code != 0 and "the ssh connection this run arrives by, from 172.16.0.1" in play.output, play.output
    assert not unlike(before, untouched.snapshots())


def test_a_protected_network(untouched: Lab) -> None:
    refused(untouched, "would capture 10.244.1.0/28, listed in protect", podnet_protect=["10.244.1.0/28"])


def test_a_stranger_on_the_route(untouched: Lab) -> None:
    """worker-1 alone has a clash, and worker-2 stays untouched as well."""
    untouched.exec("worker-1", "ip", "route", "add", "10.244.1.0/24", "via", "172.16.0.9")
    try:
        refused(untouched, "is not ours: 10.244.1.0/24 via 172.16.0.9 dev eth0 proto boot")
    finally:
        untouched.exec("worker-1", "ip", "route", "del", "10.244.1.0/24")


POD = """
mkdir -p /srv/pod/usr /srv/pod/proc && ln -sfn usr/lib /srv/pod/lib && ln -sfn usr/lib64 /srv/pod/lib64
ctr --namespace other run --detach --rootfs --cni --cpu-shares 0 \\
    --mount type=bind,src=/usr,dst=/usr,options=rbind:ro /srv/pod other /usr/bin/sleep 600
"""


def test_a_reset_under_pods_of_others(lab: Lab) -> None:
    """One pod on one worker, and all workers keep what they have."""
    assert lab.play("site", podnet_verify=False).code == 0
    lab.sh("worker-2", POD)
    before = lab.snapshots()
    told = lab.play("reset")
    assert told.code != 0 and "10.244.1." in told.output and "podnet_live_pods" in told.output, told.output
    assert not unlike(before, lab.snapshots())
    lab.exec("worker-2", "ctr", "--namespace", "other", "task", "kill", "--signal", "KILL", "other")
    assert lab.play("reset", podnet_live_pods="keep").code == 0
    assert "cni0" not in lab.exec("worker-2", "ip", "link")


def test_changes_under_live_pods(lab: Lab) -> None:
    assert lab.play("site", podnet_verify=False).code == 0
    started = lab.module("worker-1", "pod_probe", {"state": "started", "node": "worker-1"})
    assert started.code == 0, started.output
    before = json.loads(lab.exec("worker-1", "cat", "/etc/cni/net.d/10-bridge.conflist"))
    removal = {"name": "10-bridge.conflist", "state": "absent"}
    told = lab.module("worker-1", "cni_config", removal)
    assert told.code != 0 and "allow_live_pods" in told.output, told.output
    moved = lab.play("site", podnet_verify=False, podnet_pod_cidr="10.245.0.0/16")
    assert moved.code != 0 and "take it out of the lock file" in moved.output, moved.output
    (lab.folder / "podnet.lock.yml").unlink()
    renumbered = lab.play("site", podnet_verify=False, podnet_pod_cidr="10.245.0.0/16")
    assert renumbered.code != 0 and "allow_live_pods" in renumbered.output, renumbered.output
    assert json.loads(lab.exec("worker-1", "cat", "/etc/cni/net.d/10-bridge.conflist")) == before
    assert lab.module("worker-1", "cni_config", {**removal, "allow_live_pods": True}).code == 0
    assert lab.module("worker-1", "pod_probe", {"state": "absent"}).code == 0
