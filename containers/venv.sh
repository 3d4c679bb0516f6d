#!/bin/sh
# Make .venv from requirements.lock, or leave it alone when it is up to date; `venv.sh find` prints the Python for it.
# PYTHON=/path/to/python names the interpreter; otherwise each candidate is run, because a name on PATH may be a stub.
set -eu
cd "$(dirname "$0")/.."
lock_id=$(cksum < requirements.lock | tr ' ' '-')
stamp=.venv/lock-$lock_id
[ "${1:-}" != find ] && [ -e "$stamp" ] && exit 0

fail() { printf 'ntkhpc set-up: %s\n' "$@" >&2; exit 1; }
usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=
if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" || fail "PYTHON=$PYTHON does not run, or is older than Python 3.11." \
        "Name another one: make venv PYTHON=/path/to/python3.11"
    python=$PYTHON
else
    for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if usable "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || [ "${1:-}" = find ] || fail "no Python 3.11 or newer was found on PATH." \
        "Install one (Debian: apt-get install python3 python3-venv; a cluster: module load python), or name it: make venv PYTHON=/path/to/python3.11" \
        "Without any, Apptainer and an image do too: make image on a machine that has Python or a registry, then make submit."
fi
if [ "${1:-}" = find ]; then
    [ -z "$python" ] || echo "$python"
    exit 0
fi

echo "ntkhpc set-up: making .venv with $("$python" -c 'import sys; print(sys.executable, sys.version.split()[0])') (once, about a minute, 1.3 GB)"
rm -rf .venv
"$python" -m venv .venv || {
    rm -rf .venv
    fail "$python has no working venv module." "Debian and Ubuntu package it apart: apt-get install python3-venv"
}
.venv/bin/python -m pip install --no-user --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock || {
    rm -rf .venv
    fail "installing requirements.lock failed; pip's message is above, and nothing was kept." \
        "Likely causes: no network (set a proxy or PIP_INDEX_URL), a full disk (1.3 GB are needed), a Python for which no wheel exists."
}
# A pip.conf may send packages elsewhere (target, prefix, root, user).
.venv/bin/python -I -c 'import importlib.metadata as found; found.version("jax")' 2>/dev/null || {
    rm -rf .venv
    fail "pip put the packages elsewhere than into .venv, and nothing was kept." \
        "A file of its settings has target, prefix, root or user: .venv/bin/python -m pip config debug shows which. Mend it," \
        "or do without: make venv PIP_CONFIG_FILE=/dev/null"
}
: > "$stamp"
