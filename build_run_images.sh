#!/usr/bin/env bash
# Builds orderly:local, the image that every service runs: the base plus the code. Takes seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. docker/functions.sh

require_engine
docker image inspect orderly-base:local >/dev/null 2>&1 || fail "first ./build_base_images.sh"
build orderly:local --file docker/services/Dockerfile \
  --build-arg REVISION="$(git describe --always --dirty 2>/dev/null || echo unknown)" .
say "orderly:local, $(size_of orderly:local)"
