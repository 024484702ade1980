#!/usr/bin/env bash
# Makes the secrets of the cluster: what the file ENV_FILE (docker.env) does not have yet gets a random
# value, what is there stays. Beside it, in .secrets/, the one that Prometheus reads from a file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. docker/functions.sh

file=$ENV_FILE
umask 077
# Where the secrets were before `.env` became what ./run.sh reads.
before=$(dirname "$file")/.env
if [ ! -e "$file" ] && grep -qs '^WRITE_MODEL_OWNER_PASSWORD=' "$before"; then
  mv "$before" "$file"
  say "the secrets of the cluster are in $file from now on, and no longer in $before"
fi
touch "$file"
chmod 600 "$file"
made=""

random_hex() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
value_of() { sed -n "s/^$1=//p" "$file" | tail -n 1; }

# secret NAME [VALUE]: adds the variable unless the file has it.
secret() {
  [ -n "$(value_of "$1")" ] && return
  printf '%s=%s\n' "$1" "${2:-$(random_hex)}" >>"$file"
  made=yes
}

# entry NAME ROLE VARIABLE: how API_TOKENS knows the token in that variable.
entry() {
  local digest
  digest=$(value_of "$3" | tr -d '\n' | { sha256sum 2>/dev/null || shasum -a 256; } | cut -d ' ' -f 1)
  printf '%s:%s:%s' "$1" "$2" "$digest"
}

for name in WRITE_MODEL_SUPERUSER WRITE_MODEL_OWNER COMMAND_SERVICE EVENT_RELAY LOG_READER \
    LOG_HEAD_READER REACTION_WORKER READ_MODEL_SUPERUSER READ_MODEL_OWNER QUERY_SERVICE PROJECTOR \
    BROKER PGADMIN GRAFANA; do
  secret "${name}_PASSWORD"
done
secret TWO_FA
# What signs the fingerprints of commands: kept for as long as the log, see docs/operations.md.
secret FINGERPRINT_KEYS "k1:$(head -c 32 /dev/urandom | base64 | tr -d '\n')"
# What signs the fingerprints of cards: likewise.
secret CARD_KEYS "c1:$(head -c 32 /dev/urandom | base64 | tr -d '\n')"
# Tokens: for a client, for an administrator, for what services ask each other, for Prometheus, for
# transact, which shows the fraud police every client's transactions, and for what it asks the stand-in
# for a payment provider.
for name in API_TOKEN ADMIN_TOKEN SERVICE_TOKEN METRICS_TOKEN TRANSACT_TOKEN PAYMENT_PROVIDER_TOKEN; do
  secret "$name"
done
of_transact=$(entry orderly-transact admin TRANSACT_TOKEN),$(
  entry orderly-payments client PAYMENT_PROVIDER_TOKEN)
secret API_TOKENS "$(entry client client API_TOKEN),$(entry admin admin ADMIN_TOKEN)$(
  ),$(entry orderly-services client SERVICE_TOKEN),$(entry prometheus operator METRICS_TOKEN)$(
  ),$of_transact"
# Any client could once read the metrics.
if value_of API_TOKENS | grep -q 'prometheus:client:'; then
  changed=$(sed 's/prometheus:client:/prometheus:operator:/' "$file")
  printf '%s\n' "$changed" >"$file"
  say "Prometheus has the role operator in $file from now on"
fi

# There was no transact once.
if ! value_of API_TOKENS | grep -q 'orderly-transact:'; then
  tokens=$(value_of API_TOKENS),$of_transact
  changed=$(sed '/^API_TOKENS=/d' "$file")
  printf '%s\nAPI_TOKENS=%s\n' "$changed" "$tokens" >"$file"
  say "transact has tokens in $file from now on"
fi

mkdir -p "$(dirname "$METRICS_TOKEN_FILE")"
# Prometheus runs as a user of its own; the folder keeps everybody else out.
umask 022
value_of METRICS_TOKEN | tr -d '\n' >"$METRICS_TOKEN_FILE"

[ -z "$made" ] || say "made secrets in $(cd "$(dirname "$file")" && pwd)/$(basename "$file")"
