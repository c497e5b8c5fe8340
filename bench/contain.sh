#!/bin/sh
# Copyright: The weft.podnet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# contain.sh MACHINE-NETNS PROGRAM...: run a program where the benchmark's network namespace is all it can see.
# ifstate's "apply" removes every named network namespace that its configuration does not list, whoever made it, and
# attaches to process 1's. So it gets a /run and a process tree of its own, and nothing starts before both are proven.
set -eu
machine=$1
shift
exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc sh -eu -c '
machine=$1
shift
mount -t tmpfs tmpfs /run
here=$(readlink /proc/self/ns/net)
if [ -z "$here" ] || [ -z "$machine" ] || [ -n "$(ls -A /run)" ] || [ "$here" != "$(readlink /proc/1/ns/net)" ] || [ "$here" = "$machine" ]; then
    echo "contain.sh: the program would reach beyond the benchmark; not started" >&2
    exit 1
fi
exec "$@"' sh "$machine" "$@"
