#!/usr/bin/env bash
# Builds orderly-base:local, the image with every dependency and no code. Again when requirements change.
# Where a registry answers it is built from a digest, which its labels name: what was built can be told.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. docker/functions.sh

require_engine
name=$(official_name python)
if base=$(pinned "$name"); then
  say "from $base"
else
  base=$name
  say "from $base as it is here, not pinned: no registry answers with a digest"
fi
build orderly-base:local --file docker/base/Dockerfile --build-arg BASE="$base" \
  --label org.opencontainers.image.base.name="$name" \
  --label org.opencontainers.image.base.digest="$(sed -n 's/.*@//p' <<<"$base")" .
say "orderly-base:local, $(size_of orderly-base:local)"
