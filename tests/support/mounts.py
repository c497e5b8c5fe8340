# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's files without the machine's: /etc in an overlay, real mounts on it, a systemctl that refuses on demand."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from support.modules import run_module
from support.netns import command

STATE_DIR = "/etc/weft-podnet"
FOLDERS = (STATE_DIR, "/etc/systemd", "/etc/iproute2", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/cni")
SYSTEMCTL = """\
#!/bin/sh
# Keeps units' states as files; refuses a verb where a file says so.
state={folder}
verb=$1; shift
[ -e $state/refuse-$verb ] && {{ echo "Job for $* failed." >&2; exit 1; }}
now=
[ -e $state/busy ] && case "$verb $*" in stop*|disable*--now*)
for unit; do [ -e $state/active-$unit ] && sh $state/busy; done;;
esac
for unit; do case $unit in --now) now=1;; esac; done
wants=/etc/systemd/system/multi-user.target.wants
case $verb in
is-active) [ -e $state/active-$1 ] && echo active || {{ echo inactive; exit 3; }};;
restart|start) touch $state/active-$unit;;
stop) rm -f $state/active-$unit;;
enable) mkdir -p $wants; ln -sf ../$unit $wants/$unit;;
show) for unit; do
case $unit in --*) continue;; esac
[ -e $state/show-$unit ] && cat $state/show-$unit || printf 'LoadState=not-found\\nActiveState=inactive\\n'; echo
done;;
disable) rm -f $wants/$unit; [ -n "$now" ] && rm -f $state/active-$unit;;
esac
exit 0
"""


class Mounts:
    """A mount namespace whose /etc may be filled, made read-only and thrown away. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.units = folder / "units"

    def __enter__(self) -> Mounts:
        for name in ("upper", "work", "units"):
            (self.folder / name).mkdir()
        fake = self.folder / "systemctl"
        fake.write_text(SYSTEMCTL.format(folder=self.units))
        fake.chmod(0o755)
        Path("/run/systemd").mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout and self._process.stdout.readline()
        self.pid = self._process.pid
        upper, work = self.folder / "upper", self.folder / "work"
        self.sh(f"mount -t overlay overlay -o lowerdir=/etc,upperdir={upper},workdir={work} /etc")
        self.sh("mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system")
        # As on a fresh host, without what the machine's own units are.
        self.sh(
            "mount -t tmpfs tmpfs /etc/systemd"
            "&& mkdir -p /etc/systemd/system/multi-user.target.wants /etc/systemd/network"
        )
        self.sh(f"mount --bind {fake} /usr/bin/systemctl")
        return self

    def __exit__(self, *_exc: object) -> None:
        self.sh("chattr -R -i -a /etc/weft-podnet /etc/systemd 2>/dev/null; true")
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def sh(self, script: str) -> str:
        return command("nsenter", "-t", str(self.pid), "-m", "--", "sh", "-c", script)

    def run(self, name: str, netns: Any = None, check: bool = False, **args: Any) -> dict[str, Any]:
        return run_module(name, args, check=check, netns=netns, within=self.pid)

    def refuse(self, verb: str, yes: bool = True) -> None:
        """Let systemctl fail whenever it gets this command."""
        file = self.units / f"refuse-{verb}"
        if yes:
            file.touch()
        else:
            file.unlink()

    def busy(self, script: str) -> None:
        """Units that run do this at the last moment before they are stopped."""
        (self.units / "busy").write_text(script)

    def path(self, name: str) -> Path:
        """A path of this host as seen from outside."""
        return Path(f"/proc/{self.pid}/root{name}")

    def state(self) -> dict[str, Any]:
        """Every file, link and folder of interest with content and mode, and the active units."""
        found: dict[str, Any] = {"active": sorted(path.name for path in self.units.glob("active-*"))}
        for folder in FOLDERS:
            for here, _names, names in os.walk(self.path(folder)):
                for each in (Path(here), *(Path(here, name) for name in names)):
                    status = each.lstat()
                    mode = stat.filemode(status.st_mode)
                    name = str(each).removeprefix(f"/proc/{self.pid}/root")
                    if each.is_symlink():
                        found[name] = (mode, str(each.readlink()))
                    elif each.is_file():
                        found[name] = (mode, status.st_uid, each.read_bytes())
                    elif each != self.path(folder):
                        found[name] = mode
        return found
