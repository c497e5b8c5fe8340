# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real control plane and kubelet in the stand-ins' place, from the folder that PODNET_REAL_BINARIES names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from standins.units import KUBELET_CONF, PKI, Files, kubeconfig, stand_ins, unit

BIN = "/usr/local/bin"
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager")
SERVICES = ["etcd.service", "kube-apiserver.service", "kube-controller-manager.service"]
SERVICE_CIDR = "10.96.0.0/16"
MANAGER_CONF = "/etc/kubernetes/controller-manager.conf"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"

# More certificates, with the shell functions of control_plane.py.
AUTHORITY = """
issue kube-controller-manager /CN=system:kube-controller-manager clientAuth
issue apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
if [ ! -s sa.key ]; then
    quietly openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out sa.key
    openssl pkey -in sa.key -pubout -out sa.pub
fi
"""

# kubelet writes these; in a node they are the machine's and read-only. Files of the node's own stand in for them.
WRITABLE = "vm/overcommit_memory kernel/panic kernel/panic_on_oops"
PREPARE = f"""\
#!/bin/sh
set -e
for name in {WRITABLE}; do
    grep -q " /proc/sys/$name " /proc/self/mountinfo && continue
    own=/run/weft-sysctl/$name
    mkdir -p "${{own%/*}}"
    cat "/proc/sys/$name" >"$own"
    mount --bind "$own" "/proc/sys/$name"
done
image=$(containerd config dump | sed -n 's/^ *sandbox_image = "\\(.*\\)"/\\1/p')
python3 -m standins.sandbox_image "$image" | ctr --namespace k8s.io images import - >/dev/null
"""


class Binaries(NamedTuple):
    """A folder with real binaries. ``kubelet``: whether the workers' is among them."""

    folder: Path
    kubelet: bool

    @classmethod
    def given(cls) -> Binaries | None:
        """None where the variable is not set. Raises RuntimeError for a folder that lacks something."""
        named = os.environ.get("PODNET_REAL_BINARIES")
        if not named:
            return None
        folder = Path(named)
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise RuntimeError(f"PODNET_REAL_BINARIES={named}: no {', '.join(missing)} there; unset it for stand-ins")
        return cls(folder, (folder / "kubelet").is_file())

    def _install(self, files: Files, *names: str) -> None:
        for name in names:
            files.add(f"{BIN}/{name}", (self.folder / name).read_bytes(), 0o755)

    def control_plane(self, node_cidrs: bool, cluster_cidr: str) -> Files:
        files = Files()
        self._install(files, *NEEDED)
        rule = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
        policy = {**rule, "omitStages": ["RequestReceived"]}
        files.add("/etc/kubernetes/audit-policy.yaml", json.dumps(policy))
        user = {
            "client-certificate": f"{PKI}/kube-controller-manager.crt",
            "client-key": f"{PKI}/kube-controller-manager.key",
        }
        cluster = {"certificate-authority": f"{PKI}/ca.crt"}
        manager = kubeconfig("https://control-plane:6443", cluster, user, "system:kube-controller-manager")
        files.add(MANAGER_CONF, manager, 0o600)
        # It reads changed certificates by itself.
        apiserver = "LogsDirectory=kubernetes\nExecReload=/bin/true\n"
        for name, words, after, more in (
            ("etcd", _etcd(), "", ""),
            ("kube-apiserver", _apiserver(), "etcd.service", apiserver),
            ("kube-controller-manager", _manager(node_cidrs, cluster_cidr), "kube-apiserver.service", ""),
        ):
            start = f"{BIN}/{name} {' '.join(words)}"
            files.add(f"/etc/systemd/system/{name}.service", unit(name, start, after, more))
        return files

    def worker(self, name: str) -> Files:
        files = stand_ins("sandbox_image.py")
        self._install(files, "kubelet")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{PKI}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": "",
        }
        files.add(KUBELET_CONFIG, json.dumps(config, indent=2))
        files.add("/usr/local/libexec/weft-kubelet-prepare", PREPARE, 0o755)
        start = f"{BIN}/kubelet --config={KUBELET_CONFIG} --kubeconfig={KUBELET_CONF} --hostname-override={name}"
        prepare = "ExecStartPre=/usr/local/libexec/weft-kubelet-prepare\n"
        files.add("/etc/systemd/system/kubelet.service", unit("kubelet", start, "containerd.service", prepare))
        return files


def _etcd() -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        "--name=control-plane --data-dir=/var/lib/etcd",
        f"--listen-client-urls={client} --advertise-client-urls={client}",
        f"--listen-peer-urls={peer} --initial-advertise-peer-urls={peer} --initial-cluster=control-plane={peer}",
    ]


def _apiserver() -> list[str]:
    return [
        "--secure-port=6443 --etcd-servers=http://127.0.0.1:2379 --advertise-address=172.16.0.2",
        f"--tls-cert-file={PKI}/apiserver.crt --tls-private-key-file={PKI}/apiserver.key --client-ca-file={PKI}/ca.crt",
        f"--service-account-key-file={PKI}/sa.pub --service-account-signing-key-file={PKI}/sa.key",
        f"--service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range={SERVICE_CIDR}",
        f"--kubelet-client-certificate={PKI}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={PKI}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP,Hostname --allow-privileged=true",
        "--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction",
        "--audit-policy-file=/etc/kubernetes/audit-policy.yaml --audit-log-path=/var/log/kubernetes/audit.log",
    ]


def _manager(node_cidrs: bool, cluster_cidr: str) -> list[str]:
    return [
        f"--kubeconfig={MANAGER_CONF} --leader-elect=false --use-service-account-credentials=true",
        f"--allocate-node-cidrs={str(node_cidrs).lower()} --cluster-cidr={cluster_cidr}",
        f"--service-cluster-ip-range={SERVICE_CIDR} --root-ca-file={PKI}/ca.crt",
        f"--service-account-private-key-file={PKI}/sa.key",
        f"--cluster-signing-cert-file={PKI}/ca.crt --cluster-signing-key-file={PKI}/ca.key",
    ]
