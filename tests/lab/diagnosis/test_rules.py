# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the diagnosis on real nodes: a break is made, the one finding is expected, and its fix is pasted.

Then nothing is wrong any more. Pods run on worker-1.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from podlab import rootfs

from support import flannel, node_pods
from support.breaks import ADMIN, BREAKS, Break, Command
from support.lab import Lab, Play, fresh, unlike, until

pytestmark = pytest.mark.long

PODS = ("one", "two")
WORKERS = ("worker-1", "worker-2")
KEPT = "/root/net.d"


class Cluster:
    """Two workers of a backend, healthy at first, with pods that run."""

    def __init__(self, lab: Lab, backend: str, release: str = "") -> None:
        self.lab, self.backend, self.release = lab, backend, release
        self.flannel, self.dual_stack = "flannel" in backend, "dual" in backend
        lab.variables["podnet_backend"] = "flannel" if self.flannel else "vxlan" if self.dual_stack else backend
        self.spoiled = False
        self.begin()

    def begin(self) -> None:
        """Fresh nodes, if a test has left them broken."""
        if self.spoiled:
            self.lab.down()
            self.lab.up(release=self.release)
        self.spoiled = False
        cidrs = ["10.244.0.0/16", *(["fd00:10:244::/48"] if self.dual_stack else [])]
        if self.dual_stack:
            hosts = {
                name: {**host, "podnet_node_ip": [f"172.16.0.{number}", f"fd00:172:16::{number}"]}
                for number, (name, host) in enumerate(self.lab.hosts().items(), 3)
            }
            self.lab.inventory_of(hosts, self.lab.inventory.name)
            self.lab.variables["podnet_pod_cidr"] = cidrs
        if self.backend == "routes":
            self.lab.variables["podnet_clients_group"] = "control_plane"
        if self.flannel:
            self.lab.variables["podnet_serial"] = "100%"
            flannel.prepare(self.lab.name, cluster_cidr=",".join(cidrs))
        self.connect()
        for pod in PODS:
            node_pods.start(self.lab, "worker-1", pod)
        for worker in WORKERS:
            self.lab.sh(worker, f"rm -rf {KEPT}; cp -a /etc/cni/net.d {KEPT}")

    def tidy(self) -> None:
        """CNI files as site.yml writes them: with live pods it refuses to change what a fix by hand has left."""
        for worker in WORKERS:
            put = "cmp -s $file /etc/cni/net.d/$file || cp -p $file /etc/cni/net.d/"
            self.lab.sh(worker, f"cd {KEPT} && for file in *; do {put}; done")

    def connect(self) -> None:
        made = self.lab.play("site", podnet_verify=False)
        assert made.code == 0, made.output

    def heal(self, host: str, fix: Command) -> None:
        """Do what a fix says, where its user would."""
        if callable(fix):
            fix(self.lab)
        elif "rotate_certificates.yml" in fix:
            rotated = self.lab.play("rotate_certificates")
            assert rotated.code == 0, rotated.output
        elif "site.yml" in fix:
            self.connect()
        elif "kubectl" in fix:
            self.lab.sh("control-plane", f"export KUBECONFIG={ADMIN}; {fix}")
        else:
            self.lab.sh(host, fix)


def named(look: Play, rule: str) -> set[tuple[str, str]]:
    """The findings as (host, rule). A note beside that rule is about what a break brings along."""
    return {
        (host, found)
        for severity, hosts, found in look.findings
        for host in hosts.split(" and ")
        if severity != "NOTE" or found == rule
    }


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    backend = request.param.removesuffix("-trixie")
    release = "trixie" if backend != request.param else ""
    if release and rootfs.release()[0] != "debian":
        pytest.skip("the nodes' packages come from this machine's own apt sources, and these have no Debian 13")
    with fresh(f"rules-{request.param}", release=release) as lab:
        yield Cluster(lab, backend, release)


@pytest.mark.parametrize("cluster", BREAKS, indirect=True)
def test_healthy_nodes_with_pods_have_no_finding(cluster: Cluster) -> None:
    before = cluster.lab.snapshots("control-plane", "worker-1", "worker-2")
    healthy = cluster.lab.play("diagnose")
    assert (healthy.code, healthy.findings) == (0, []), healthy.output
    assert unlike(before, cluster.lab.snapshots("control-plane", "worker-1", "worker-2")) == []


@pytest.mark.parametrize(
    ("cluster", "broken"),
    [
        pytest.param(backend, each, id=f"{backend}-{each.rule}-{number}")
        for backend, breaks in BREAKS.items()
        for number, each in enumerate(breaks)
    ],
    indirect=["cluster"],
    # That of the fixture: by default it is the test's where not all arguments are indirect, with fresh nodes for each.
    scope="module",
)
def test_a_break_is_named_and_its_fix_heals(cluster: Cluster, broken: Break) -> None:
    if cluster.spoiled:
        cluster.begin()
    cluster.spoiled = True
    lab = cluster.lab
    looks: list[Play] = []

    def is_found() -> bool:
        """A unit of the collection may still answer to what the former test did, and heal the break at once."""
        broken.happen(lab)
        looks.append(lab.play("diagnose"))
        return bool(named(looks[-1], broken.rule))

    assert until(is_found, 60), looks[-1].output
    found = looks[-1]
    met = named(found, broken.rule)
    if broken.both:
        assert met and met <= {(host, broken.rule) for host in WORKERS}, found.output
    else:
        assert met == {(broken.host, broken.rule)}, found.output
    for host, rule in sorted(met):
        cluster.heal(host, broken.by_hand or found.fixes[host, rule])
    said: list[str] = []

    def healed() -> bool:
        again = lab.play("diagnose")
        said.append(again.output)
        rest = [each for each in again.findings if not broken.after or each[0] != "NOTE"]
        return (again.code, rest) == (0, [])

    # A unit that is restarted is not waited for by its fix.
    assert until(healed, 60), f"after {found.fixes}: {said[-1]}"
    if broken.after:
        cluster.heal(broken.host, broken.after)
    cluster.tidy()
    cluster.spoiled = False
