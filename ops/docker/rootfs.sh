#!/usr/bin/env bash
# Puts together all that an image of avtryck holds: the program with the libraries that it loads, the rules,
# a user, names of its folders. No shell, no package manager.
#
#   ops/docker/rootfs.sh BINARY ROOT
#
# The program is linked dynamically. A static one of glibc would still load glibc's own libraries to look up the
# host of `database.url`, and would have to find the same version of them; there is no musl target without a download.
# shellcheck source=script/lib.sh
. "$(dirname "$0")/../../script/lib.sh"

if [ $# -ne 2 ]; then
  say "ops/docker/rootfs.sh BINARY ROOT would be right"
  exit 64
fi
binary=$1 to=$2
# A number, because Kubernetes' runAsNonRoot looks at nothing else; that of other images without a shell.
user=65532

install -D -m 755 "$binary" "$to/usr/bin/avtryck"
install -D -m 644 -t "$to/usr/share/avtryck" "$root"/assets/data/rules/*.json
install -D -m 644 "$root/ops/docker/avtryck.toml" "$to/etc/avtryck/avtryck.toml"
# The loader too, which ldd names without an arrow. /lib may be a link to /usr/lib: the place is kept as it is named.
ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do
  install -D -m 755 "$library" "$to$library"
done
printf 'avtryck:x:%s:%s::/var/lib/avtryck:/sbin/nologin\n' "$user" "$user" >"$to/etc/passwd"
printf 'avtryck:x:%s:\n' "$user" >"$to/etc/group"
printf 'hosts: files dns\n' >"$to/etc/nsswitch.conf"
# Where volumes are mounted: the spool, and geodata to read. COPY makes root the owner of all, and some clusters
# choose a user of their own: so anyone may make the spool's folder, which only its maker may enter.
install -d -m 1777 "$to/var/lib/avtryck"
install -d -m 755 "$to/usr/share/avtryck/geodata"
# What is there already is baked in; else a volume brings it.
for file in "$root"/geoip/data/*.mmdb; do
  [ ! -e "$file" ] || [ -n "${WITHOUT_GEODATA:-}" ] || install -m 644 -t "$to/usr/share/avtryck/geodata" "$file"
done
