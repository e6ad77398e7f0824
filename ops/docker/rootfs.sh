#!/usr/bin/env bash
# Collects everything that an image of avtryck contains: the program with the libraries that it loads, the rules, a user,
# and its folders. There is no shell and no package manager.
#
#   ops/docker/rootfs.sh BINARY ROOT
#
# The program is linked dynamically. If it were linked to glibc statically, it would still load glibc's own libraries to
# look up the host in `database.url`, and would need exactly the same version of them. A musl target needs a download.
# shellcheck source=script/lib.sh
. "$(dirname "$0")/../../script/lib.sh"

if [ $# -ne 2 ]; then
  say "usage: ops/docker/rootfs.sh BINARY ROOT"
  exit 64
fi
binary=$1 to=$2
# A number, because Kubernetes' runAsNonRoot understands nothing else. Other images without a shell use the same.
user=65532

install -D -m 755 "$binary" "$to/usr/bin/avtryck"
install -D -m 644 -t "$to/usr/share/avtryck" "$root"/assets/data/rules/*.json
install -D -m 644 "$root/ops/docker/avtryck.toml" "$to/etc/avtryck/avtryck.toml"
# This includes the dynamic loader, which ldd prints without an arrow. /lib may be a link to /usr/lib, so each library
# goes to the path that ldd prints.
ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do
  install -D -m 755 "$library" "$to$library"
done
printf 'avtryck:x:%s:%s::/var/lib/avtryck:/sbin/nologin\n' "$user" "$user" >"$to/etc/passwd"
printf 'avtryck:x:%s:\n' "$user" >"$to/etc/group"
printf 'hosts: files dns\n' >"$to/etc/nsswitch.conf"
# What the certificate of a Postgres server is checked against where its URL names no authority.
authorities=/etc/ssl/certs/ca-certificates.crt
[ ! -e "$authorities" ] || install -D -m 644 "$authorities" "$to$authorities"
# Volumes are mounted here: the spool, and geodata to read. COPY makes root the owner of everything, and some clusters
# choose a user of their own. So anyone may create the spool's folder, which only its owner may enter.
install -d -m 1777 "$to/var/lib/avtryck"
install -d -m 755 "$to/usr/share/avtryck/geodata"
# Geodata that is there already becomes part of the image. Otherwise a volume provides it.
for file in "$root"/geoip/data/*.mmdb; do
  [ ! -e "$file" ] || [ -n "${WITHOUT_GEODATA:-}" ] || install -m 644 -t "$to/usr/share/avtryck/geodata" "$file"
done
