#!/usr/bin/env bash
# get_buy_orders.sh: prints the first page, the newest buy orders.
# HOST, PORT_OFFSET and API_TOKEN (sent as bearer) come from the environment.
set -euo pipefail
exec curl --silent --show-error --write-out '\n' \
  ${API_TOKEN:+--header "Authorization: Bearer $API_TOKEN"} \
  "http://${HOST:-127.0.0.1}:$((8778 + ${PORT_OFFSET:-0}))/buy_orders"
