#!/usr/bin/env bash
# get_buy_orders.sh: prints the first page, the newest buy orders; ends with 1 when it was refused.
# ORDERLY_URL (a gateway's address), PORT_OFFSET and API_TOKEN (sent as bearer) come from the environment.
set -euo pipefail
url=${ORDERLY_URL:-http://127.0.0.1:$((8778 + ${PORT_OFFSET:-0}))}
# put_buy_order.sh has kept there what has to be waited for to be listed.
jar=${ORDERLY_HOME:-$(dirname "${BASH_SOURCE[0]}")/.local}/cookies
curl --silent --show-error --noproxy '*' --max-time 15 --fail-with-body --cookie "$jar" --write-out '\n' \
  ${API_TOKEN:+--header "Authorization: Bearer $API_TOKEN"} \
  "${url%/}/buy_orders" || exit 1
