#!/bin/sh
# Run ntkhpc: with .venv where this machine has Python 3.11 or newer, else in the image of this checkout's lock.
#
# In the image SLURM's commands are not there. Ours of the same names hand each call to this shell, which runs it and
# hands the answer back, through a private folder; it runs these commands and no others. Jobs never use this.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/lock-$(cksum < requirements.lock | tr ' ' '-')
if [ -e "$stamp" ] || [ -n "${PYTHON:-}" ] || [ -n "$(sh containers/venv.sh find)" ]; then
    sh containers/venv.sh
    exec .venv/bin/python -m ntkhpc "$@"
fi
image=${IMAGE:-$(sh containers/image.sh path)}
if ! { command -v apptainer >/dev/null && [ -f "$image" ]; }; then
    exec sh containers/venv.sh  # which says what is missing
fi
echo "no Python 3.11 here: running in $image" >&2

COMMANDS="sbatch srun squeue sacct scontrol scancel sinfo"
bridge=$(mktemp -d "${TMPDIR:-/tmp}/ntkhpc.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$bridge"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$bridge/bin"
cat > "$bridge/call" <<'CALL'
#!/bin/sh
# One call: the words of a command, one a file, and where it was called.
call=$(mktemp -d "$NTKHPC_BRIDGE/new.XXXXXX")
number=0
for word in "${0##*/}" "$@"; do
    printf '%s' "$word" > "$call/word.$number"
    number=$((number + 1))
done
pwd > "$call/folder"
name=${call##*/new.}
mv "$call" "$NTKHPC_BRIDGE/ready.$name"
until [ -e "$NTKHPC_BRIDGE/taken.$name/status" ]; do sleep 0.05; done
cat "$NTKHPC_BRIDGE/taken.$name/out"
cat "$NTKHPC_BRIDGE/taken.$name/err" >&2
exit "$(cat "$NTKHPC_BRIDGE/taken.$name/status")"
CALL
chmod 755 "$bridge/call"
for command in $COMMANDS; do
    command -v "$command" >/dev/null && ln "$bridge/call" "$bridge/bin/$command"
done

answer() { # answer FOLDER: run the call in it
    set -- "$1" 0
    call=$1 number=0
    set --
    while [ -e "$call/word.$number" ]; do
        set -- "$@" "$(cat "$call/word.$number")"
        number=$((number + 1))
    done
    status=0
    case " $COMMANDS " in
        *" $1 "*) (cd "$(cat "$call/folder")" && exec "$@") > "$call/out" 2> "$call/err" < /dev/null || status=$? ;;
        *) : > "$call/out"; echo "$1 is not for the image" > "$call/err"; status=126 ;;
    esac
    echo "$status" > "$call/status.new"
    mv "$call/status.new" "$call/status"
}
serve() {
    # What would change the meaning of SLURM's commands, as launch/slurm.py drops it where it calls them itself.
    # shellcheck disable=SC2046  # names of variables
    unset $(awk 'BEGIN { for (name in ENVIRON)
        if (name ~ /^(SLURM|SBATCH|SQUEUE|SACCT|SCANCEL|SINFO)_/ && name != "SLURM_CONF") print name }')
    export SLURM_BITSTR_LEN=0 SLURM_TIME_FORMAT=standard
    while kill -0 $$ 2>/dev/null; do
        for ready in "$bridge"/ready.*; do
            [ -d "$ready" ] || continue
            taken=$bridge/taken.${ready##*/ready.}
            mv "$ready" "$taken"
            answer "$taken" &
        done
        sleep 0.05
    done
}
serve &
server=$!

# File systems that this shell sees and the image has not, as a profile or a study may name an image or data there; /opt
# is the image's own. If one of them cannot be bound, none is: then only the folders below are seen.
there=
for folder in /*; do
    case $folder in
        /bin | /boot | /dev | /etc | /lib* | /lost+found | /opt | /proc | /root | /run | /sbin | /sys | /usr | /var | *[:,]*) ;;
        *) [ -d "$folder" ] && [ -r "$folder" ] && [ -x "$folder" ] && there=$there,$folder ;;
    esac
done
if ! APPTAINER_BIND=${there#,} apptainer --silent exec "$image" true 2>/dev/null; then
    echo "warning: one of ${there#,} cannot be bound; files there are seen only if they are the run's or the study's" >&2
    there=
fi
binds=${APPTAINER_BIND:-}$there
runs=${NTKHPC_RUNS:-runs}
if [ -n "${NTKHPC_RUN:-}" ]; then runs=$(dirname "$NTKHPC_RUN"); else mkdir -p "$runs"; fi
if [ -n "${NTKHPC_DATA:-}" ]; then mkdir -p "$NTKHPC_DATA"; fi
for folder in "$PWD" "$bridge" "$runs" "$(dirname "${NTKHPC_TASK:-.}")" "$(dirname "${NTKHPC_OUT:-.}")" "${NTKHPC_DATA:-.}" "$HOME"; do
    [ -d "$folder" ] && binds=$binds,$(cd "$folder" && pwd -P)
done
# NTKHPC_* reach the program as they are, by the environment that Apptainer passes on: --env would expand them.
unset APPTAINER_CLEANENV SINGULARITY_CLEANENV APPTAINER_CONTAINALL SINGULARITY_CONTAINALL
status=0
NTKHPC_BRIDGE=$bridge APPTAINERENV_PREPEND_PATH=$bridge/bin APPTAINER_BIND=${binds#,} \
    apptainer --silent exec --pwd "$PWD" --env PYTHONPATH="$PWD" --env PYTHONSAFEPATH=1 "$image" \
    python3 -m ntkhpc "$@" || status=$?
exit "$status"
