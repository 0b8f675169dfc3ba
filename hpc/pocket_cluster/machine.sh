#!/usr/bin/env bash
# The programs inside the namespaces of the form `hosts`. daemons.sh and network.sh run it, as root:
#   machine.sh try                                   inside all of them: checks whether they work
#   machine.sh switch INTERFACE PID                  inside a network namespace; INTERFACE goes to PID's
#   machine.sh node NAME SWITCH_PID NUMBER ADDRESS ADDRESS6 DIRECTORY SLURMD…   inside a network namespace
#   machine.sh init NAME DIRECTORY SLURMD…           process 1 of the node
set -euo pipefail
shopt -s inherit_errexit

machine::try() {
  hostname pocket
  ip link add bridge0 type bridge
  ip link add one type veth peer name two
  ip link set one master bridge0
  mount --bind /etc/hosts /etc/hosts
}

machine::switch() {
  local -r interface=$1 pid=$2
  ip link add bridge0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  ip link set bridge0 up
  ip link add login type veth peer name "$interface" netns "$pid"
  ip link set login master bridge0 up
  exec sleep infinity
}

machine::node() {
  local -r name=$1 switch=$2 number=$3 address=$4 address6=$5 directory=$6
  local cable=eth0 other=''
  if [[ -e $directory/etc/interfaces ]]; then read -r cable other <"$directory/etc/interfaces"; fi
  ip link set lo up
  # The interface of a node that has just died disappears with the last of its processes, which may take a moment.
  nsenter --target "$switch" --net ip link delete dev "$name" 2>/dev/null || true
  # Keep the hardware address across restarts: the other nodes cache it for a minute.
  ip link add "$cable" address "$(printf '02:00:00:00:00:%02x' "$number")" type veth peer name "$name" netns "$switch"
  nsenter --target "$switch" --net ip link set "$name" master bridge0 up
  ip address add "$address/24" dev "$cable"
  ip link set "$cable" up
  ip -6 address add "$address6/64" dev "$cable" nodad 2>/dev/null || true
  if [[ -n $other ]]; then
    # This interface leads nowhere: its other end is in the same node.
    ip link add "$other" type veth peer name "$other-end"
    ip address add "10.100.0.$number/24" dev "$other"
    ip link set "$other" up
    ip link set "$other-end" up
  fi
  # --kill-child: ending this process ends the node, with all that its jobs started, like a power cut.
  exec unshare --uts --mount --pid --fork --kill-child --mount-proc -- \
    bash "${BASH_SOURCE[0]}" init "$name" "${@:6}"
}

# machine::homes DIRECTORY HOW   Mounts the homes that a shape gives its nodes: `ro` is read-only; options of tmpfs add room for writes
# to the homes as they are. The cluster's own folder stays unchanged, also if it is in a home.
machine::homes() {
  local -r directory=$1 how=$2
  local home room
  room=$(mktemp -d)
  mount --bind -- "$directory" "$directory"
  for home in "$(getent passwd "$(id -u)" | cut -d: -f6)" /home; do
    [[ -d $home && $home != / ]] || continue
    if [[ $how == ro ]]; then
      mount --rbind -- "$home" "$home"
      mount -o remount,bind,ro -- "$home"
      continue
    fi
    mount -t tmpfs -o "mode=755,$how" tmpfs "$room"
    mkdir -- "$room"/{upper,work,directory}
    mount --bind -- "$directory" "$room/directory"
    mount -t overlay -o "lowerdir=$home,upperdir=$room/upper,workdir=$room/work" overlay "$home"
    if [[ $directory == "$home"/* ]]; then mount --bind -- "$room/directory" "$directory"; fi
    umount --lazy -- "$room"
  done
  rmdir -- "$room"
}

machine::init() {
  local -r name=$1 directory=$2
  shift 2
  hostname "$name"
  mount --bind -- "$directory/etc/hosts" /etc/hosts
  mount --bind -- "$directory/disks/$name" "$directory/localscratch"
  # A job removes files there that no process uses (job/lib/leftovers.sh), and sees only the processes of its node.
  if [[ -d /dev/shm && $directory/ != /dev/shm/* ]]; then mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm; fi
  if [[ -e $directory/etc/home ]]; then machine::homes "$directory" "$(<"$directory/etc/home")"; fi
  # Programs also look there, and would find those of this machine.
  if [[ -e $directory/etc/interfaces ]]; then mount -t sysfs sysfs /sys; fi
  if [[ -x $directory/etc/shape_node_setup ]]; then "$directory/etc/shape_node_setup" "$name" "$directory"; fi
  # Not exec: process 1 must reap the orphans that Slurm leaves to it. The node lives as long as its slurmd.
  set -m # Without it slurmd, and each job, would ignore SIGINT and SIGQUIT.
  "$@" &
  wait $!
}

"machine::${1:?}" "${@:2}"
