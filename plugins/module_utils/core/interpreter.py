# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python that Ansible runs on this host: which packages it has, and where a package for it must go."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

SYSTEM = "/usr/bin/python3"
# The oldest release of each package that the modules work with.
OLDEST = {"pyroute2": "0.7.2", "cryptography": "38"}


def lack(name: str) -> str:
    """What is missing of a package: "" where it is there and new enough."""
    if importlib.util.find_spec(name) is None:
        return f"{sys.executable} can't import the Python package {name}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    if _numbers(version) < _numbers(OLDEST[name]):
        return f"{sys.executable} has the Python package {name} {version}, which is older than {OLDEST[name]}"
    return ""


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def distribution_serves() -> bool:
    """Does a package of the distribution reach this interpreter? A virtual environment's has folders of its own."""
    if not any(re.match(r"/usr/lib\S*/(dist|site)-packages$", folder) for folder in sys.path):
        return False
    number = re.search(r"(\d+)\.(\d+)$", str(Path(SYSTEM).resolve()))
    return number is None or tuple(map(int, number.groups())) == sys.version_info[:2]


def remedy(name: str) -> str:
    """What to do where ``lack`` finds something."""
    wanted = f"'{name}>={OLDEST[name]}'"
    into = f"{sys.executable} -m pip install {wanted}"
    if distribution_serves():
        return f"install the package python3-{name}, {OLDEST[name]} or newer (elsewhere {into})"
    return (
        f"the distribution's python3-{name} serves only {SYSTEM}: run {into}, "
        f"or set ansible_python_interpreter: {SYSTEM} for this host"
    )
