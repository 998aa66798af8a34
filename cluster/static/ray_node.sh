#!/usr/bin/env bash
# Purpose: makes machines that you have a Ray cluster: one head, which only coordinates, and workers. A machine that
#   shall be both runs both commands. Every machine has Skipline in the same folder, with the same versions.
# Command: once, a token that all machines get as a file of mode 600 (or in RAY_AUTH_TOKEN)
#     (umask 077; mkdir -p ~/.ray; python3 -c 'import secrets; print(secrets.token_hex(32))' > ~/.ray/auth_token)
#     ssh MACHINE 'umask 077; mkdir -p ~/.ray; cat > ~/.ray/auth_token' < ~/.ray/auth_token    # for every machine
#   and then, with Skipline's environment activated,
#     cluster/static/ray_node.sh head                      # on the head
#     cluster/static/ray_node.sh worker HEAD_ADDRESS       # on every worker; HEAD_ADDRESS is an IP address, arguments
#                                                          # that follow are ray start's, such as --num-cpus=8
#     ssh -N -L 8265:127.0.0.1:8265 HEAD &                 # where jobs are submitted from; has the token, too
#     RAY_AUTH_MODE=token skipline submit job.yaml --address http://127.0.0.1:8265
#     cluster/static/ray_node.sh stop                      # on every machine, workers first
# Expect: 10 to 20 s a machine; log and process number in ~/.cache/skipline/ray-ROLE-MACHINE. Machines reach each other
#   on all TCP ports (6379 is the head's, Ray chooses the others); nobody else needs to reach any. The dashboard is
#   on 127.0.0.1; DASHBOARD_HOST=ADDRESS moves it, NODE_LABELS=key=value,... adds labels to a node.
# Cost: that of the machines; nothing is started or stopped but Ray's processes.
set -euo pipefail

USAGE="usage: ray_node.sh head | worker HEAD_ADDRESS [ARGUMENT...] | stop"
NUM_FILES=8192 # chosen; every process and connection of Ray takes some
OBJECT_STORE_BYTES=$((2 * 1024 ** 3)) # images do not pass through it
PORT=6379
# What the head asks of every node: one that is silent for half a minute is lost. Ray's own limit is over a minute.
export RAY_health_check_period_ms=3000 RAY_health_check_timeout_ms=5000 RAY_health_check_failure_threshold=4
START_TIMEOUT_S=60
STOP_TIMEOUT_S=60 # Ray drains for 30 s

fail() {
  echo "ray_node.sh: $*" >&2
  exit 2
}

state_folder() { # state_folder ROLE; of this machine, since homes may be shared
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/skipline/ray-$1-$(hostname)"
}

require_token() {
  export RAY_AUTH_MODE=token
  [[ -n "${RAY_AUTH_TOKEN:-}" ]] && return
  local file="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
  [[ -s "$file" ]] || fail "a cluster needs a token, $file holds none; write one as the head of this script says"
  local mode
  mode=$(stat --dereference --format %a "$file")
  [[ "$mode" == 600 || "$mode" == 400 ]] || fail "$file must be its owner's alone, its mode is $mode; chmod 600 $file"
}

require_limits() {
  ulimit -n "$(ulimit -Hn)"
  local files
  files=$(ulimit -n)
  [[ "$files" == unlimited || "$files" -ge "$NUM_FILES" ]] ||
    fail "Ray needs $NUM_FILES open files, the limit is $files; raise nofile in /etc/security/limits.conf"
  local free
  free=$(df --output=avail --block-size=1 /dev/shm | tail -n 1)
  ((free >= OBJECT_STORE_BYTES)) ||
    fail "Ray needs $OBJECT_STORE_BYTES bytes in /dev/shm, $((free)) are free; enlarge it (docker: --shm-size)"
}

# Workers without GPUs connect to each other by Gloo, which takes the address of the host's name. That is often
# 127.0.1.1, by which no other machine gets here; so it is told the interface that leads to the head.
choose_interface() { # choose_interface HEAD_ADDRESS
  [[ -n "${GLOO_SOCKET_IFNAME:-}" ]] && return
  local interface
  # Without a route, or without `ip`, Ray and the doctor say more than this could.
  interface=$(ip -oneline route get "$1" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p') || return 0
  [[ -z "$interface" || "$interface" == lo ]] || export GLOO_SOCKET_IFNAME="$interface"
}

# A process is ours if its number is in our file and it started when the file says.
started_at() { # started_at PID; nothing of a process that has ended (state Z)
  sed -n 's/.*) \([^Z] \)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

is_running() { # is_running FOLDER
  local pid time
  read -r pid time 2>/dev/null <"$1/process" || return 1
  [[ -n "$time" && "$(started_at "$pid")" == "$time" ]]
}

start() { # start ROLE ARGUMENT...
  local role=$1 folder
  shift
  folder=$(state_folder "$role")
  command -v ray >/dev/null || fail "ray must be on the PATH, it is not; activate the environment that has Skipline"
  require_token
  require_limits
  is_running "$folder" && fail "a $role of this user runs already; ray_node.sh stop"
  mkdir -p "$folder"
  # A session of its own, so that `stop` finds whatever Ray starts, and a closed terminal ends nothing.
  setsid ray start --block --disable-usage-stats --object-store-memory="$OBJECT_STORE_BYTES" \
    --labels="role=$role${NODE_LABELS:+,$NODE_LABELS}" "$@" >"$folder/log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid $(started_at "$pid")" >"$folder/process"
  for _ in $(seq $((START_TIMEOUT_S * 5))); do
    is_running "$folder" || fail "Ray ended at once; $folder/log: $(tail -n 5 "$folder/log")"
    grep -q 'Ray runtime started' "$folder/log" && echo "$role started, process $pid, log $folder/log" && return
    sleep 0.2
  done
  fail "Ray did not start within $START_TIMEOUT_S s; see $folder/log, then ray_node.sh stop"
}

stop() { # stop ROLE
  local folder pid
  folder=$(state_folder "$1")
  is_running "$folder" || return 0
  read -r pid _ <"$folder/process"
  kill -TERM "$pid"
  for _ in $(seq $((STOP_TIMEOUT_S * 5))); do
    is_running "$folder" || break
    sleep 0.2
  done
  if pkill -KILL --session "$pid"; then sleep 0.1; fi # what did not end by itself
  rm "$folder/process"
  echo "$1 stopped"
}

case "${1:-} $#" in
"head 1")
  start head --head --port="$PORT" --num-cpus=0 --num-gpus=0 --dashboard-host="${DASHBOARD_HOST:-127.0.0.1}"
  ;;
"worker 1") fail "$USAGE" ;;
"worker "*)
  address=$2
  shift 2
  choose_interface "$address"
  # Any free port for the agent: 52365 is the head's where both are on one machine.
  start worker --address="$address:$PORT" --dashboard-agent-listen-port=0 "$@"
  ;;
"stop 1")
  stop worker
  stop head
  ;;
*) fail "$USAGE" ;;
esac
