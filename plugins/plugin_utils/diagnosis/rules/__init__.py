# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rules: what can be wrong with a pod network, by concern.

Each file is one concern. A rule is an entry and the function below it; table.py explains both. To add one, write it in
its file, and a case that breaks a healthy cluster that way in tests/unit/plugins/plugin_utils/diagnosis/test_rules.py.
"""

from __future__ import annotations

from .certificates import CERTIFICATES
from .cni import CNI
from .filters import FILTERS
from .flannel import FLANNEL
from .kernel import KERNEL
from .managers import MANAGERS
from .mtu import MTU
from .nodes import NODES
from .pods import PODS
from .routes import ROUTES
from .vxlan import VXLAN

# In the order of the documentation, which is also that of causes before their consequences.
CONCERNS = (NODES, CNI, KERNEL, FLANNEL, VXLAN, ROUTES, FILTERS, MTU, PODS, MANAGERS, CERTIFICATES)
RULES = tuple(rule for concern in CONCERNS for rule in concern.rules)
