# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flanneld's command line: Go's flag syntax, the defaults, FLANNELD_<FLAG> for what the command line leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Value = str | int | bool | list[str]

# In the order of flanneld's own log line "CLI flags config".
DEFAULTS: dict[str, Value] = {
    "etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379",
    "etcd-prefix": "/coreos.com/network",
    "etcd-keyfile": "",
    "etcd-certfile": "",
    "etcd-cafile": "",
    "etcd-username": "",
    "etcd-password": "",
    "version": False,
    "kube-subnet-mgr": False,
    "kube-api-url": "",
    "kube-annotation-prefix": "flannel.alpha.coreos.com",
    "kubeconfig-file": "",
    "iface": [],
    "iface-regex": [],
    "ip-masq": False,
    "ip-masq-fully-random-disable": False,
    "iface-can-reach": "",
    "subnet-file": "/run/flannel/subnet.env",
    "public-ip": "",
    "public-ipv6": "",
    "subnet-lease-renew-margin": 60,
    "healthz-ip": "0.0.0.0",
    "healthz-port": 0,
    "iptables-resync": 5,
    "iptables-forward-rules": True,
    "ip-blackhole-route": False,
    "net-config-path": "/etc/kube-flannel/net-conf.json",
    "set-node-network-unavailable": True,
    "v": 0,
    "vmodule": "",
    "log_backtrace_at": "",
}
TRUE = {"1", "t", "T", "TRUE", "true", "True"}
FALSE = {"0", "f", "F", "FALSE", "false", "False"}
# Flags that came with a later version than the oldest that is stood in for.
SINCE = {"ip-masq-fully-random-disable": (0, 27, 4)}


class FlagError(ValueError):
    """The text is what Go's flag package prints."""


class Flags(dict[str, Value]):
    """All flags by name, with typed access."""

    def text(self, name: str) -> str:
        return str(self[name])

    def number(self, name: str) -> int:
        value = self[name]
        assert isinstance(value, int)
        return value

    def texts(self, name: str) -> list[str]:
        value = self[name]
        assert isinstance(value, list)
        return value

    def describe(self) -> str:
        """The flags as flanneld logs them at its start."""
        words = []
        for name, value in self.items():
            first, *rest = name.split("-")
            shown = f"[{' '.join(value)}]" if isinstance(value, list) else _go(value)
            words.append(f"{first}{''.join(part.capitalize() for part in rest)}:{shown}")
        return "{" + " ".join(words) + "}"


def parse(arguments: Sequence[str], version: tuple[int, ...]) -> tuple[Flags, set[str]]:
    """The flags and the names of those given. Words after the first that is no flag, or after ``--``, are left out."""
    flags = Flags(
        (name, list(value) if isinstance(value, list) else value)
        for name, value in DEFAULTS.items()
        if version >= SINCE.get(name, (0,))
    )
    given = set()
    words = list(arguments)
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        word = words.pop(0)
        name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
        if name in ("h", "help"):
            raise FlagError("")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}")
        if name not in flags:
            raise FlagError(f"flag provided but not defined: -{name}")
        if not equals:
            if isinstance(flags[name], bool):
                value = "true"
            elif words:
                value = words.pop(0)
            else:
                raise FlagError(f"flag needs an argument: -{name}")
        problem = _set(flags, name, value)
        if problem:
            kind = "boolean value" if isinstance(flags[name], bool) else "value"
            between = "for" if isinstance(flags[name], bool) else "for flag"
            raise FlagError(f'invalid {kind} "{value}" {between} -{name}: {problem}')
        given.add(name)
    return flags, given


def from_environment(flags: Flags, given: set[str], environ: Mapping[str, str]) -> list[str]:
    """Take what the command line left out from FLANNELD_*; the problems met are returned, their flags untouched."""
    problems = []
    for name in flags:
        key = "FLANNELD_" + name.upper().replace("-", "_")
        if name in given or not environ.get(key):
            continue
        problem = _set(flags, name, environ[key])
        if problem:
            problems.append(f'invalid value "{environ[key]}" for {key}: {problem}')
    return problems


def _set(flags: Flags, name: str, value: str) -> str | None:
    old = flags[name]
    if isinstance(old, list):
        old.append(value)
    elif isinstance(old, bool):
        if value not in TRUE | FALSE:
            return "parse error"
        flags[name] = value in TRUE
    elif isinstance(old, int):
        try:
            flags[name] = int(value, 0)
        except ValueError:
            return "parse error"
    else:
        flags[name] = value
    return None


def _go(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
