#!/bin/sh
# Write requirements.lock: every package of pyproject.toml with its hashes, for every Python >= 3.11, and no index address.
# Needs uv (https://docs.astral.sh/uv). Run it through `make lock`.
set -eu
cd "$(dirname "$0")/.."
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --override containers/lock-overrides.txt --extra test pyproject.toml \
| awk '/^[^ ]/ { keep = !/sys_platform == .never./ } keep' > requirements.lock.new
if grep -n "://" requirements.lock.new; then
    echo "lock: an address got into requirements.lock.new; it is left for you to look at" >&2
    exit 1
fi
mv requirements.lock.new requirements.lock
