#!/usr/bin/env bash
# Sets everything up and runs the whole system in the foreground, until Ctrl-C.
#
#   ./run.sh                                              data in .local/
#   ORDERLY_HOME=/some/folder PORT_OFFSET=1000 ./run.sh   a second one beside it
#   ./run.sh docker                                       as containers, in the background
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. requirements/environment.sh

if [ "${1:-}" = docker ]; then
  shift
  exec docker/up.sh "$@"
fi
[ $# -eq 0 ] || fail "takes no argument but docker; .env.example lists what the environment can say"
prepare_environment .venv "" runtime
prepare_postgres
exec .venv/bin/orderly up
