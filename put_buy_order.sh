#!/usr/bin/env bash
# put_buy_order.sh [currency] [amount] [key]: places a buy order and prints the answer.
# HOST, PORT_OFFSET and API_TOKEN (sent as bearer) come from the environment.
set -euo pipefail
currency=${1:-EUR} amount=${2:-123.45}
# Without a key the order is a new one: a random UUID from whatever this machine has.
key=${3:-$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen | tr '[:upper:]' '[:lower:]')}
exec curl --silent --show-error --write-out '\n' --request PUT \
  ${API_TOKEN:+--header "Authorization: Bearer $API_TOKEN"} \
  --header 'Content-Type: application/json' \
  --data "{\"currency\":\"$currency\",\"amount\":\"$amount\",\"idempotence_key\":\"$key\"}" \
  "http://${HOST:-127.0.0.1}:$((8777 + ${PORT_OFFSET:-0}))/buy_order"
