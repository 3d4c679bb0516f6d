#!/usr/bin/env bash
# A real Apptainer on Debian 12, from Debian's own packages and the apt mirror this machine is configured with.
#
#   install_apptainer.sh                          installs it, or says that it is there
#   APPTAINER_VERSION=1.4.5-2 install_apptainer.sh   that version, if sid still has it
#
# Debian has apptainer in sid only, and two symbols of that build need glibc 2.38; Debian 12 has 2.36. So apptainer's two
# programs get a private copy of trixie's libc beside them. The machine's own libc, apt sources and pins stay as they are.
# For throw-away test machines, as root: it opens /dev/fuse to all, adds a subuid range and sets root's capabilities.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
fail() { printf 'install_apptainer: %s\n' "$@" >&2; exit 1; }

suite=${CODENAME_APPTAINER:-sid}
libc_suite=${CODENAME_LIBC:-trixie}
want=${APPTAINER_VERSION:-}
priv=/usr/lib/apptainer-private-libc
arch=$(dpkg --print-architecture)

[ "$(id -u)" = 0 ] || fail "installing packages needs root, and this is $(id -un)."
command -v apt-get >/dev/null || fail "there is no apt-get here." "Elsewhere, install Apptainer as its own documentation says."

post_steps() {
  # Unprivileged starts mount the image with squashfuse: /dev/fuse must be open
  # to all (udev does this on an ordinary host; a bare micro-VM has no udev).
  if [ -c /dev/fuse ]; then chmod 0666 /dev/fuse; fi
  # `apptainer build --fakeroot x.sif x.def` as root needs a subuid range.
  grep -qE '^(root|0):' /etc/subuid 2>/dev/null || apptainer config fakeroot --add root
  # Where root itself lacks a capability (micro-VM: no CAP_SYS_RESOURCE), a plain
  # `apptainer exec` as root stops with "Requesting capability set ...": give
  # root's containers exactly the capabilities that root has here.
  local prm full
  prm=$((16#$(awk '/^CapPrm/{print $2}' /proc/self/status)))
  full=$(( (1 << ($(cat /proc/sys/kernel/cap_last_cap) + 1)) - 1 ))
  if [ "$prm" != "$full" ]; then
    apptainer config global --set "root default capabilities" file
    apptainer -s capability add --user root \
      "$(capsh --decode="$(printf %x "$prm")" | sed 's/.*=//' | tr '[:lower:]' '[:upper:]')"
  fi
}

if command -v apptainer >/dev/null 2>&1 && apptainer --version >/dev/null 2>&1; then
  have=$(apptainer --version | awk '{print $NF}')
  if [ -z "$want" ] || [ "${want%%-*}" = "${have%%-*}" ]; then
    post_steps; echo "apptainer $have is already installed"; exit 0
  fi
fi

tmp=$(mktemp -d /var/tmp/apptainer-install.XXXXXX); trap 'rm -rf "$tmp"' EXIT; chmod 755 "$tmp"

# shellcheck disable=SC2016  # $(REPO_URI) is for apt-get
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | sort | uniq -c | sort -rn | awk 'NR==1{print $2}')
[ -n "$mirror" ] || fail "apt knows no Debian mirror." "Run apt-get update first."

mkdir -p "$tmp"/apt/{lists/partial,cache/archives/partial,parts} "$tmp/debs"
key=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' "$key" "$mirror" "$suite" "$key" "$mirror" "$libc_suite" >"$tmp/apt/src.list"
own=(-o Dir::Etc::sourcelist="$tmp/apt/src.list" -o Dir::Etc::sourceparts="$tmp/apt/parts"
     -o Dir::Etc::preferencesparts="$tmp/apt/parts" -o Dir::State::Lists="$tmp/apt/lists"
     -o Dir::Cache="$tmp/apt/cache" -o APT::Sandbox::User=root)
apt-get -qq "${own[@]}" update
(cd "$tmp/debs" && apt-get -qq "${own[@]}" download "apptainer${want:+=$want}" "libc6/$libc_suite")

apt-get -qq update
apt-get -qq install -y --no-install-recommends \
  patchelf ca-certificates squashfs-tools uidmap libseccomp2 libsqlite3-0 \
  squashfuse fuse-overlayfs fuse3 e2fsprogs libcap2-bin debootstrap >/dev/null

pkg=$tmp/pkg
dpkg-deb -R "$tmp"/debs/apptainer_*.deb "$pkg"
dpkg-deb -x "$tmp"/debs/libc6_*.deb "$tmp/libc"
mkdir -p "$pkg$priv" "$pkg/usr/share/doc/apptainer"
find "$tmp/libc" -path '*-linux-gnu/*' \( -name '*.so' -o -name '*.so.*' \) -not -path '*/gconv/*' -exec cp -a {} "$pkg$priv/" \;
cp "$tmp/libc/usr/share/doc/libc6/copyright" "$pkg/usr/share/doc/apptainer/copyright.private-libc"
ld=$(basename "$(find "$pkg$priv" -name "ld-linux*.so.*" -print -quit)")
while IFS= read -r f; do
  patchelf --set-interpreter "$priv/$ld" --force-rpath --set-rpath "$priv" "$f"
done < <(find "$pkg/usr" -type f \( -path '*/bin/apptainer' -o -path '*/apptainer/bin/starter' \))

ver=$(dpkg-deb -f "$tmp"/debs/apptainer_*.deb Version)+privlibc1
sed -i -e "s/^Version: .*/Version: $ver/" \
       -e 's/, libc6 ([^)]*)//' -e 's/containernetworking-plugins, //' \
       -e '/^\(Static-\)\?Built-Using:/,/^[^ ]/{/^\(Static-\)\?Built-Using:/d}' "$pkg/DEBIAN/control"
(cd "$pkg" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zgzip -z1 -b "$pkg" "$tmp/apptainer_${ver}_$arch.deb" >/dev/null
apt-get -qq install -y --no-install-recommends --allow-downgrades "$tmp/apptainer_${ver}_$arch.deb" >/dev/null
post_steps
apptainer --version
