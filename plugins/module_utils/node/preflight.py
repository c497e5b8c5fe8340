# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node lacks; nothing is changed."""

from __future__ import annotations

from typing import Any

from ..core import boot_units, files, persist, tools
from ..core.problems import Refused
from ..core.resource import Call, Resource
from ..netlink.channel import NetlinkError
from . import checks as preflight
from . import flannel_absent, own_networks


def examine(call: Call) -> tuple[list[str], list[str]]:
    """(problems, packages to install)."""
    options = call.params
    problems = []
    if not persist.systemd_runs():
        problems.append("systemd does not run here; what survives a reboot is kept in its units")
    problems += preflight.addresses(options["node_ips"])
    going = flannel_absent.leaving(call.run_command) if options["makes_room"] else []
    problems += preflight.routes_away(options["pod_subnets"], going)
    problems += own_networks.problems(options)
    containerd = tools.find("containerd")
    if containerd:
        _code, config, _err = call.run_command([containerd, "config", "dump"])
        problems += preflight.runtime_folders(config, options["conf_dir"], options["bin_dir"])
    source, version = options["plugins_source"], options["cni_version"]
    problems += preflight.plugins(options["bin_dir"], options["plugins"])
    used = options["used_plugins"]
    problems += preflight.plugin_versions(call.run_command, options["bin_dir"], used, source, version)
    problems += preflight.runtime(options["runtime_socket"]) if options["runtime_socket"] else []
    problems += preflight.room(options["room"])
    missing = preflight.missing_commands(options["commands"])
    if options["masquerade"] != "none":
        versions = {6 if ":" in subnet else 4 for subnet in options["pod_subnets"]}
        command, problem = preflight.masquerade(call.run_command, options["masquerade"], sorted(versions))
        missing += [command] if command else []
        problems += [problem] if problem else []
    python, python_problems = preflight.missing_python(options["python"])
    missing += python
    problems += python_problems
    packages = preflight.packages(missing, preflight.family(files.read_text("/etc/os-release") or ""))
    if missing and not (options["manage_packages"] and packages):
        named = f" (packages {', '.join(packages)})" if packages else ""
        problems.append(f"missing here: {', '.join(missing)}{named}; install them")
    if "modprobe" not in missing:
        problems += preflight.kernel_modules(call.run_command, ["br_netfilter", *options["kernel_modules"]])
    return problems, packages


def converge(call: Call) -> dict[str, Any]:
    """Look, and change nothing. Raises Refused with everything that is missing."""
    try:
        problems, packages = examine(call)
    except NetlinkError as error:
        raise Refused([f"the kernel's addresses and routes can't be read: {error}"]) from error
    if problems:
        raise Refused(problems)
    return {
        "changed": False,
        "packages": packages,
        "distribution_plugins": preflight.distribution_plugins(),
        "meshes": boot_units.meshes(),
    }


RESOURCE = Resource(
    {
        "node_ips": {"type": "list", "elements": "str", "default": []},
        "pod_subnets": {"type": "list", "elements": "str", "default": []},
        "pod_cidrs": {"type": "list", "elements": "str", "default": []},
        "makes_room": {"type": "bool", "default": False},
        "bridge": {"type": "str", "default": "cni0"},
        "protect": {"type": "list", "elements": "str", "default": []},
        "conf_dir": {"type": "path", "default": "/etc/cni/net.d"},
        "bin_dir": {"type": "path", "default": "/opt/cni/bin"},
        "plugins": {"type": "list", "elements": "str", "default": []},
        "python": {"type": "list", "elements": "str", "choices": list(preflight.PYTHON_PACKAGES), "default": []},
        "used_plugins": {"type": "list", "elements": "str", "default": []},
        "plugins_source": {
            "type": "str",
            "choices": ["distribution", "release", "none"],
            "default": "none",
        },
        "cni_version": {"type": "str", "default": "1.0.0"},
        "commands": {"type": "list", "elements": "str", "choices": ["bridge", "iptables"], "default": []},
        "kernel_modules": {"type": "list", "elements": "str", "default": []},
        "masquerade": {"type": "str", "choices": ["auto", "nftables", "iptables", "none"], "default": "none"},
        "runtime_socket": {"type": "path"},
        "manage_packages": {"type": "bool", "default": True},
        "room": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "folder": {"type": "path", "required": True},
                "bytes": {"type": "int", "required": True},
            },
        },
    },
    converge,
    changes=False,
)
