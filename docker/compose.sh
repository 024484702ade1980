#!/usr/bin/env bash
# `docker compose`, or docker-compose where that is what there is, on this project's cluster.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. docker/functions.sh

compose "$@"
