#!/bin/sh
# Build the image of a lock, unless it is there: containers/images/ntkhpc-<cpu|cuda12|cuda13>-<the lock's sha256>.sif
#
#   image.sh         build it (make image)
#   image.sh path    print where it is, or would be
#
#   GPU=cuda12|cuda13   with CUDA's wheels, from containers/requirements-cuda12.lock
#   BASE=base.sif       on this image of containers/base.def instead of docker's python:3.11-slim-bookworm
#   BASE=debootstrap    make base.sif first, from the Debian mirror MIRROR (default: the one apt uses here)
#   PYTHON=python3      whose pip downloads the wheels, with this machine's proxy, index and certificates
#
# The definition is not part of the name: after editing one, remove the image.
set -eu
cd "$(dirname "$0")/.."
fail() { printf 'ntkhpc image: %s\n' "$@" >&2; exit 1; }
say() { printf 'ntkhpc image: %s\n' "$@"; }

kind=${GPU:-cpu}
case $kind in
    cpu) lock=requirements.lock ;;
    cuda12 | cuda13) lock=containers/requirements-$kind.lock ;;
    *) fail "GPU=$kind is unknown." "Allowed are cuda12, cuda13, or nothing for the CPU image." ;;
esac
[ -f "$lock" ] || fail "there is no $lock." "Write it with: sh containers/lock.sh $kind"
digest=$(sha256sum "$lock" | cut -c 1-12)
image=containers/images/ntkhpc-$kind-$digest.sif
[ "${1:-}" = path ] && { echo "$image"; exit 0; }

describe() { # prints the path, the size and the digest of the image
    say "$image, $(du -k "$image" | awk '{ printf "%.0f MiB", $1 / 1024 }'), sha256 $(cut -d ' ' -f 1 "$image.sha256")"
}
if [ -e "$image" ]; then
    (cd containers/images && sha256sum --status --check "${image##*/}.sha256") || fail \
        "$image is not what was built: its sha256 is not the one in $image.sha256." \
        "It was damaged or replaced. Remove both files and run make image again."
    say "the image of this lock is there already"
    describe
    exit 0
fi

command -v apptainer >/dev/null || fail "apptainer is not on PATH." \
    "Images are built and run by Apptainer 1.2 or newer; a cluster has it as a module, or on its login nodes only." \
    "Try: module load apptainer. On a throw-away Debian 12: tests/cluster/install_apptainer.sh. Runs without an image need none."
case $PWD in *[:,]*) fail "the path of this checkout, $PWD, has a ':' or ','; Apptainer cannot bind it." "Move the checkout." ;; esac
mkdir -p containers/images
scratch=$(mktemp -d containers/images/.build.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP

build() { # build SIF DEFINITION OPTION...
    sif=$1 definition=$2
    shift 2
    [ "$(id -u)" = 0 ] && set -- --fakeroot "$@"
    apptainer --quiet build "$@" "$scratch/new.sif" "$definition" && mv "$scratch/new.sif" "$sif"
}

base=${BASE:-}
if [ "$base" = debootstrap ]; then
    base=containers/images/base.sif
    command -v debootstrap >/dev/null || fail "debootstrap is not on PATH; it unpacks Debian for the base image." \
        "Install it (Debian: apt-get install debootstrap), or build base.sif elsewhere and pass BASE=/path/to/base.sif."
    # shellcheck disable=SC2016  # $(REPO_URI) is for apt-get
    mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null \
        | grep -v security | head -n 1)} || mirror=
    [ -e "$base" ] || [ -n "$mirror" ] || fail "no Debian mirror is known: this machine has no apt that names one." \
        "Name one: make image BASE=debootstrap MIRROR=https://some.mirror/debian"
    [ -e "$base" ] || say "making $base from a Debian mirror (once, some minutes)"
    [ -e "$base" ] || build "$base" containers/base.def --build-arg "MIRROR=$mirror" || fail \
        "the base image was not built; Apptainer's message is above." \
        "Often the mirror does not answer: name one by MIRROR=https://some.mirror/debian"
elif [ -n "$base" ] && [ ! -f "$base" ]; then
    fail "BASE=$base is no file." "Pass the path of a base.sif, or BASE=debootstrap to make one."
fi

python=
for candidate in ${PYTHON:+"$PYTHON"} .venv/bin/python python3.11 python3.12 python3.13 python3.14 python3; do
    if "$candidate" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
mkdir "$scratch/wheels"
if [ -n "$python" ]; then
    say "downloading the wheels of $lock"
    "$python" containers/wheels.py "$lock" "$scratch/wheels" || fail \
        "downloading the wheels of $lock failed; pip's message is above." \
        "Likely causes: no network (set a proxy or PIP_INDEX_URL), a full disk, a package without a wheel for this processor."
else
    say "no Python 3.11 or newer with pip is here: the image's own pip downloads, without this machine's pip settings"
fi

say "building $image"
set -- --build-arg "LOCK=$lock" --build-arg "KIND=$kind"
[ -n "$base" ] && set -- "$@" --build-arg BOOT=localimage --build-arg "FROM=$base"
build "$scratch/image.sif" containers/ntkhpc.def --bind "$PWD/$scratch/wheels:/mnt" "$@" || fail \
    "the image was not built; Apptainer's message is above, and nothing was kept." \
    "Where no container registry can be reached: make image BASE=debootstrap. A full temporary folder: set APPTAINER_TMPDIR."
(cd "$scratch" && sha256sum image.sif | sed "s/image.sif/${image##*/}/") > "$scratch/sha256"
mv "$scratch/sha256" "$image.sha256"
mv "$scratch/image.sif" "$image"
describe
