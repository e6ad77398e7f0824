#!/usr/bin/env bash
# Carries out the steps of the Dockerfile: installs, fetches, builds, and puts the image's files into ROOT.
#
#   ops/docker/build.sh ROOT
# shellcheck source=script/lib.sh
. "$(dirname "$0")/../../script/lib.sh"

cd "$root"
script/setup image
script/fetch rules
script/fetch --optional geodata
cargo build --release --locked
ops/docker/rootfs.sh target/release/avtryck "$1"
