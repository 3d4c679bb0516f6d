#!/bin/sh
# Check an image, and measure what starting it costs: make image-test [IMAGE=path] [GPU=cuda12]
# Inside it is what the lock says and no more, nothing of this machine's Python leaks in, and a tiny study runs off line.
set -eu
cd "$(dirname "$0")/.."
fail() { printf 'ntkhpc image test: %s\n' "$@" >&2; exit 1; }
say() { printf 'ntkhpc image test: %s\n' "$@"; }

image=${IMAGE:-$(sh containers/image.sh path)}
[ -f "$image" ] || fail "there is no $image." "Build it: make image${GPU:+ GPU=$GPU}"
command -v apptainer >/dev/null || fail "apptainer is not on PATH." "Try: module load apptainer"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/ntkhpc-image.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP

# As a job runs it: nothing of this machine but the code, read-only, and a folder to write to.
inside() {
    apptainer --silent exec --containall --no-home --bind "$PWD:/code:ro" --bind "$scratch:/scratch" --pwd /scratch \
        --env PYTHONPATH=/code --env TMPDIR=/scratch ${offline:+--net --network none} "$image" "$@"
}

# As a careless user runs it: a home with packages in it, and a PYTHONPATH that somebody exported.
mkdir -p "$scratch/home/.local/lib/python3.11/site-packages" "$scratch/path"
echo > "$scratch/home/.local/lib/python3.11/site-packages/leaked_from_user_site.py"
echo > "$scratch/path/leaked_from_path.py"
careless() {
    HOME="$scratch/home" PYTHONPATH="$scratch/path" PYTHONUSERBASE="$scratch/home/.local" \
        apptainer --silent exec --bind "$scratch" --bind "$PWD:/code:ro" "$@"
}

inside python3 - <<'PYTHON' || fail "$image does not hold what its lock says."
import importlib.metadata, re, runpy, sys, sysconfig
from pathlib import Path
wanted = runpy.run_path("/code/containers/wheels.py")["wanted"]
lock = dict(re.findall(r"^(\S+)==(\S+)", wanted(Path("/opt/ntkhpc/requirements.lock").read_text()), re.MULTILINE))
plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
here = {plain(d.metadata["Name"]): d.version for d in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])}
lock = {plain(name): version for name, version in lock.items()}
here = {name: version for name, version in here.items() if name in lock or name not in ("pip", "setuptools")}
differing = sorted(name for name in here.keys() | lock.keys() if here.get(name) != lock.get(name))
print(f"ntkhpc image test: {len(here)} packages as the lock says" if not differing else
      "\n".join(f"{name}: {here.get(name)} here, {lock.get(name)} in the lock" for name in differing))
sys.exit(bool(differing))
PYTHON

leaks='import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ("leaked_from_user_site", "leaked_from_path"))))'
careless --env PYTHONPATH=/code "$image" python3 -c "$leaks" || fail "packages of this machine leak into the image." \
    "The code must be bound with --env PYTHONPATH=... and PYTHONNOUSERSITE must stay 1."
say "neither the user site nor an exported PYTHONPATH leaks in"
careless "$image" python3 -c "$leaks" || say "note: without --env PYTHONPATH=... an exported PYTHONPATH does leak in"

offline=yes
if ! inside true 2>/dev/null; then
    offline=
    say "note: this user may not start a container without a network; the network was there in what follows"
fi
cat > "$scratch/tiny.toml" <<'TOML'
name = "tiny"
[data]
source = "calorimeter"
pool = 40
test = 15
[network]
widths = [4]
[training.steps]
factor = 1.0
[ensemble]
n_train = [8, 12]
members = 4
tile = 2
shard_members = 4
trace_points = 4
TOML
inside python3 -c 'from ntkhpc.tangents import load; load()' || fail "neural-tangents cannot be imported."
inside python3 -m ntkhpc submit --task=/scratch/tiny.toml --runs=/scratch/runs --cores=2 > "$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    fail "a tiny study does not run in the image."
}
say "neural-tangents loads and a tiny study runs${offline:+, with the network cut off}"

if [ "${image#*-cuda}" != "$image" ]; then
    if nvidia-smi >/dev/null 2>&1; then
        gpu='import jax; assert jax.devices()[0].platform == "gpu", jax.devices(); print(jax.devices())'
        apptainer --silent exec --containall --no-home --nv "$image" python3 -c "$gpu" || fail "JAX sees no GPU."
    else
        say "note: no GPU is here; that JAX sees one was not tested"
    fi
fi

python3 - "$image" <<'PYTHON' 2>/dev/null || say "note: what starting costs was not measured; that needs python3 on this machine"
import statistics, subprocess, sys, time
def seconds(*command, image=sys.argv[1]):
    def once():
        start = time.perf_counter()
        subprocess.run(["apptainer", "--silent", "exec", "--containall", "--no-home", image, *command], check=True)
        return time.perf_counter() - start
    return statistics.median(once() for _ in range(5))
print(f"ntkhpc image test: starting takes {seconds('true'):.2f} s, with python3 {seconds('python3', '-c', ''):.2f} s, "
      f"with import jax {seconds('python3', '-c', 'import jax'):.2f} s (medians of 5)")
PYTHON
say "$image passed"
