#!/usr/bin/env bash
# get_buy_orders_pass_last_ref.sh <id> [page_size]: prints the page after the one that ended with <id>.
# ORDERLY_URL (a gateway's address), PORT_OFFSET and API_TOKEN (sent as bearer) come from the environment.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 <last_reference of the previous page> [page_size]" >&2; exit 2; }
url=${ORDERLY_URL:-http://127.0.0.1:$((8778 + ${PORT_OFFSET:-0}))}
# put_buy_order.sh has kept there what has to be waited for to be listed.
jar=${ORDERLY_HOME:-$(dirname "${BASH_SOURCE[0]}")/.local}/cookies
curl --silent --show-error --noproxy '*' --max-time 15 --fail-with-body --cookie "$jar" --write-out '\n' --get \
  ${API_TOKEN:+--header "Authorization: Bearer $API_TOKEN"} \
  --data-urlencode "last_reference=$1" --data-urlencode "page_size=${2:-10}" \
  "${url%/}/buy_orders" || exit 1
