#!/usr/bin/env bash
# Sets everything up and measures: prints a table and writes bench/results.json and bench/chart.svg.
# Arguments go to the benchmark; ./bench.sh --help lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. requirements/environment.sh

# Other people's programs, in an environment of their own: what they need is not what we need.
prepare_rivals() {
  # Their requirements name all that they need, and leave out what requirements/rivals_overrides.txt
  # says, which pip would ask for.
  prepare_environment .venv-rivals "" rivals --no-deps
  command -v npm >/dev/null || {
    say "no npm here: the benchmark does without message-db and what stands on it"
    return
  }
  [ -d requirements/message_db/node_modules ] \
    || npm ci --prefix requirements/message_db --ignore-scripts --no-audit --no-fund --silent \
    || fail "could not install message-db"
}

prepare_environment .venv "" runtime
prepare_environment .venv "" benchmark
prepare_environment .venv-loadtest "" loadtest
prepare_rivals
prepare_postgres
prepare_rabbitmq
prepare_wrk
exec .venv/bin/python -m bench "$@"
