#!/usr/bin/env bash
# The load test: Locust against a system of its own, or against ORDERLY_URL=http://… (and PAYMENTS_URL and
# POLICE_URL, of transact and fraud_police, for those who pay). Prints a table; fails when a single request
# does. Arguments go to Locust, such as --users 50 --run-time 10s.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. requirements/environment.sh

prepare_environment .venv-loadtest "" loadtest
if [ -z "${ORDERLY_URL:-}" ]; then
  prepare_environment .venv "" runtime
  prepare_postgres
  home=$(mktemp -d) offset=${PORT_OFFSET:-7000} output=$(mktemp)
  # Whoever runs Postgres, if that is another user, has to get in.
  chmod 711 "$home"
  ORDERLY_HOME=$home PORT_OFFSET=$offset .venv/bin/orderly up >"$output" 2>&1 &
  system=$!
  trap 'kill $system 2>/dev/null; wait $system || :; rm -rf "$home" "$output"' EXIT
  say "starting a system in $home, ports moved by $offset"
  until grep -q 'orderly: ready in' "$output"; do
    kill -0 $system 2>/dev/null || fail "it did not start: $(cat "$output")"
    sleep 0.2
  done
  if has_rabbitmq; then
    until grep -qE 'RabbitMQ is up|feeds the readers' "$output"; do sleep 0.2; done
    BROKER_URL=$(sed -n 's/^BROKER_URL=//p' "$home/environment" | tr -d "\"'")
    export BROKER_URL
  fi
  ORDERLY_URL=http://127.0.0.1:$((9090 + offset))
  export PAYMENTS_URL=http://127.0.0.1:$((9001 + offset)) POLICE_URL=http://127.0.0.1:$((8090 + offset))
fi
.venv-loadtest/bin/locust --locustfile loadtest/locustfile.py --host "$ORDERLY_URL" --headless \
  --users 200 --spawn-rate 50 --run-time 60s --only-summary --loglevel WARNING --exit-code-on-error 1 "$@"
