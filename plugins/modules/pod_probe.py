#!/usr/bin/python
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe pods on one host: made, asked, removed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_probe
short_description: Make probe pods, and test whether pods reach each other
version_added: 0.1.0
author: The weft.podnet maintainers (@weft-net)
description:
  - Makes pods with the host's own containerd and CNI configuration, lets every one of them request every other over
    HTTP, and removes them again.
  - No image and no registry are needed. A probe pod sees the host's C(/usr) read-only, and its process is the Python
    that runs this module.
  - The same server runs on the host itself as long as there are pods, to show with which address pods leave the
    cluster. Its process also answers later calls with O(run), so that Ansible need not start the module again. It is
    asked where Ansible uses pipelining; where it does not answer, the module runs.
  - Where the host has C(nft), a table C(weft-podnet-verify) leads the first pod back to itself, as a service does.
  - The pods only serve to observe. Nothing that outlives them is changed, so the module always reports
    RV(ignore:changed=false), and it is not refused while a run holds the host (M(weft.podnet.run_lock)).
  - Only one verification runs on a host at a time. A second one waits until the first is done or shows no sign of life
    for O(patience) seconds, removes what it left, and continues. After two minutes of waiting, it fails.
  - C(ctr) supports no other directories than C(/etc/cni/net.d) for the CNI configuration and C(/opt/cni/bin) for the
    plugins.
extends_documentation_fragment:
  - weft.podnet.host
attributes:
  check_mode:
    description: Reports what it would do, and makes no pod. The host is still checked for what pods need.
    support: full
  diff_mode:
    description: There is nothing to show, since nothing is changed.
    support: none
options:
  state:
    description:
      - V(started) removes what an earlier verification left behind when it was killed, then makes the pods.
      - V(probed) requests every target from every pod of this host.
      - V(measured) sends to the first pod of each other node in O(targets) as fast as TCP goes, for O(seconds). Let one
        host do this at a time, with C(throttle) set to 1.
      - V(requested) requests the first pod of each node from the host itself, which has and needs no pods.
      - V(absent) removes the pods and all that was made for them.
    type: str
    choices: [started, probed, measured, requested, absent]
    required: true
  run:
    description:
      - The verification that the pods belong to, as V(started) returned it.
      - If another verification has taken over the host in the meantime, V(probed) fails, and V(absent) removes nothing.
        The same holds for V(measured). Without it, V(absent) removes the pods of every verification.
    type: str
  pods:
    description: The number of pods to make.
    type: int
    default: 2
  port:
    description: The port, TCP and UDP, that the servers listen on inside the pods, and TCP on the host itself.
    type: int
    default: 9898
  targets:
    description: The pods of all hosts to request, as returned in their RV(targets).
    type: list
    elements: dict
    default: []
    suboptions:
      node:
        description: The host that the pod is on, by its name in the inventory.
        type: str
        required: true
      pod:
        description: The pod's name on its host.
        type: str
        required: true
      id:
        description: The identity that the pod's server answers with.
        type: str
        required: true
      address:
        description: The pod's address.
        type: str
        required: true
      port:
        description: The port that its server listens on.
        type: int
        required: true
      kind:
        description:
          - V(pod) is a pod. V(node) is the process on a node itself, and O(targets[].address) the node's own. V(port)
            is a host port of the node that leads to its first pod.
          - Every pod requests every pod. The first pod of a host also requests the nodes, and tries the first pod of
            each node with packets of the full size.
        type: str
        choices: [pod, node, port]
        default: pod
  ways:
    description: Addresses whose ways are looked up for RV(host), such as those of the other nodes.
    type: list
    elements: str
    default: []
  node:
    description:
      - The host's name in the inventory. It appears in RV(targets) unchanged.
      - With it, V(probed) requests the pods of at most 50 nodes. Of more nodes in O(targets), each node requests those
        of 49 others, by lot, so that its work does not grow with the cluster. The same targets give the same choice,
        and every verification makes pods with identities of their own, and so draws another.
    type: str
    default: ""
  timeout:
    description: The number of seconds to wait for one answer.
    type: float
    default: 3
  tries:
    description: The number of requests to a target before it counts as not reached.
    type: int
    default: 2
  patience:
    description: The number of seconds without a sign of life after which another verification counts as ended.
    type: int
    default: 15
  seconds:
    description: The number of seconds for which V(measured) sends to a pod, at most 10.
    type: float
    default: 2
  compact:
    description:
      - Returns everything as one text, RV(compact), and RV(run) beside it. Ansible goes through every value of a result
        several times, which takes seconds of the controller where there are many hosts. It has no effect in check mode.
      - The filters P(weft.podnet.probe_targets#filter), P(weft.podnet.podnet_matrix#filter) and
        P(weft.podnet.findings#filter) take either form.
    type: bool
    default: false
  socket:
    description: The socket that containerd listens on.
    type: path
    default: /run/containerd/containerd.sock
"""

EXAMPLES = r"""
- name: Make two pods on every worker
  weft.podnet.pod_probe:
    state: started
    node: "{{ inventory_hostname }}"
  register: pods

- name: Request every pod from every pod
  weft.podnet.pod_probe:
    state: probed
    run: "{{ pods.run }}"
    targets: "{{ ansible_play_hosts | map('extract', hostvars, ['pods', 'targets']) | flatten }}"

- name: Remove every probe pod, including those of a verification that was killed
  weft.podnet.pod_probe:
    state: absent
"""

RETURN = r"""
compact:
  description: The other return values, as JSON.
  type: str
  returned: O(compact=true), except in check mode or on failure
heard:
  description:
    - For each pod of this host that did not reach all of its targets, by its identity, the identities of those pods
      whose datagrams arrived.
  type: dict
  returned: O(state=absent)
node:
  description: The process on the host itself, its C(id), or the C(problem) that keeps it from running.
  type: dict
  returned: O(state=started)
  sample: {"id": 3f0c8b6d5d5f4a7c8b8f8d9a2f3e1c01}
run:
  description: The identifier of this verification on this host, for the calls that follow.
  type: str
  returned: O(state=started)
  sample: 3f0c8b6d5d5f4a7c8b8f8d9a2f3e1c00
pods:
  description: The pods of this host.
  type: list
  elements: dict
  returned: O(state=started) and O(state=probed)
  contains:
    name:
      description: The pod's name.
      type: str
      sample: p1
    id:
      description: The identity that its server answers with.
      type: str
    network:
      description: The name of the CNI network that gave the pod its addresses.
      type: str
      sample: cbr0
    given:
      description: The addresses, with prefix, that CNI gave the pod.
      type: list
      elements: str
      sample: [10.244.0.5/24]
    seen:
      description: The addresses that the pod itself sees on its interfaces.
      type: list
      elements: str
      sample: [10.244.0.5]
    itself:
      description:
        - What the first pod met that requested itself through a service, as C(results). Empty for other pods, and on
          a host without C(nft).
      type: list
      elements: dict
      returned: O(state=probed)
    host_port:
      description: A port of the host that the plugin C(portmap) leads to the pod. Only where other pods have one.
      type: int
      returned: O(state=started)
    host_port_problem:
      description: Why there is none although other pods have one.
      type: str
      returned: O(state=started)
    hairpin:
      description: Whether hairpin mode is on at the bridge port that leads to the pod. Absent where there is none.
      type: bool
    results:
      description: One entry for each target but the pod itself.
      type: list
      elements: dict
      returned: O(state=probed)
      contains:
        to:
          description: The target's identity.
          type: str
        address:
          description: The address that was requested.
          type: str
        kind:
          description: V(node) or V(port) as in O(targets). Absent for a pod.
          type: str
        error:
          description: Why there is no answer. Absent if there is one.
          type: str
          sample: no answer within 3 s
        udp_ms:
          description: Milliseconds until a datagram was answered.
          type: float
        udp_error:
          description: Why none was. Absent if one was.
          type: str
        mtu:
          description: The MTU of the pod's interface, where the target was tried with packets of the full size.
          type: int
        peer_mtu:
          description: The MTU of the target's interface.
          type: int
        there:
          description: The largest packet, up to C(mtu), that reaches the target.
          type: int
        back:
          description: The largest packet, up to C(peer_mtu), that comes back.
          type: int
        bulk_error:
          description: What kept 70,000 bytes from passing in both directions by TCP. Empty if nothing did.
          type: str
        ms:
          description: Milliseconds from the first packet to the end of the answer.
          type: float
        source:
          description: The pod's own address in this connection.
          type: str
        client:
          description:
            - The client's address as the server saw it. Only present if it differs from C(source), which means that it
              was translated.
          type: str
        reached:
          description: The address by which the server was reached, as the server saw it, if it is not C(address).
          type: str
        identity:
          description: The identity of the server that answered, if it is not C(to).
          type: str
targets:
  description: The pods of this host, one entry for each address, in the form that O(targets) takes.
  type: list
  elements: dict
  returned: O(state=started)
from_node:
  description: What the host itself met that requested the first pod of each node, and the other nodes; as C(results).
  type: list
  elements: dict
  returned: O(state=probed) and O(state=requested)
host:
  description:
    - The host as it was before it had the pods, as M(weft.podnet.pod_network_info) returns it.
    - A failure has it as well, unless in check mode.
  type: dict
  returned: O(state=started)
routing:
  description:
    - C(ways) has this host's routing for the address of every target, the matched route (C(dst), C(via), C(dev),
      C(local), C(src), C(mtu)) or the kernel's C(error).
    - C(forwarding) and C(bridge_calls) hold the kernel's switches, C(forward_policy) the policy of the filter table's
      FORWARD chain, by IP version.
    - The ways and the policy are read only if a pod did not reach a target by HTTP.
    - C(addresses) are this host's own.
  type: dict
  returned: O(state=probed)
throughput:
  description: How fast data arrive at the first pod of each other node, over one TCP connection.
  type: list
  elements: dict
  returned: O(state=measured)
  contains:
    node:
      description: The node that the pod is on.
      type: str
    address:
      description: The pod's address.
      type: str
    mbit_s:
      description: Megabits per second. Absent if there is an error.
      type: float
      sample: 9412.5
    error:
      description: Why it could not be measured.
      type: str
would:
  description: What would be done.
  type: list
  elements: str
  returned: in check mode
  sample: [make 2 probe pods]
problems:
  description: What is wrong, one line for each problem.
  returned: failure
  type: list
  elements: str
"""

from ansible_collections.weft.podnet.plugins.module_utils.core.resource import main as run
from ansible_collections.weft.podnet.plugins.module_utils.probe.resource import RESOURCE


def main() -> None:
    run(RESOURCE)


if __name__ == "__main__":
    main()
