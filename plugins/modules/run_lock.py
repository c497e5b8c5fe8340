#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for one run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Hold a host for one run, or release it
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - While one run holds a host, every module of this collection refuses to change it in another run, or ad hoc, and
    names the holder.
  - The run is named by the environment that the filter P(weft.podnet.run_environment#filter) makes, as a play's
    C(environment). Without it, the module does nothing.
  - The hold is a file, C(/run/weft-podnet/run.lock). It ends when it is released, when the host boots, half an hour
    after the holder's last step, or when another run of the same controller finds the holder's process gone.
extends_documentation_fragment:
  - weft.podnet.host
attributes:
  check_mode:
    description: A dry run holds nothing.
    support: full
  diff_mode:
    description: There is nothing to show, since the hold is not part of a host's configuration.
    support: none
options:
  state:
    description:
      - V(held) makes this run the holder of the host. If another run holds it, the task fails and names the holder.
      - V(released) ends this run's hold, and removes unused lock files.
    type: str
    choices: [held, released]
    default: held
seealso:
  - plugin: weft.podnet.run_environment
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Hold the host
  weft.podnet.run_lock:
  environment: "{{ ansible_check_mode | weft.podnet.run_environment(takes=true) }}"

- name: Release the host
  weft.podnet.run_lock:
    state: released
  environment: "{{ ansible_check_mode | weft.podnet.run_environment }}"
"""

RETURN = r"""
held:
  description: Whether this run holds the host now.
  returned: success
  type: bool
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

import os

from ansible_collections.weft.podnet.plugins.module_utils.core import lock, run_lock, tools
from ansible_collections.weft.podnet.plugins.module_utils.core.output import Module


def main() -> None:
    module = Module(
        argument_spec={"state": {"type": "str", "choices": ["held", "released"], "default": "held"}},
        supports_check_mode=True,
    )
    tools.begin(module, changes=False)
    mine = None if module.check_mode else run_lock.parse(os.environ.get(run_lock.RUN, ""))
    held = mine is not None and module.params["state"] == "held"
    problem = ""
    try:
        if mine is not None and held:
            problem = run_lock.take(mine)
        elif mine is not None:
            run_lock.release(mine)
    except lock.LockError as error:
        problem = str(error)
    if problem:
        module.fail_json(msg=problem, problems=[problem])
    module.exit_json(changed=False, held=held)


if __name__ == "__main__":
    main()
