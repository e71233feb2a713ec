#!/usr/bin/env bash
# A Slurm of one node in one folder, for tests: `one_node.sh start DIR` and `one_node.sh stop DIR`. Needs root and Debian's
# packages slurmctld, slurmd and munge. Nothing outside DIR is written but munge's own socket, where none is running yet.
# No cgroups: it starts in a container. Then `export SLURM_CONF=DIR/slurm.conf` and use sbatch, squeue, scancel.
set -euo pipefail
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)

start_munge() {
    munge --no-input >/dev/null 2>&1 && return
    install -d -m 700 "$dir/munge"
    [ -e "$dir/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/key")
    install -d -m 755 /run/munge
    munged --force --key-file="$dir/munge/key" --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

start() {
    local host memory
    host=$(hostname -s)
    memory=$(awk '/MemTotal/ {print int($2 / 1024 / 2)}' /proc/meminfo)
    mkdir -p "$dir/state" "$dir/spool"
    start_munge
    cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MailProg=/bin/true
ReturnToService=2
SchedulerParameters=sched_interval=2
KillWait=2
OverTimeLimit=0
MpiDefault=none
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 CoresPerSocket=4 RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -c -f "$SLURM_CONF"
    slurmd -c -f "$SLURM_CONF" -N "$host"
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
        sleep 0.2
    done
    tail -n 20 "$dir"/slurm*.log >&2
    exit 1
}

stop() {
    for name in slurmd slurmctld munge/pid; do
        local file=$dir/$name
        [ "$name" = munge/pid ] || file=$dir/$name.pid
        [ -e "$file" ] && kill "$(cat "$file")" 2>/dev/null || true
    done
}

"$action"
