#!/usr/bin/env bash
# put_buy_order.sh [currency] [amount] [key]: places a buy order and prints the answer.
# Ends with 0 when the order stands, 1 when it was refused, 2 when there was no answer: then say it
# again with the key that is printed, which never makes a second order.
# ORDERLY_URL (a gateway's address), PORT_OFFSET and API_TOKEN (sent as bearer) come from the environment.
set -euo pipefail
currency=${1:-EUR} amount=${2:-123.45}
# Without a key the order is a new one: a random UUID from whatever this machine has.
key=${3:-$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen | tr '[:upper:]' '[:lower:]')}
url=${ORDERLY_URL:-http://127.0.0.1:$((8777 + ${PORT_OFFSET:-0}))}
# What the answer says of the order's place in the log is kept for get_buy_orders.sh; where it cannot
# be, the order is placed all the same.
jar=${ORDERLY_HOME:-$(dirname "${BASH_SOURCE[0]}")/.local}/cookies
mkdir -p "$(dirname "$jar")" || true
# A proxy is for the way to the internet.
answer=$(curl --silent --show-error --noproxy '*' --max-time 15 --write-out '\n%{http_code}' --request PUT \
  --cookie "$jar" --cookie-jar "$jar" \
  ${API_TOKEN:+--header "Authorization: Bearer $API_TOKEN"} \
  --header 'Content-Type: application/json' \
  --data "{\"currency\":\"$currency\",\"amount\":\"$amount\",\"idempotence_key\":\"$key\"}" \
  "${url%/}/buy_order") || {
  echo "no answer; the order may have been placed. Ask again: $0 $currency $amount $key" >&2
  exit 2
}
printf '%s\n' "${answer%$'\n'*}"
case ${answer##*$'\n'} in
  2??) ;;
  5??)
    echo "not answered yet; ask again: $0 $currency $amount $key" >&2
    exit 2
    ;;
  *) exit 1 ;;
esac
