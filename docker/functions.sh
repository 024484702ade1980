# Sourced by the scripts that use an engine. The caller has `set -euo pipefail` and stands in the
# project's folder.

export COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-orderly}
# Where the secrets are: a second cluster beside the first has its own.
ENV_FILE=${ENV_FILE:-docker.env}
METRICS_TOKEN_FILE=$(dirname "$ENV_FILE")/.secrets/metrics_token
export METRICS_TOKEN_FILE

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$*"; exit 1; }

require_engine() {
  docker version >/dev/null 2>&1 || fail "no container engine answers (docker version says why)"
}

# build NAME ARGUMENT…: like `docker build --tag NAME ARGUMENT…`, quiet unless it fails.
build() {
  local name=$1 log network=()
  shift
  # An engine without its default network builds on the host's.
  docker network inspect bridge >/dev/null 2>&1 || network=(--network host)
  log=$(mktemp)
  docker build --tag "$name" "${network[@]}" "$@" >"$log" 2>&1 || { cat "$log" >&2; fail "could not build $name"; }
  rm "$log"
}

# Docker's own `compose`, otherwise the older program of that name.
compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose --env-file "$ENV_FILE" "$@"
  elif command -v docker-compose >/dev/null; then
    docker-compose --env-file "$ENV_FILE" "$@"
  else
    fail "neither 'docker compose' nor docker-compose is installed"
  fi
}

size_of() { docker image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

# Whether the image was made by docker/stand_in/build.sh.
is_stand_in() {
  [ -n "$(docker image inspect --format '{{index .Config.Labels "orderly.stand-in"}}' "$1")" ]
}

# official_name NAME: with its tag, as the project's files spell it; `python` is what our images build on.
official_name() {
  grep -hoE "(image: |^ARG BASE=)([a-z]+/)?$1:[^ ]+" docker-compose.yml docker/base/Dockerfile \
    | sed -E 's/^(image: |ARG BASE=)//' | head -n 1
}

# pinned IMAGE: pulls it, and prints IMAGE@DIGEST; false where no registry answers.
pinned() {
  local digests digest
  timeout 300 docker pull --quiet "$1" >/dev/null 2>&1 || return 1
  digests=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1") || return 1
  # An image may be known by digests of several registries: the one of this name counts.
  digest=$(sed -n "s|^${1%:*}@||p" <<<"$digests" | head -n 1)
  [ -n "$digest" ] && printf '%s@%s\n' "$1" "$digest"
}
