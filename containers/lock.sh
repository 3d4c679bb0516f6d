#!/bin/sh
# Write a lock: packages with their hashes, for every Python >= 3.11, and no index address. Run it through `make lock`.
#
#   containers/lock.sh           requirements.lock: every package of pyproject.toml, its extras included
#   containers/lock.sh cuda12    containers/requirements-cuda12.lock: the same versions, and what jax[cuda12] adds
#
# Also cuda13 and rocm7-local: any extra of jax. Needs uv (https://docs.astral.sh/uv).
# Versions that are in the lock stay, as far as pyproject.toml allows; UPGRADE=1 takes the newest ones.
set -eu
cd "$(dirname "$0")/.."
extra=${1:-}
lock=requirements.lock
set --
if [ -n "$extra" ]; then
    lock=containers/requirements-$extra.lock
    set -- --constraint requirements.lock -
fi
if [ -n "${UPGRADE:-}" ]; then
    set -- "$@" --upgrade
fi
rm -f "$lock.all"
[ ! -f "$lock" ] || cp "$lock" "$lock.all" # uv prefers the versions of the file that it writes
printf '%s\n' "${extra:+jax[$extra]}" | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --override containers/lock-overrides.txt --all-extras pyproject.toml \
    --output-file "$lock.all" "$@" > /dev/null
awk '/^[^ ]/ { keep = !/sys_platform == .never./ } keep' "$lock.all" > "$lock.new"
rm "$lock.all"
if grep -n "://" "$lock.new"; then
    echo "lock: an address got into $lock.new; it is left for you to look at" >&2
    exit 1
fi
mv "$lock.new" "$lock"
