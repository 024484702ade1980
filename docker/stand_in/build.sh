#!/usr/bin/env bash
# Makes stand-ins for the official images, for machines with an engine but without a registry, and
# tags them with the official names that docker-compose.yml and the Dockerfiles use.
# Debian, as root: needs debootstrap. An official image that is there stays.
#
#   docker/stand_in/build.sh [IMAGE…]     default: those that the cluster needs without a profile
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. docker/functions.sh

NEEDED="python postgres rabbitmq fluentd nginx"
# Of the distribution: the release with the PostgreSQL 17 and the RabbitMQ 4 of the official images.
SUITE=${SUITE:-trixie}

# A minimal root of the distribution, from the mirror that this machine uses.
import_root() {
  local mirror folder=$work/root
  mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null \
    | grep -E '^(URIs:|deb) ' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1) || true
  command -v debootstrap >/dev/null || apt-get -qq install --no-install-recommends debootstrap
  say "making a root of $SUITE with debootstrap"
  debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata "$SUITE" "$folder" \
    ${mirror:+"$mirror"} >"$work/debootstrap.log" || { tail "$work/debootstrap.log" >&2; exit 1; }
  rm -rf "$folder"/usr/share/{doc,man,info,locale,lintian}/* "$folder"/var/{cache/apt,lib/apt/lists}/*
  # As in the official images: what was installed leaves no packages behind.
  printf '%s\n' 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };' \
    'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' >"$folder/etc/apt/apt.conf.d/clean"
  # How this machine reaches package registries is its own affair, and stays out of the Dockerfiles.
  cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
  if [ -f /etc/pip.conf ]; then cp /etc/pip.conf "$folder/etc/pip.conf"; fi
  tar --create --directory "$folder" . | docker import - "orderly-stand-in:$SUITE" >/dev/null
}

# A Python 3.12 of this machine, if there is one that can be moved: it finds its library by itself.
copy_python() {
  local prefix target=$work/context/python
  mkdir -p "$target"
  prefix=$(cd / && python3.12 -c 'import sys; print(sys.base_prefix)' 2>/dev/null \
    || find "$HOME/.pyenv/versions" -maxdepth 1 -name '3.12.*' 2>/dev/null | tail -n 1) || true
  if [ -z "$prefix" ] || [ "$prefix" = /usr ]; then
    say "no Python 3.12 here that could be moved: the stand-in has the distribution's Python"
    return
  fi
  mkdir -p "$target/bin" "$target/lib"
  cp -a "$prefix/bin/python3.12" "$target/bin/"
  ln -s python3.12 "$target/bin/python3" && ln -s python3.12 "$target/bin/python"
  cp -a "$prefix"/lib/libpython3.12* "$target/lib/" 2>/dev/null || true
  rm -f "$target"/lib/*.a
  strip --strip-unneeded "$target"/lib/libpython3.12.so.1.0 "$target/bin/python3.12" 2>/dev/null || true
  tar --create --directory "$prefix" --exclude='__pycache__' --exclude='*/test' --exclude='*/tests' \
    --exclude='idlelib' --exclude='tkinter' --exclude='config-3.12*' --exclude='site-packages/*' \
    lib/python3.12 | tar --extract --directory "$target"
}

chosen=("$@")
[ $# -gt 0 ] || read -ra chosen <<<"$NEEDED"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/context"
cp docker/stand_in/{Dockerfile,postgres_entrypoint.sh,fluentd.py} "$work/context/"
docker image inspect "orderly-stand-in:$SUITE" >/dev/null 2>&1 || import_root
copy_python
for target in "${chosen[@]}"; do
  name=$(official_name "$target")
  [ -n "$name" ] || fail "nothing uses an image $target"
  if docker image inspect "$name" >/dev/null 2>&1 && ! is_stand_in "$name"; then
    say "$name is there"
    continue
  fi
  say "making $name"
  build "$name" --target "$target" --label "orderly.stand-in=$target" \
    --build-arg "SUITE=$SUITE" "$work/context"
done
