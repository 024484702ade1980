#!/usr/bin/env bash
# Builds the images, brings a cluster of its own up, runs the acceptance tests and those of the
# cluster through its published ports, and takes it down: ./test.sh docker.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. requirements/environment.sh
. docker/functions.sh

# The official images that the tests need; a profile's image is not among them but Prometheus.
official_images() {
  official_name python
  sed -nE 's/^ +image: (.*)/\1/p' docker-compose.yml \
    | grep -E '^(postgres|rabbitmq|fluent/fluentd|nginx|prom/prometheus):'
}

is_here() { docker image inspect "$1" >/dev/null 2>&1; }

# Official images from the registry, or where none can be reached the stand-ins.
prepare_images() {
  local image missing=()
  for image in $(official_images); do
    is_here "$image" || timeout 300 docker pull --quiet "$image" >/dev/null 2>&1 || missing+=("$image")
    # No registry for one is no registry for all.
    [ ${#missing[@]} -eq 0 ] || break
  done
  [ ${#missing[@]} -eq 0 ] || docker/stand_in/build.sh python postgres rabbitmq fluentd nginx prometheus
  for image in $(official_images); do
    if is_stand_in "$image"; then
      say "$image is a stand-in made from the distribution's packages, $(size_of "$image")"
    else
      say "$image is the official image, $(size_of "$image")"
    fi
  done
}

if ! docker version >/dev/null 2>&1; then
  say "NOT RUN: no container engine answers, so nothing about the cluster was tested."
  say "Debian: apt-get install --no-install-recommends docker.io docker-compose debootstrap;"
  fail "docker/stand_in/engine.sh start gives a private engine to a machine that has none running"
fi
prepare_environment .venv "" development
prepare_images
./build_base_images.sh
./build_run_images.sh
exec .venv/bin/python -m pytest -q --timeout=300 tests/containers "$@"
