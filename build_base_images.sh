#!/usr/bin/env bash
# Builds orderly-base:local, the image with every dependency and no code. Again when requirements change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. docker/functions.sh

require_engine
build orderly-base:local --file docker/base/Dockerfile .
say "orderly-base:local, $(size_of orderly-base:local)"
