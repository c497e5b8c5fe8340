# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random operations on a cluster, one after the other. After each, a run brings the cluster back.

    make soak SEED=7 OPS=200

After each: the run succeeds, all promised pairs of pods pass, a second run changes nothing, and foreign objects on the
nodes are what they were. `make test` does one operation, without flannel; the seed of a failure repeats it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import flannel
from support.lab import BIN, CHECKOUT, Lab, fresh
from support.plays import SETTINGS

SEED = int(os.environ.get("SEED", "1"))
OPERATIONS = int(os.environ.get("OPS", "1"))
# One operation is for `make test`, where fewer workers are quicker, and no control plane.
SHORT = OPERATIONS <= 10
WORKERS = [f"worker-{number}" for number in range(1, 4 if SHORT else 6)]
BACKENDS = ["bridge", "routes", "vxlan", *([] if SHORT else ["flannel"])]

# Foreign objects that a node may have. A unit creates them at boot; a link that goes down takes routes with it.
FOREIGN = r"""
set -e
cat >/usr/local/sbin/foreign <<'END'
ip link show foreign0 >/dev/null 2>&1 || ip link add foreign0 address 02:00:00:00:00:99 type bridge
ip link set foreign0 up
ip route replace 198.18.0.0/24 dev foreign0
ip route replace 198.19.0.0/24 via 172.16.0.1
nft list table ip foreign >/dev/null 2>&1 || nft -f - <<'RULES'
table ip foreign { chain post { type nat hook postrouting priority 50; ip saddr 198.18.0.0/24 masquerade; }; }
RULES
iptables -C INPUT -s 198.51.100.1 -j DROP 2>/dev/null || iptables -A INPUT -s 198.51.100.1 -j DROP
END
chmod +x /usr/local/sbin/foreign
cat >/etc/systemd/system/foreign.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/sbin/foreign
[Install]
WantedBy=multi-user.target
END
echo '{}' >/etc/cni/net.d/50-foreign.conf.off
echo 'net.ipv4.tcp_syncookies = 1' >/etc/sysctl.d/50-foreign.conf
systemctl enable --quiet foreign; systemctl restart foreign
"""
SHOWN = r"""
ip -brief link show foreign0; ip route show 198.18.0.0/24 | sed s,linkdown,,; ip route show 198.19.0.0/24
nft --stateless list table ip foreign; iptables -S INPUT | grep 198.51.100.1
md5sum /etc/systemd/system/foreign.service /etc/cni/net.d/50-foreign.conf.off /etc/sysctl.d/50-foreign.conf
"""
DRIFT = {
    "a route": "ip route show proto 87 | head -n1 | while read -r dst _; do ip route del $dst proto 87; done",
    "the mesh": "ip link del flannel.1 2>/dev/null || true",
    "masquerading": "nft delete table ip weft-podnet 2>/dev/null || true",
    "a file": "rm -f /etc/cni/net.d/10-*.conf*",
    "flanneld": "systemctl stop flanneld 2>/dev/null || true",
    "flannel's lease": "rm -f /run/flannel/subnet.env",
    "forwarding": "sysctl -qw net.ipv4.ip_forward=0",
    "units": "systemctl stop 'weft-podnet-*'; rm -f /etc/systemd/system/weft-podnet-*",
    "our folder": "rm -rf /etc/weft-podnet",
}


class Cluster:
    """What the inventory says at the moment, and the operations that change it or the nodes."""

    def __init__(self, lab: Lab, chance: random.Random) -> None:
        self.lab, self.chance = lab, chance
        self.everyone = lab.hosts()
        self.workers = list(WORKERS)
        self.backend = "vxlan"
        self.mtu = 1500

    def site(self, *words: str, playbook: str = "site", **variables: Any) -> tuple[int, str, dict[str, int]]:
        chosen = {name: self.everyone[name] for name in self.workers}
        done = self.lab.play(
            playbook,
            *words,
            inventory=self.lab.inventory_of(chosen),
            podnet_backend=self.backend,
            # The plain bridge promises pairs of one node only.
            podnet_verify_pods_per_node=2 if self.backend == "bridge" else 1,
            **variables,
        )
        return done.code, done.output, done.changed

    def one(self) -> str:
        return self.chance.choice(self.workers)

    def switch(self) -> str:
        self.backend = self.chance.choice([backend for backend in BACKENDS if backend != self.backend])
        return self.backend

    def remove(self) -> str:
        # One worker alone has no pairs of nodes.
        if len(self.workers) <= max(2, len(WORKERS) - 2):
            return self.add()
        gone = self.one()
        code, output, _changed = self.site("--limit", gone, playbook="reset")
        assert code == 0, output
        self.workers.remove(gone)
        return gone

    def add(self) -> str:
        absent = [name for name in WORKERS if name not in self.workers]
        if not absent:
            return self.remove()
        back = self.chance.choice(absent)
        self.workers = sorted([*self.workers, back])
        return back

    def reboot(self) -> str:
        node = self.one()
        self.lab.reboot(node)
        # The lab has no files that would keep it.
        self.lab.sh(node, f"ip link set eth0 mtu {self.mtu}")
        return node

    def flap(self) -> str:
        node = self.one()
        self.lab.sh(node, "ip link set eth0 down; sleep 0.5; ip link set eth0 up")
        return node

    def drift(self) -> str:
        node, what = self.one(), self.chance.choice(list(DRIFT))
        self.lab.sh(node, DRIFT[what])
        return f"{node}: {what}"

    def kill(self) -> str:
        """A run towards another backend, killed at a random moment. The next run is of the backend from before."""
        chosen = {name: self.everyone[name] for name in self.workers}
        path = self.lab.inventory_of(chosen)
        towards = self.chance.choice(BACKENDS)
        words = [str(BIN / "ansible-playbook"), "--inventory", str(path), str(CHECKOUT / "playbooks" / "site.yml")]
        words += ["--extra-vars", f"podnet_backend={towards}", "--extra-vars", "podnet_verify=false"]
        env = {**os.environ, **SETTINGS}
        with subprocess.Popen(words, cwd=CHECKOUT, env=env, stdout=subprocess.DEVNULL, start_new_session=True) as run:
            after = self.chance.uniform(1, 15)
            time.sleep(after)
            os.killpg(run.pid, signal.SIGKILL)
        return f"a run towards {towards}, after {after:.1f} s"

    def kill_module(self) -> str:
        node = self.one()
        # Ansible feeds a module to a Python without arguments.
        killer = "for n in $(seq 200); do pkill -9 -f ^/usr/bin/python3$ && break; sleep 0.1; done"
        delay = f"{self.chance.uniform(0, 5):.1f}"
        self.lab.sh(node, f"systemd-run --quiet --collect --unit killer sh -c 'sleep {delay}; {killer}'")
        self.backend = self.chance.choice(BACKENDS)
        self.site(podnet_verify=False)
        # It waits on where the run was over before it found anything.
        self.lab.sh(node, "systemctl stop killer 2>/dev/null || true")
        return f"{node}, towards {self.backend}"

    def reset(self) -> str:
        code, output, _changed = self.site(playbook="reset", podnet_live_pods="keep")
        assert code == 0, output
        return "everything"

    def restart(self) -> str:
        node, unit = self.one(), self.chance.choice(["containerd", "systemd-networkd", "nftables", "systemd-udevd"])
        self.lab.sh(node, f"systemctl restart {unit} || true")
        return f"{node}: {unit}"

    def narrow(self) -> str:
        self.mtu = 1400 if self.mtu == 1500 else 1500
        for node in WORKERS:
            # The controller's open connections keep the packet size of before, and nothing would say that it is lost.
            self.lab.sh(node, f"ip link set eth0 mtu {self.mtu}; pkill -f '^sshd: root' || true")
        return f"the underlay's MTU is {self.mtu}"

    @property
    def operations(self) -> list[Callable[[], str]]:
        return [self.switch, self.remove, self.add, self.reboot, self.flap, self.drift, self.kill, self.kill_module,
                self.reset, self.restart, self.narrow]  # fmt: skip

    def check(self, foreign: dict[str, str]) -> None:
        code, output, _changed = self.site()
        assert code == 0 and "promised pairs pass" in output, output
        code, output, changed = self.site(podnet_verify=False)
        assert code == 0 and set(changed.values()) == {0}, output
        for node in WORKERS:
            # A link that went down took routes with it, which nobody but their owner brings back.
            self.lab.sh(node, "sh /usr/local/sbin/foreign")
            assert self.lab.sh(node, SHOWN) == foreign[node]
            assert not self.lab.sh(node, "systemctl --failed --plain --no-legend")
            assert not self.lab.sh(node, "ls -d /run/weft-podnet* 2>/dev/null || true")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with fresh(f"soak-{SEED}", workers=len(WORKERS)) as lab:
        lab.variables["podnet_serial"] = "100%"
        if not SHORT:
            flannel.prepare(lab.name)
        yield Cluster(lab, random.Random(SEED))


@pytest.mark.long
def test_random_operations(cluster: Cluster) -> None:
    for node in WORKERS:
        cluster.lab.sh(node, FOREIGN)
    foreign = {node: cluster.lab.sh(node, SHOWN) for node in WORKERS}
    cluster.check(foreign)
    for number in range(1, OPERATIONS + 1):
        operation = cluster.chance.choice(cluster.operations)
        began = time.monotonic()
        what = operation()
        print(f"seed {SEED}, {number} of {OPERATIONS}: {operation.__name__}: {what}", flush=True)
        cluster.check(foreign)
        print(f"    {cluster.backend}, {len(cluster.workers)} workers, {time.monotonic() - began:.0f} s", flush=True)
