#!/usr/bin/env bash
# A real SLURM of several nodes on this one machine, on loopback only, so that submission, arrays, limits, requeues,
# preemption and dying nodes are tested with the scheduler itself. For throw-away machines: needs root; no systemd.
#
#   slurm_cluster.sh install    apt-get the packages (no service is started)
#   slurm_cluster.sh up         install what is missing, configure, start, wait until every node is idle
#   slurm_cluster.sh down       cancel jobs, stop the daemons this script started (by pid file)
#   slurm_cluster.sh kill-node N | restart-node N    one node's slurmd
#   slurm_cluster.sh status     daemons, sinfo, squeue; exit status 3 if a daemon is down
#   slurm_cluster.sh env        prints "export SLURM_CONF=..." for eval
#   slurm_cluster.sh purge      down, and remove the state folder
#
# All state is in $SLURM_LAB_DIR (/tmp/slurm-lab). JAX needs about 340 MB before any data: SLURM_LAB_MEM_MB=3000 for jobs
# that compute. Cores are not confined: a task that asked for one CPU sees all.
# Partitions: main on the first half of the nodes; rough on the others, where urgent preempts and nodes may be killed.
set -euo pipefail

D=${SLURM_LAB_DIR:-/tmp/slurm-lab}
NODES=${SLURM_LAB_NODES:-4}                    # node1..nodeN, one slurmd each
CPUS=${SLURM_LAB_CPUS:-2}                      # CPUs each node claims; together they may exceed the machine's
MEM_MB=${SLURM_LAB_MEM_MB:-1024}               # memory each node claims; a job above its own request is killed
GPUS=${SLURM_LAB_GPUS:-2}                      # fake GPUs of each node; 0 for none
MAX_ARRAY=${SLURM_LAB_MAX_ARRAY:-10001}        # MaxArraySize: array indices stay below it
GRACE_S=${SLURM_LAB_GRACE_S:-10}               # seconds between TERM and KILL at preemption
PORT=${SLURM_LAB_PORT:-17000}                  # slurmctld; slurmdbd is PORT+1, node i is PORT+10+i
ACCOUNTING=${SLURM_LAB_ACCOUNTING:-slurmdbd}   # slurmdbd | none
PROCTRACK=${SLURM_LAB_PROCTRACK:-proctrack/cgroup}
TASKPLUGIN=${SLURM_LAB_TASKPLUGIN:-task/cgroup}
HOST=$(hostname -s)
CLUSTER=lab
export SLURM_CONF=$D/etc/slurm.conf

log() { printf 'slurm_cluster: %s\n' "$@" >&2; }
fail() { log "$@"; exit 1; }

alive() {  # alive PIDFILE NAME -> 0 when the pid in the file runs a program of that name
  local p; p=$(cat "$1" 2>/dev/null) || return 1  # a daemon that ends removes its file at any moment
  [[ -n $p && -d /proc/$p ]] || return 1
  [[ $(readlink "/proc/$p/exe") == */$2* ]]
}
stop() {   # stop PIDFILE NAME
  alive "$1" "$2" || { rm -f "$1"; return 0; }
  local p; p=$(cat "$1" 2>/dev/null) || return 0
  kill "$p" 2>/dev/null || true
  for _ in $(seq 100); do alive "$1" "$2" || break; sleep 0.1; done
  if alive "$1" "$2"; then kill -9 "$p" 2>/dev/null || true; fi
  rm -f "$1"
}
wait_for() {  # wait_for SECONDS WHAT CMD...
  local end=$(( SECONDS + $1 )) what=$2; shift 2
  while (( SECONDS <= end )); do
    if [[ $(type -t "$1") = function ]]; then "$@" >/dev/null 2>&1 && return 0
    else timeout 5 "$@" >/dev/null 2>&1 && return 0; fi
    sleep 0.1
  done
  fail "no $what within the time allowed." "The daemons' own words are in $D/log; often a port from $PORT on is in use (SLURM_LAB_PORT)."
}

PKGS=(slurm-wlm slurmctld slurmd slurm-client munge)
[[ $ACCOUNTING == slurmdbd ]] && PKGS+=(slurmdbd mariadb-server)

do_install() {
  local missing=()
  local p
  for p in "${PKGS[@]}"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [[ ${#missing[@]} -eq 0 ]] && return 0
  log "installing ${missing[*]}"
  apt-get update -qq
  (
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then   # keeps the packages from starting services; gone again even if apt fails
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  ) || fail "apt could not install ${missing[*]}; its message is above." "This needs Debian 12 packages, root and an apt mirror that answers."
}

do_configure() {
  mkdir -p "$D"/{etc,log,run,state,spool,munge,dev}
  chmod 755 "$D" "$D"/{etc,log,run,state,spool,dev}; chmod 700 "$D/munge"
  if [[ ! -s $D/munge/munge.key ]]; then
    (umask 077; head -c 1024 /dev/urandom >"$D/munge/munge.key")
  fi
  local i acct=() gpuline='' gres=''
  if [[ $GPUS -gt 0 ]]; then
    # Fake GPUs: File= must be a character device (a plain file: CUDA_VISIBLE_DEVICES stays unset),
    # so each is a private copy of /dev/null; its trailing number becomes CUDA_VISIBLE_DEVICES.
    for ((i = 0; i < GPUS; i++)); do
      [[ -c $D/dev/fakegpu$i ]] || { rm -f "$D/dev/fakegpu$i"; mknod -m 666 "$D/dev/fakegpu$i" c 1 3; }
    done
    gres="Gres=gpu:$GPUS"
    gpuline="GresTypes=gpu"
    { echo "AutoDetect=off"
      echo "NodeName=node[1-$NODES] Name=gpu File=$D/dev/fakegpu[0-$((GPUS - 1))]"; } >"$D/etc/gres.conf"
  else
    rm -f "$D/etc/gres.conf"
  fi
  if [[ $ACCOUNTING == slurmdbd ]]; then
    acct=("AccountingStorageType=accounting_storage/slurmdbd" "AccountingStorageHost=localhost"
          "AccountingStoragePort=$((PORT + 1))" "AccountingStoragePass=socket=$D/run/munge.sock" "AccountingStoreFlags=job_comment")
    [[ $GPUS -gt 0 ]] && acct+=("AccountingStorageTRES=gres/gpu")
    (umask 077; cat >"$D/etc/slurmdbd.conf" <<E
AuthType=auth/munge
AuthInfo=socket=$D/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=root
DebugLevel=info
LogFile=$D/log/slurmdbd.log
PidFile=$D/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
CommunicationParameters=NoInAddrAny
E
    ); chmod 600 "$D/etc/slurmdbd.conf"
  else
    acct=("AccountingStorageType=accounting_storage/none"
          "JobCompType=jobcomp/filetxt" "JobCompLoc=$D/log/jobcomp.txt")
  fi
  cat >"$D/etc/cgroup.conf" <<E
CgroupPlugin=autodetect
ConstrainCores=no
ConstrainRAMSpace=yes
AllowedRAMSpace=100
ConstrainDevices=no
E
  # What a site may well do for its users: compiled programs are kept on the node, which is this one machine.
  cat >"$D/etc/task_prolog" <<P
#!/bin/sh
echo export JAX_COMPILATION_CACHE_DIR=$D/compiled
echo export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
echo export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=0
P
  chmod 755 "$D/etc/task_prolog"
  cat >"$D/etc/slurm.conf" <<E
ClusterName=$CLUSTER
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its credential expired, for two minutes unless it is said here.
AuthInfo=socket=$D/run/munge.sock,cred_expire=30
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
# scheduling
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,batch_sched_delay=0,sched_min_interval=100000,default_queue_depth=1000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MaxArraySize=$MAX_ARRAY
MaxJobCount=20000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# processes and limits
ProctrackType=$PROCTRACK
TaskPlugin=$TASKPLUGIN
TaskProlog=$D/etc/task_prolog
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SlurmdParameters=config_overrides
LaunchParameters=use_interactive_step
MpiDefault=none
# timings, short for tests
SlurmctldTimeout=30
SlurmdTimeout=20
InactiveLimit=0
KillWait=5
MinJobAge=300
Waittime=0
MessageTimeout=20
ReturnToService=2
$gpuline
$(printf '%s\n' "${acct[@]}")
$(for ((i = 1; i <= NODES; i++)); do
    echo "NodeName=node$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 10 + i)) CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM_MB $gres State=UNKNOWN"
  done)
PartitionName=main   Nodes=node[1-$((NODES / 2))] Default=YES MaxTime=1-00:00:00 DefaultTime=10 DefMemPerCPU=$((MEM_MB / CPUS)) PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE_S State=UP
PartitionName=rough  Nodes=node[$((NODES / 2 + 1))-$NODES] Default=NO  MaxTime=1-00:00:00 DefaultTime=10 DefMemPerCPU=$((MEM_MB / CPUS)) PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE_S State=UP
PartitionName=urgent Nodes=node[$((NODES / 2 + 1))-$NODES] Default=NO  MaxTime=1-00:00:00 DefaultTime=10 DefMemPerCPU=$((MEM_MB / CPUS)) PriorityTier=10 PreemptMode=OFF State=UP
E
}

start_munge() {
  alive "$D/run/munged.pid" munged && return 0
  rm -f "$D/run/munge.sock"
  /usr/sbin/munged --force --key-file="$D/munge/munge.key" --socket="$D/run/munge.sock" \
    --pid-file="$D/run/munged.pid" --log-file="$D/log/munged.log" --seed-file="$D/munge/seed" --num-threads=2
  wait_for 10 munged sh -c "munge -n -S '$D/run/munge.sock' | unmunge -S '$D/run/munge.sock'"
}
start_mariadb() {
  alive "$D/run/mariadbd.pid" mariadbd && return 0
  mkdir -p "$D/mysql"
  if [[ ! -d $D/mysql/mysql ]]; then
    mariadb-install-db --no-defaults --user=root --datadir="$D/mysql" --skip-test-db \
      --auth-root-authentication-method=socket --auth-root-socket-user=root >"$D/log/mariadb-install.log" 2>&1
  fi
  setsid /usr/sbin/mariadbd --no-defaults --user=root --datadir="$D/mysql" --socket="$D/run/mysql.sock" \
    --pid-file="$D/run/mariadbd.pid" --skip-networking --skip-log-bin --performance-schema=OFF \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --max-connections=32 </dev/null >"$D/log/mariadb.log" 2>&1 &
  wait_for 60 mariadbd mariadb --no-defaults -u root -S "$D/run/mysql.sock" -e 'select 1'
  mariadb --no-defaults -u root -S "$D/run/mysql.sock" -e 'create database if not exists slurm_acct_db'
}
start_dbd() {
  alive "$D/run/slurmdbd.pid" slurmdbd && return 0
  MYSQL_UNIX_PORT=$D/run/mysql.sock /usr/sbin/slurmdbd
  wait_for 60 slurmdbd sacctmgr -n show cluster
  sacctmgr -n show cluster format=cluster | grep -qw "$CLUSTER" || sacctmgr -i -Q add cluster "$CLUSTER" >/dev/null
}
start_ctld() {
  alive "$D/run/slurmctld.pid" slurmctld && return 0
  /usr/sbin/slurmctld -f "$SLURM_CONF"
  wait_for 30 slurmctld sh -c "scontrol ping | grep -q UP"
}
start_node() {
  mkdir -p "$D/spool/node$1"
  alive "$D/run/slurmd.node$1.pid" slurmd || /usr/sbin/slurmd -N "node$1" -f "$SLURM_CONF"
}
nodes_ready() { [[ $(sinfo -h -N -t idle,mixed,allocated -o %N | sort -u | wc -l) -eq $NODES ]]; }

do_up() {
  [[ $(id -u) = 0 ]] || fail "starting SLURM needs root, and this is $(id -un)." "Run it as root on a machine you can throw away."
  do_install; do_configure; start_munge
  if [[ $ACCOUNTING == slurmdbd ]]; then start_mariadb; start_dbd; fi
  start_ctld
  for ((i = 1; i <= NODES; i++)); do start_node "$i"; done
  for ((i = 1; i <= NODES; i++)); do   # a node that was set down by hand comes back
    case $(sinfo -h -n "node$i" -o %T) in *down*|*drain*) scontrol update NodeName="node$i" State=RESUME || true;; esac
  done
  wait_for 60 "nodes" nodes_ready
  log "up: $NODES nodes x $CPUS cpus, $MEM_MB MB, $GPUS gpus; export SLURM_CONF=$SLURM_CONF"
}

do_down() {
  [[ -s $SLURM_CONF ]] || { log "nothing to stop"; return 0; }
  if alive "$D/run/slurmctld.pid" slurmctld; then
    timeout 10 scancel -u root 2>/dev/null || true
    for _ in $(seq 100); do [[ -z $(timeout 5 squeue -h 2>/dev/null) ]] && break; sleep 0.1; done
  fi
  local f
  for f in "$D"/run/slurmd.*.pid; do [[ -e $f ]] && stop "$f" slurmd; done
  stop "$D/run/slurmctld.pid" slurmctld
  stop "$D/run/slurmdbd.pid" slurmdbd
  stop "$D/run/mariadbd.pid" mariadbd
  stop "$D/run/munged.pid" munged
  log "down"
}

do_status() {
  local n rc=0
  for n in munged mariadbd slurmdbd slurmctld; do
    if alive "$D/run/$n.pid" "$n"; then echo "$n up $(<"$D/run/$n.pid")"; else echo "$n down"; rc=3; fi
  done
  for f in "$D"/run/slurmd.*.pid; do [[ -e $f ]] && alive "$f" slurmd && echo "$(basename "$f" .pid) up $(<"$f")"; done
  if alive "$D/run/slurmctld.pid" slurmctld; then sinfo -N -o '%N %T %c %m %G %P'; squeue; fi
  return $rc
}

case ${1:-} in
  install) do_install ;;
  up) do_up ;;
  down) do_down ;;
  status) do_status ;;
  kill-node) stop "$D/run/slurmd.node${2:?}.pid" slurmd ;;
  restart-node) stop "$D/run/slurmd.node${2:?}.pid" slurmd; start_node "$2" ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  purge) do_down; rm -rf "$D" ;;
  *) sed -n '5,11s/^# *//p' "$0"; exit 2 ;;
esac
