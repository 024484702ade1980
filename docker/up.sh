#!/usr/bin/env bash
# Starts the cluster, waits until all of it is healthy, and says where it is: ./run.sh docker.
# Arguments go to `compose up`: ./run.sh docker --scale create_buy_order=3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. docker/functions.sh

PATIENCE_SECONDS=120

# The cluster's containers that are not healthy, or not running where they have no health check. That
# of the roles is to end.
not_healthy() {
  docker ps --all --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
    --format '{{.Names}}: {{.Status}}' | grep -vE ': Up [^(]*(\(healthy\))?$|[-_]roles[-_][0-9]+: Exited \(0\)' || true
}

wait_until_healthy() {
  local began=$SECONDS waiting name
  while waiting=$(not_healthy); [ -n "$waiting" ]; do
    if [ $((SECONDS - began)) -gt "$PATIENCE_SECONDS" ]; then
      say "not healthy after $PATIENCE_SECONDS s:"
      while read -r name; do
        say "  $name"
        docker inspect --format '{{with .State.Health}}{{(index .Log 0).Output}}{{end}}' "${name%%:*}" >&2
      done <<<"$waiting"
      fail "what works goes on working; 'docker/compose.sh logs NAME' says more"
    fi
    sleep 0.5
  done
}

require_engine
began=$SECONDS
docker/secrets.sh
docker image inspect orderly-base:local >/dev/null 2>&1 || ./build_base_images.sh
docker image inspect orderly:local >/dev/null 2>&1 || ./build_run_images.sh
compose up --detach --no-build --remove-orphans "$@"
wait_until_healthy
# What somebody could do in the stores, and can no more.
docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
  --filter label=com.docker.compose.service=roles \
  | while read -r name; do docker logs --since "$((SECONDS - began + 1))s" "$name" 2>&1; done \
  | grep 'no longer' >&2 || true

# address VARIABLE: of the environment, else of the file, else this machine only.
address() {
  local in_file
  in_file=$(sed -n "s/^$1=//p" "$ENV_FILE")
  echo "${!1:-${in_file:-127.0.0.1}}"
}
address=$(address PUBLISH_ADDRESS)
cat <<EOF
healthy in $((SECONDS - began)) s
  orders              http://$address:8777/buy_order, http://$address:8778/buy_orders
  accounts, agents    http://$address:9090
  everything by path  http://$address
  RabbitMQ            http://$(address LOOPBACK_ADDRESS):15672, user orderly, BROKER_PASSWORD in $ENV_FILE
  logs                docker/compose.sh exec log find /fluentd/log
  stop                docker/compose.sh down (with --volumes the data go as well)
Every request needs a token; $ENV_FILE has one for a client and one for an administrator:
  (. $ENV_FILE; export API_TOKEN; ./put_buy_order.sh USD 123.45; API_TOKEN=\$ADMIN_TOKEN ./get_buy_orders.sh)
EOF
