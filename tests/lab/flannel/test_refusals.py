# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and bad worlds of the flannel backend: a clear message, and no worker touched."""

from __future__ import annotations

import datetime
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from standins import release
from standins.control_plane import ControlPlane
from support import flannel
from support.lab import Lab, fresh, unlike

FLANNEL = f"flannel-{flannel.VERSION}-linux-amd64.tar.gz"
ADMIN = "/etc/kubernetes/admin.conf"
PKI = "/etc/kubernetes/pki"


# Of the administrator's: one that trusts another CA, and one of a user without any rights.
KUBECONFIGS = f"""
import base64, copy, yaml
admin = yaml.safe_load(open("{ADMIN}"))
data = lambda name: base64.b64encode(open(name, "rb").read()).decode()
other, nobody = copy.deepcopy(admin), copy.deepcopy(admin)
other["clusters"][0]["cluster"]["certificate-authority-data"] = data("expired.crt")
nobody["users"][0]["user"] = {{"client-certificate-data": data("nobody.crt"), "client-key-data": data("nobody.key")}}
for name, content in (("other", other), ("nobody", nobody)):
    yaml.safe_dump(content, open(name + ".conf", "w"))
"""


class World(Lab):
    """A lab with a control plane that every test leaves as it was."""

    plane: ControlPlane

    def refused(self, *said: str, hosts: dict[str, Any] | None = None, **variables: Any) -> None:
        """A run must say all of that, in whatever lines, and leave the workers alone."""
        before = self.snapshots()
        play = self.play("site", inventory=self.inventory_of(hosts) if hosts else None, **variables)
        told = " ".join(play.output.split())
        assert play.code != 0 and all(text in told for text in said), play.output
        assert "Traceback" not in play.output and "urllib3" not in play.output
        assert not unlike(before, self.snapshots())


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with fresh("flannel-refusals") as lab:
        made = World(lab.name)
        made.variables.update(podnet_backend="flannel", podnet_serial="100%")
        made.plane = flannel.prepare(lab.name)
        yield made


@pytest.fixture(scope="module")
def bad(world: World) -> str:
    """A folder on the control plane with CAs and kubeconfigs that are no good."""
    folder = "/root/bad"
    files = {**authority("expired", -20, -10), **authority("tomorrow", 1, 300)}
    for name, content in files.items():
        world.plane.run("control-plane", f'mkdir -p {folder} && cat >{folder}/"$1"', name, stdin=content)
    world.sh(
        "control-plane",
        f"""
        cd {folder} && openssl rsa -aes256 -passout pass:secret -in {PKI}/ca.key -out encrypted.key 2>/dev/null
        openssl req -newkey rsa:2048 -nodes -keyout nobody.key -subj /CN=nobody 2>/dev/null |
            openssl x509 -req -CA {PKI}/ca.crt -CAkey {PKI}/ca.key -set_serial 99 -days 1 -out nobody.crt 2>/dev/null
        python3 -c '{KUBECONFIGS}'
    """,
    )
    return folder


def authority(name: str, first: int, last: int) -> dict[str, bytes]:
    """A CA that is valid from day ``first`` to day ``last``, counted from today."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=first))
        .not_valid_after(now + datetime.timedelta(days=last))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return {
        f"{name}.crt": certificate.public_bytes(pem),
        f"{name}.key": key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain),
    }


def test_nodes_without_a_pod_cidr(world: World) -> None:
    world.plane.up(node_cidrs=False, workers=False)
    world.plane.kubectl("delete", "node", "worker-1", "worker-2")
    world.plane.up(node_cidrs=False)
    try:
        world.refused("podCIDR", "--allocate-node-cidrs")
    finally:
        world.plane.up()


def test_a_pod_cidr_outside_of_the_clusters(world: World) -> None:
    world.refused("10.244.0.0/24", "podnet_pod_cidr", "10.99.0.0/16", podnet_pod_cidr="10.99.0.0/16")


def test_a_node_that_is_missing(world: World) -> None:
    hosts = world.hosts()
    hosts["worker-2"] = {**hosts["worker-2"], "podnet_node_name": "worker-9", "podnet_node_ip": "172.16.0.4"}
    world.refused("there is no Node worker-9", "worker-2", hosts=hosts)


def test_a_node_by_another_name(world: World) -> None:
    world.plane.kubectl("delete", "node", "worker-2")
    world.plane.join("worker-2", hostname_override="worker-2.example.org")
    try:
        world.refused("worker-2: there is no Node worker-2", "podnet_node_name: worker-2.example.org")
    finally:
        world.plane.kubectl("delete", "node", "worker-2.example.org")
        world.plane.join("worker-2")


def test_an_api_server_that_is_down(world: World) -> None:
    world.sh("control-plane", "systemctl stop kube-apiserver")
    try:
        world.refused("control-plane:6443", "nothing answers there", ADMIN)
    finally:
        world.sh("control-plane", "systemctl start kube-apiserver")
        world.plane.wait_ready()


def test_an_api_server_of_another_ca(world: World, bad: str) -> None:
    world.refused("CA", f"{bad}/other.conf", podnet_admin_kubeconfig=f"{bad}/other.conf")


def test_a_kubeconfig_without_rights(world: World, bad: str) -> None:
    world.refused("nobody", "nodes", f"{bad}/nobody.conf", podnet_admin_kubeconfig=f"{bad}/nobody.conf")


def test_a_kubeconfig_that_is_missing(world: World) -> None:
    world.refused("/root/none.conf", podnet_admin_kubeconfig="/root/none.conf")


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (f"{PKI}/ca.crt", "BAD/none.key", "none.key"),
        (f"{PKI}/ca.crt", "BAD/encrypted.key", "podnet_ca_passphrase"),
        (f"{PKI}/ca.crt", "BAD/expired.key", "is not the key of the certificate"),
        ("BAD/expired.crt", "BAD/expired.key", "expired"),
        ("BAD/tomorrow.crt", "BAD/tomorrow.key", "is not valid before"),
        (f"{PKI}/admin.crt", f"{PKI}/admin.key", "CA"),
    ],
)
def test_a_ca_that_is_no_good(world: World, bad: str, certificate: str, key: str, said: str) -> None:
    paths = [path.replace("BAD", bad) for path in (certificate, key)]
    world.refused(said, podnet_ca_certificate=paths[0], podnet_ca_key=paths[1])


def archives(folder: Path, world: World, content: bytes | None = None) -> dict[str, Any]:
    """The lab's releases with another flannel; variables that name them."""
    shutil.copytree(world.folder / "releases", folder, dirs_exist_ok=True)
    if content is not None:
        (folder / FLANNEL).write_bytes(content)
    files = (file for file in folder.iterdir() if file.name.endswith(("gz", "tgz")))
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"podnet_artifacts_dir": str(folder), "podnet_artifacts_sha256": digests}


def test_an_archive_with_another_checksum(world: World, tmp_path: Path) -> None:
    given = archives(tmp_path, world)
    given["podnet_artifacts_sha256"][FLANNEL] = "0" * 64
    world.refused(FLANNEL, "0" * 64, **given)


def test_an_archive_without_a_checksum(world: World, tmp_path: Path) -> None:
    given = archives(tmp_path, world)
    del given["podnet_artifacts_sha256"][FLANNEL]
    world.refused(FLANNEL, "podnet_artifacts_sha256", podnet_lock_file=str(tmp_path / "lock.yml"), **given)


def test_an_archive_that_ends_too_early(world: World, tmp_path: Path) -> None:
    whole = (world.folder / "releases" / FLANNEL).read_bytes()
    world.refused(FLANNEL, **archives(tmp_path, world, whole[: len(whole) // 2]))


def test_an_archive_that_reaches_out_of_its_folder(world: World, tmp_path: Path) -> None:
    hostile = release.pack({"flanneld": (b"#!/bin/sh\n", 0o755), "../../etc/passwd": (b"", 0o644)})
    world.refused("../../etc/passwd", **archives(tmp_path, world, hostile))


def test_an_archive_that_is_not_there(world: World, tmp_path: Path) -> None:
    given = archives(tmp_path, world)
    (tmp_path / FLANNEL).unlink()
    world.refused(FLANNEL, **given)


def test_a_backend_that_flannel_would_misread(world: World) -> None:
    world.refused("podnet_flannel_backend", "VNI", podnet_flannel_backend={"Type": "vxlan", "vni": 7})


def test_a_flanneld_of_others(world: World) -> None:
    world.sh("worker-2", "install -m 755 /bin/true /usr/local/bin/flanneld")
    try:
        world.refused("/usr/local/bin/flanneld", "podnet_flannel_adopt")
    finally:
        world.sh("worker-2", "rm /usr/local/bin/flanneld")


def test_no_br_netfilter(world: World) -> None:
    before = world.snapshots("worker-1")
    world.sh("worker-2", "mount -t tmpfs tmpfs /proc/sys/net && mv /lib/modules /lib/modules.away")
    try:
        play = world.play("site")
        assert play.code != 0 and "br_netfilter: this kernel can't load the module" in play.output, play.output
        assert not unlike(before, world.snapshots("worker-1"))
    finally:
        world.sh("worker-2", "umount /proc/sys/net; mv /lib/modules.away /lib/modules")
