#!/bin/sh
# Everything that needs a real cluster, on this machine: SLURM, Apptainer and the image come up by themselves, the tests
# run, the cluster goes down. For a throw-away Debian 12 machine and root. KEEP=1 leaves the cluster up.
# `run.sh image` only installs Apptainer and builds the image.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "test-cluster needs root on a throw-away Debian machine: it installs and starts daemons" >&2; exit 1; }

names="login_nodes submissions refusals interruptions runs"  # the last one begins first
[ "$(ls tests/cluster/test_*.py | wc -l)" = "$(echo "$names" | wc -w)" ] || { echo "$0 names other tests than there are in tests/cluster" >&2; exit 1; }

export SLURM_LAB_DIR="${SLURM_LAB_DIR:-/tmp/slurm-lab}" SLURM_LAB_MEM_MB=3000 SLURM_LAB_MAX_ARRAY=4
tests/cluster/install_apptainer.sh
image=$(sh containers/image.sh path)
# Packed and unpacked faster than by gzip, Apptainer's default: a job imports jax in 2.6 s instead of 4.
export APPTAINER_MKSQUASHFS_ARGS="${APPTAINER_MKSQUASHFS_ARGS:--comp zstd -Xcompression-level 3}"
[ -f "$image" ] || BASE="${BASE:-debootstrap}" sh containers/image.sh
[ "${1:-}" != image ] || exit 0
sh containers/image_test.sh
tests/cluster/slurm_cluster.sh down
tests/cluster/slurm_cluster.sh up
[ "${KEEP:-}" ] || trap 'tests/cluster/slurm_cluster.sh down' EXIT
eval "$(tests/cluster/slurm_cluster.sh env)"
# By file, as the tests of one share runs; in this order the two workers end at about the same time.
set -- --no-loadscope-reorder "$@"
for name in $names; do
    set -- "tests/cluster/test_$name.py" "$@"
done
NTKHPC_TEST_IMAGE="$PWD/$image" .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
