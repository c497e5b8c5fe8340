# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes' common root file system consists of. A change of any of it makes a new image."""

from __future__ import annotations

PACKAGES = [
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "dbus",
    "ethtool",
    "firewalld",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-ping",
    "kmod",
    "kubernetes-client",  # kubectl
    "less",
    "network-manager",
    "nftables",
    "openssh-server",
    "openssl",
    "procps",
    "python3",
    "python3-apt",  # Ansible's apt module needs it, and a node has nowhere to fetch it from
    "python3-cryptography",
    "python3-kubernetes",  # the modules of kubernetes.core
    "python3-pyroute2",
    "python3-yaml",
    "runc",
    "socat",
    "systemd",
    "systemd-sysv",
    "tcpdump",
    "ufw",
]

# Left out while unpacking: nobody reads manuals in a node, and the image is a quarter smaller.
EXCLUDED = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/pam-configs/systemd",  # a session of logind for each login: firewalld's packages bring it
]

# Their packages enable them; ufw stays inactive by itself.
DISABLED = ["firewalld.service", "NetworkManager.service", "NetworkManager-wait-online.service"]

FILES = {
    # Filled by the role cni_plugins, as on a host that Kubernetes' own guides set up; Debian's default is /usr/lib/cni.
    # Nodes lack CAP_SYS_RESOURCE where the machine does: restrict_oom_score_adj makes pods start all the same.
    "/etc/containerd/config.toml": """\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
""",
    "/etc/ssh/sshd_config.d/lab.conf": """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
MaxStartups 100
MaxSessions 100
""",
    # Containers hold up a shutdown until this runs out; the default is 90 s.
    "/etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStopSec=5s\n",
    "/etc/systemd/journald.conf.d/lab.conf": "[Journal]\nRuntimeMaxUse=32M\n",
    # kubelet reads it; a node has no kernel log of its own.
    "/etc/tmpfiles.d/lab.conf": "L /dev/kmsg - - - - /dev/null\n",
    # systemd-nspawn mounts v1 controllers read-only, and runc must make its groups there. They show this node's own
    # part of the tree only (a control group namespace).
    "/etc/systemd/system/lab-cgroups.service": """\
[Unit]
Description=Make the v1 control groups writable for container runtimes
DefaultDependencies=no
Before=basic.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for d in /sys/fs/cgroup/*/cgroup.procs; do m=$${d%%/cgroup.procs}; \
[ -L "$$m" ] || mount -o remount,bind,rw "$$m" || exit 1; done'
ConditionPathIsMountPoint=/sys/fs/cgroup/memory

[Install]
WantedBy=basic.target
""",
    # A node's first boot enables what presets do not exclude.
    "/etc/systemd/system-preset/10-lab.preset": "".join(f"disable {unit}\n" for unit in DISABLED),
    "/etc/apt/sources.list": "",  # nodes reach no package host
    "/etc/machine-id": "",  # empty: every node gets its own at its first boot
    "/etc/resolv.conf": "",
    "/etc/default/locale": "",  # sshd's PAM stack complains about its absence at every login
}

ENABLED = ["systemd-networkd.service", "containerd.service", "ssh.service", "lab-cgroups.service"]

# What only costs: a node lives for minutes, and has no terminal, no logins of users and no devices. Without these, a
# boot takes two thirds of the processor time.
MASKED = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "modprobe@.service",
    "motd-news.timer",
    "polkit.service",  # comes with firewalld, which does not need it for root
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-initctl.socket",
    "systemd-logind.service",
    "systemd-network-generator.service",
    "systemd-pcrphase.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
]

# Globs. Keys would be the same on all nodes; the machine's package sources and proxies are no business of the nodes.
REMOVED = [
    "/etc/ssh/ssh_host_*",
    "/etc/apt/sources.list.d/*",
    "/etc/apt/auth.conf*",
    "/etc/apt/apt.conf.d/99mmdebstrap",
    "/etc/hostname",
    "/var/lib/apt/lists/*",
    # As `systemctl disable firewalld` leaves it: no firewall runs at first. Only a pattern finds a dangling link.
    "/etc/systemd/system/multi-user.target.wants/firewalld.*",
    "/etc/systemd/system/dbus-org.fedoraproject.*",
]
