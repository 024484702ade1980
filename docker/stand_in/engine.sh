#!/usr/bin/env bash
# A private container engine for a machine that has none running, such as one for tests: no system
# service, no firewall rules, no default network, everything in one folder. As root.
#
#   docker/stand_in/engine.sh start    prints the DOCKER_HOST to use
#   docker/stand_in/engine.sh stop     ends it; ENGINE_FOLDER (default /tmp/orderly-engine) stays
set -euo pipefail

folder=${ENGINE_FOLDER:-/tmp/orderly-engine}
export DOCKER_HOST=unix://$folder/docker.sock

case "${1:-}" in
  start)
    mkdir -p "$folder"
    if ! docker version >/dev/null 2>&1; then
      setsid nohup dockerd --data-root "$folder/data" --exec-root "$folder/exec" \
        --pidfile "$folder/pid" --host "$DOCKER_HOST" \
        --iptables=false --ip6tables=false --bridge=none </dev/null >"$folder/log" 2>&1 &
      for _ in $(seq 100); do
        if docker version >/dev/null 2>&1; then break; fi
        sleep 0.2
      done
      docker version >/dev/null 2>&1 || { tail -n 5 "$folder/log" >&2; exit 1; }
    fi
    echo "export DOCKER_HOST=$DOCKER_HOST"
    ;;
  stop)
    if [ -f "$folder/pid" ]; then
      pid=$(cat "$folder/pid")
      kill "$pid"
      while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
    fi
    ;;
  *)
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
