# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container runtime, its CNI configuration and plugins."""

from __future__ import annotations

from collections.abc import Iterator

from ..cluster import Node, networks, version_of
from ..observation import Plugin
from ..table import ERROR, NOTE, WARNING, Concern, Found, found

CNI = Concern(
    "CNI configuration",
    "The container runtime reads the first configuration of its folder, by name, and calls the plugins that it names "
    "for every pod. A node without a usable configuration is `NotReady`.",
)
# What a wrong or missing configuration leads to.
CONSEQUENCES = (
    "cni-subnet-wrong",
    "cni-masquerades-pods",
    "hairpin-off",
    "host-ports-ignored",
    "pod-mtu-too-large",
    "cni-no-default-route",
    "cni-not-loaded",
    "pods-outside-subnet",
    "bridge-address-wrong",
    "bridge-missing",
    "pod-network-overlaps",
    # Such as a bridge that no configuration names any more.
    "leftovers",
)


@CNI.rule(
    "runtime-down",
    ERROR,
    "The container runtime does not run",
    effect="The node is NotReady, and no pod starts on it.",
    see="systemctl status containerd",
    fix="systemctl restart containerd",
    source="lesson 2",
    explains=("cni-not-loaded",),
)
def runtime_down(node: Node) -> Iterator[Found]:
    """Nothing answers at the runtime's socket."""
    if node.host.runtime.running is False:
        yield found("the container runtime does not answer at its socket")


@CNI.rule(
    "runtime-without-cri",
    ERROR,
    "containerd runs without its CRI plugin",
    effect="The node is NotReady (unknown service runtime.v1.RuntimeService), and no pod starts on it.",
    see="grep -A 3 disabled_plugins /etc/containerd/config.toml; ctr plugins ls | grep cri",
    fix="sed -i '/^ *disabled_plugins *=/s/=.*/= []/' {config} && systemctl restart containerd",
    source="containerd.io, Docker's package, installs such a configuration",
)
def runtime_without_cri(node: Node) -> Iterator[Found]:
    """containerd's configuration disables the plugin, and no other runtime listens. Edit a list that spans several
    lines by hand.
    """
    runtime = node.host.runtime
    if runtime.without_cri:
        yield found(f"disabled_plugins in {runtime.config}", config=runtime.config)


@CNI.rule(
    "cni-not-configured",
    ERROR,
    "There is no CNI configuration",
    effect="The node is NotReady (NetworkPluginNotReady: cni plugin not initialized), and no pod starts on it.",
    see="ls -l /etc/cni/net.d; crictl info | grep -A 3 NetworkReady",
    fix="",
    site="site.yml writes it",
    source="lesson 2",
    explains=CONSEQUENCES,
)
def cni_not_configured(node: Node) -> Iterator[Found]:
    """The folder that the runtime reads holds no configuration."""
    cni = node.host.cni
    read = node.host.whole("cni") and cni.knows("files", "loaded")
    if read and not cni.files and not cni.loaded and not cni.broken:
        yield found(f"{cni.conf_dir} holds no configuration")


@CNI.rule(
    "cni-broken",
    ERROR,
    "A broken CNI configuration keeps the runtime from loading any",
    effect="The node is NotReady, and no pod starts on it. Running pods stay, and can't be removed.",
    see="for file in /etc/cni/net.d/*.conf*; do python3 -m json.tool $file > /dev/null || echo $file; done",
    fix="mv {path} {path}.broken",
    site="site.yml with podnet_cni_foreign: remove, where the file is not its own",
    source="flannel pitfall 3",
    explains=CONSEQUENCES,
)
def cni_broken(node: Node) -> Iterator[Found]:
    """A file that can't be read as a configuration sorts before a good one, or is the only one."""
    cni = node.host.cni
    bad = [file for file in cni.files if file.error]
    wrong = next((file for file in bad if file.name in cni.broken), bad[0] if bad else None)
    if cni.broken or (wrong is not None and cni.knows("loaded") and not cni.loaded):
        text = cni.broken or (wrong.error if wrong else "")
        name = wrong.name if wrong else ""
        yield found(f"{name}: {text}" if name and name not in text else text, path=f"{cni.conf_dir}/{name or '<file>'}")


@CNI.rule(
    "cni-other-file-first",
    ERROR,
    "Another CNI configuration sorts before the cluster's own",
    effect="New pods get their network from that file: other addresses, another MTU or address translation, and no "
    "contact with other nodes' pods.",
    see="ls /etc/cni/net.d",
    fix="mv {conf_dir}/{loaded} {conf_dir}/{loaded}.disabled",
    site="site.yml with podnet_cni_foreign: remove",
    source="flannel pitfall 3; F10; containerd#5225",
    explains=("cni-only-loopback", *CONSEQUENCES),
)
def cni_other_file_first(node: Node) -> Iterator[Found]:
    """The runtime uses another file than the collection's, or than flannel's on a node that runs flanneld."""
    cni, loaded = node.host.cni, node.loaded
    if loaded is None or loaded.ours is True or "flannel" in loaded.types:
        return
    later = cni.files[cni.files.index(loaded) + 1 :]
    runs_flannel = bool(node.host.flannel.processes)
    for file in later:
        wanted = file.ours is True and set(file.types) != {"loopback"}
        if wanted or (runs_flannel and "flannel" in file.types):
            yield found(
                f"the runtime uses {loaded.name} (network {loaded.network!r}), which sorts before {file.name}",
                conf_dir=cni.conf_dir,
                loaded=loaded.name,
            )
            return


@CNI.rule(
    "cni-only-loopback",
    ERROR,
    "The only CNI configuration is the loopback's",
    effect="The node is Ready, but its pods have no interface besides lo, and no address.",
    see="cat /etc/cni/net.d/*",
    fix="",
    site="site.yml writes the missing one",
    source="lesson 5",
    explains=CONSEQUENCES,
)
def cni_only_loopback(node: Node) -> Iterator[Found]:
    """The file for the bridge or for flannel is gone, and 99-loopback.conf is left."""
    if node.loaded is not None and set(node.loaded.types) == {"loopback"}:
        yield found(f"{node.loaded.name} is loaded, which only configures lo")


@CNI.rule(
    "cni-plugin-missing",
    ERROR,
    "A CNI plugin that the configuration names is missing",
    effect='Every new pod fails with "failed to find plugin".',
    see="ls -lL /opt/cni/bin",
    fix="apt-get install --yes containernetworking-plugins && ln -sf /usr/lib/cni/{plugin} {bin_dir}/{plugin}",
    site="site.yml installs it",
    source="flannel pitfall 6",
)
def cni_plugin_missing(node: Node) -> Iterator[Found]:
    """The program is not in the plugin folder, or is not executable. flannel's own comes from flannel-io/cni-plugin."""
    cni = node.host.cni
    for name, plugin in needed(node):
        if node.loaded is None or (plugin.path and plugin.executable is not False) or not plugin.knows("path"):
            continue
        if plugin.path:
            evidence = f"{plugin.path}, which {node.loaded.name} needs, is not executable"
            yield found(evidence, fix="chmod 755 {path}", path=plugin.path)
        else:
            evidence = f"{cni.bin_dir} has no {name}, which {node.loaded.name} needs"
            yield found(evidence, fix=FLANNEL_PLUGIN if name == "flannel" else None, plugin=name, bin_dir=cni.bin_dir)


def needed(node: Node) -> Iterator[tuple[str, Plugin]]:
    """The plugins that the loaded configuration needs: flannel's delegates to bridge and host-local."""
    if node.loaded is not None:
        delegates = ("bridge", "host-local") if "flannel" in node.loaded.types else ()
        for name in dict.fromkeys([*node.loaded.types, node.loaded.ipam, *delegates]):
            if name in node.host.cni.plugins:
                yield name, node.host.cni.plugins[name]


FLANNEL_PLUGIN = (
    "cd {bin_dir} && A=$(dpkg --print-architecture) && curl -fsSL https://github.com/flannel-io/cni-plugin/releases/"
    "download/v1.7.1-flannel2/cni-plugin-flannel-linux-$A-v1.7.1-flannel2.tgz | tar -xz && mv flannel-$A flannel"
)


@CNI.rule(
    "cni-plugin-fails",
    ERROR,
    "A CNI plugin can't be executed",
    effect="Every new pod fails.",
    see="CNI_COMMAND=VERSION /opt/cni/bin/bridge",
    fix="apt-get install --reinstall --yes containernetworking-plugins && ln -sf /usr/lib/cni/{plugin} {path}",
    site="site.yml installs it",
    source="flannel pitfall 5",
    explains=("cni-version-unsupported",),
)
def cni_plugin_fails(node: Node) -> Iterator[Found]:
    """The plugin does not answer the question for its version, for example because it is for another architecture."""
    for name, plugin in needed(node):
        if plugin.path and plugin.error and plugin.executable is not False:
            fix = FLANNEL_PLUGIN if name == "flannel" else None
            yield found(
                f"{plugin.path}: {plugin.error}", fix=fix, plugin=name, path=plugin.path, bin_dir=node.host.cni.bin_dir
            )


@CNI.rule(
    "cni-version-unsupported",
    ERROR,
    "The configuration's cniVersion is newer than what plugins or the runtime support",
    effect='Every new pod fails with "incompatible CNI versions", or the runtime does not load the file.',
    see="CNI_COMMAND=VERSION /opt/cni/bin/bridge",
    fix='sed -i \'s/"cniVersion": *"[^"]*"/"cniVersion": "1.0.0"/\' {path}',
    site="site.yml writes 1.0.0",
    source="flannel pitfall 5",
)
def cni_version_unsupported(node: Node) -> Iterator[Found]:
    """A plugin does not list the version, or it is 1.1.0 and the runtime is a containerd before 2.0."""
    if node.loaded is None or not node.loaded.cni_version:
        return
    wanted, cni = node.loaded.cni_version, node.host.cni
    path = f"{cni.conf_dir}/{node.loaded.name}"
    for name in node.loaded.types:
        plugin = cni.plugins.get(name)
        if plugin is not None and plugin.versions and wanted not in plugin.versions:
            newest = max(plugin.versions, key=version_of)
            yield found(f"{node.loaded.name} asks for {wanted}, {name} supports up to {newest}", path=path)
            return
    runtime = version_of(node.host.runtime.version)
    if version_of(wanted) >= (1, 1) and runtime and runtime < (2,):
        yield found(f"{node.loaded.name} asks for {wanted}, containerd is {node.host.runtime.version}", path=path)


@CNI.rule(
    "cni-folder-appended",
    WARNING,
    "Plugins from a folder are appended to the configuration",
    effect="These plugins run for every pod too, although the list itself does not show them.",
    see="ls /etc/cni/net.d/*/",
    fix="for file in {paths}; do mv $file $file.disabled; done",
    source="flannel pitfall 4",
    foreseen=True,
)
def cni_folder_appended(node: Node) -> Iterator[Found]:
    """libcni 1.3 and later appends the files of the folder with the network's name, unless loadOnlyInlinedPlugins is
    set.
    """
    if node.loaded is not None and node.loaded.appended:
        paths = node.loaded.appended
        yield found(f"{node.loaded.name} is followed by {', '.join(paths)}", paths=paths)


@CNI.rule(
    "cni-other-folder",
    ERROR,
    "The container runtime reads another folder than the one that is configured",
    effect="Configurations or plugins in a folder that the runtime does not read have no effect.",
    see="containerd config dump | grep -A 4 '[.]cni'",
    fix="",
    site="set podnet_cni_conf_dir and podnet_cni_bin_dir to the runtime's folders, and run site.yml",
    source="flannel pitfall 2",
    explains=("cni-not-configured", "cni-plugin-missing", "cni-only-loopback", *CONSEQUENCES),
)
def cni_other_folder(node: Node) -> Iterator[Found]:
    """The runtime's configuration names other folders than podnet_cni_conf_dir and podnet_cni_bin_dir."""
    runtime, cni = node.host.runtime, node.host.cni
    for kind, its, looked, name in (
        ("configurations", runtime.conf_dir, cni.conf_dir if cni.knows("conf_dir") else "", "cni_conf_dir"),
        ("plugins", runtime.bin_dir, cni.bin_dir if cni.knows("bin_dir") else "", "cni_bin_dir"),
    ):
        expected = node.setting(name, "") or looked
        if its and expected and its.rstrip("/") != expected.rstrip("/"):
            yield found(f"the runtime takes {kind} from {its}, not from {expected}")


@CNI.rule(
    "cni-not-loaded",
    ERROR,
    "The container runtime has not noticed its CNI configuration",
    effect="The node stays NotReady although the configuration is right.",
    see="crictl info | grep -A 3 NetworkReady",
    fix="systemctl restart containerd",
    source="flannel pitfall 1, 2; containerd#11715",
)
def cni_not_loaded(node: Node) -> Iterator[Found]:
    """The file was moved here from another folder, or the folder itself was made again, which ends containerd's
    watch.
    """
    runtime, cni = node.host.runtime, node.host.cni
    ready = (node.api or {}).get("ready")
    message = str(ready.get("message", "")) if isinstance(ready, dict) and ready.get("status") == "False" else ""
    unready = runtime.network_ready is False or "cni plugin not initialized" in message
    if unready and node.loaded is not None and not cni.broken and runtime.running is not False:
        said = f": {runtime.message or message}" if runtime.message or message else ""
        yield found(f"{cni.conf_dir}/{cni.loaded} is there, but the runtime's network is not ready{said}")


@CNI.rule(
    "cni-subnet-wrong",
    ERROR,
    "The CNI configuration gives pods addresses of another subnet than the node's",
    effect="Other nodes send to the planned subnet, so they don't reach these pods.",
    see="grep subnet /etc/cni/net.d/*",
    fix="sed -i s#{found}#{wanted}#g {path}",
    site="site.yml writes the planned one",
    source="F4, F12; kubernetes#114560",
    explains=("pods-outside-subnet", "bridge-address-wrong", "pod-subnets-overlap", "own-pods-led-away"),
)
def cni_subnet_wrong(node: Node) -> Iterator[Found]:
    """The file's subnet is not the one that the plan gives the node."""
    if node.loaded is None or "flannel" in node.loaded.types:
        return
    for wanted in node.given_subnets:
        own = [subnet for subnet in networks(node.loaded.subnets) if subnet.version == wanted.version]
        if own and wanted not in own:
            path = f"{node.host.cni.conf_dir}/{node.loaded.name}"
            yield found(f"{node.loaded.name} has {own[0]}, planned is {wanted}", found=own[0], wanted=wanted, path=path)


@CNI.rule(
    "cni-no-default-route",
    ERROR,
    "Pods get no default route",
    effect="Pods reach their own node only: no other node's pods, no service, nothing outside.",
    see="ip netns; ip -n <pod's namespace> route",
    fix="",
    site="site.yml writes the route",
    source="lesson 3",
)
def cni_no_default_route(node: Node) -> Iterator[Found]:
    """ipam has no route to 0.0.0.0/0 (or ::/0), and isDefaultGateway is off."""
    loaded = node.loaded
    if loaded is not None and loaded.default_route is False and {"bridge", "ptp"} & set(loaded.types):
        yield found(f"{loaded.name} gives pods no default route")
        return
    for version in (4, 6):
        without = [pod for pod in node.pods_of(version) if pod.default_route is False]
        if without:
            some = ", ".join(f"{pod.address}{pod.netns and f' in {pod.netns}'}" for pod in without[:3])
            evidence = f"no default route in {len(without)} pods ({some})"
            fix = "for ns in {namespaces}; do nsenter --net=$ns ip -{version} route replace default via {gateway}; done"
            spaces = [pod.netns for pod in without if pod.netns]
            gateway = node.gateways.get(version) if node.bridge is not None else None
            known = spaces and gateway is not None
            yield found(evidence, fix=fix if known else None, namespaces=spaces, version=version, gateway=str(gateway))


@CNI.rule(
    "cni-masquerades-pods",
    ERROR,
    "The bridge plugin translates what pods send to other nodes' pods",
    effect="Servers see the node's address instead of the pod's, which breaks the networking model: network policies, "
    "access lists and logs are wrong.",
    see="grep ipMasq /etc/cni/net.d/*; iptables -t nat -S POSTROUTING",
    fix='sed -i \'s/"ipMasq": *true/"ipMasq": false/\' {path}',
    site="site.yml writes ipMasq: false, and a rule that leaves pods' traffic alone",
    source="lesson 8; F19",
    explains=("pod-rules-leaked",),
)
def cni_masquerades_pods(node: Node) -> Iterator[Found]:
    """ipMasq is true on a node that has routes to other nodes' pods. flannel's CNI plugin sets it if flanneld runs
    without --ip-masq.
    """
    loaded = node.loaded
    if loaded is None or loaded.ip_masq is not True or not node.cluster.connects:
        return
    path = f"{node.host.cni.conf_dir}/{loaded.name}"
    if "flannel" in loaded.types:
        evidence = "flanneld runs without --ip-masq, so its plugin has the bridge plugin masquerade"
        yield found(evidence, fix=SPARE_IN_FLANNEL, path=path)
    elif node.cluster.backend or any(node.table.reaches(peer) for peer in node.peers):
        yield found(f"{loaded.name} has ipMasq: true", path=path)


@CNI.rule(
    "hairpin-off",
    WARNING,
    "A pod can't reach itself through its own service",
    effect="A pod that calls a service of which it is the chosen backend gets no answer.",
    see="bridge -d link show | grep hairpin",
    fix="for port in {ports}; do bridge link set dev $port hairpin on; done",
    site="site.yml turns it on, for pods that run as well",
    source="F1; kubernetes-the-hard-way#518",
)
def hairpin_off(node: Node) -> Iterator[Found]:
    """hairpinMode is off in the configuration, or on ports of pods that run."""
    loaded = node.loaded
    if loaded is None or not node.cluster.connects or not {"bridge", "flannel"} & set(loaded.types):
        return
    if loaded.hairpin is False:
        fix = HAIRPIN_IN_FLANNEL if "flannel" in loaded.types else HAIRPIN_IN_BRIDGE
        yield found(f"{loaded.name} has no hairpinMode", fix=fix, path=f"{node.host.cni.conf_dir}/{loaded.name}")
        return
    # An uplink in the bridge is no pod's.
    its = [link for link in node.host.links if link.master == node.bridge_name and link.kind == "veth"]
    ports = [link.name for link in its if link.hairpin is False]
    if ports and loaded.hairpin:
        yield found(f"hairpin is off on {', '.join(ports[:3])}", ports=ports)


# JSON's braces are doubled for the template.
SPARE_IN_FLANNEL = """sed -i 's/"delegate": *{{/"delegate": {{"ipMasq": false, /' {path}"""
HAIRPIN_IN_BRIDGE = (
    """sed -i 's/"hairpinMode": *false/"hairpinMode": true/; """
    """s/"type": *"bridge"/"type": "bridge", "hairpinMode": true/' {path}"""
)
HAIRPIN_IN_FLANNEL = (
    """sed -i 's/"hairpinMode": *false/"hairpinMode": true/; """
    """s/"delegate": *{{/"delegate": {{"hairpinMode": true, /' {path}"""
)


@CNI.rule(
    "host-ports-ignored",
    NOTE,
    "Pods get no host ports",
    effect="A container's hostPort has no effect, and no error says so.",
    see="grep portmap /etc/cni/net.d/*",
    fix="",
    site="site.yml writes a list with portmap",
    source="F1; plugins#275, kubernetes-the-hard-way#518",
)
def host_ports_ignored(node: Node) -> Iterator[Found]:
    """The configuration does not call the plugin portmap."""
    loaded = node.loaded
    if loaded is None or not node.cluster.connects or "portmap" in loaded.types:
        return
    if {"bridge", "flannel"} & set(loaded.types):
        yield found(f"{loaded.name} calls {', '.join(loaded.types)}")
