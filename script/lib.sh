# What the scripts share. It is sourced, never run.
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The folder for unfinished files. The script that fetches sets it and removes it.
work=

# say MESSAGE: prints a line for the person who waits.
say() { printf '%s\n' "$*" >&2; }

# matches FILE SHA256: checks that FILE exists and has that digest.
matches() { [ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status; }

# download KIND NAME VERSION SHA256: downloads a package into the current folder with the registry's own client.
# pip gets the digest too, because it runs a source package to read its metadata and must not run another one.
# npm's own retries would keep someone who is offline waiting for minutes, so these are few and short.
# Only the named package comes as source. What reads its metadata has pinned digests as well (build_tools).
download() {
  local kind=$1 name=$2 version=$3 digest=$4
  if [ "$kind" = npm ]; then
    npm pack --loglevel error --prefer-offline --fetch-retries 2 \
      --fetch-retry-mintimeout 1000 --fetch-retry-maxtimeout 5000 "$name@$version"
    return
  fi
  local form=(--only-binary) tools=
  if [ "$kind" = sdist ]; then
    form=(--no-build-isolation --no-binary)
    tools=$(build_tools)
  fi
  printf '%s==%s --hash=sha256:%s\n' "$name" "$version" "$digest" >requirements
  PYTHONPATH=$tools python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --retries 2 \
    "${form[@]}" "$name" --require-hashes --requirement requirements
}

# build_tools: unpacks what pip runs to read a source package, and prints its folder. Left to itself, pip would fetch
# the newest and run it.
build_tools() {
  local name version file digest wheel
  while read -r name version file digest; do
    wheel=$(package wheel "$name" "$version" "$file-py3-none-any.whl" "$digest")
    python3 -m zipfile -e "$wheel" "$work/build"
  done <<END
setuptools 80.9.0 setuptools-80.9.0 062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922
setuptools-scm 8.3.1 setuptools_scm-8.3.1 332ca0d43791b818b841213e76b1971b7711a960761c5bea5fc5cdb5196fbce3
wheel 0.45.1 wheel-0.45.1 708e7481cc80179af0e556bbf0cc00b8444c7321e2700b8d8580231d13017248
packaging 25.0 packaging-25.0 29572ef2b1f17581046b3a2227d5c611fb25ec70ca1ba8554b24b0e69331a484
END
  printf '%s\n' "$work/build"
}

# package KIND NAME VERSION FILE SHA256: puts FILE of the registry's package into .cache and prints its path.
# The package is fetched by name, and only its digest is trusted.
package() {
  local kind=$1 name=$2 version=$3 file=$4 digest=$5
  local cache=$root/.cache/packages here=$work/$4.d
  mkdir -p "$cache"
  if ! matches "$cache/$file" "$digest"; then
    mkdir "$here"
    say "fetching $name $version"
    if ! (cd "$here" && download "$kind" "$name" "$version" "$digest") >"$here/log" 2>&1 </dev/null; then
      say "$name $version could not be fetched: $(grep -m 1 -E '^(npm )?(ERR|err)' "$here/log" || tail -n 1 "$here/log")"
      return 1
    fi
    if ! matches "$here/$file" "$digest"; then
      say "$name $version is not the expected file (its SHA-256 differs); nothing was kept."
      return 1
    fi
    mv "$here/$file" "$cache/$file"
  fi
  printf '%s\n' "$cache/$file"
}

# unpack ARCHIVE DIR STRIP PATTERN...: unpacks files from ARCHIVE; they belong to the user who runs this.
unpack() {
  local archive=$1 dir=$2 strip=$3
  shift 3
  mkdir -p "$dir"
  tar -xzf "$archive" -C "$dir" --strip-components "$strip" --no-same-owner --wildcards "$@"
}

# fresh DIR STAMP: checks that DIR was made from exactly that.
fresh() { [ "$(cat "$1/.made-from" 2>/dev/null)" = "$2" ]; }

# replace DIR NEW STAMP: replaces DIR by NEW. The stamp is written to NEW before it moves, so an incomplete DIR
# counts as stale.
replace() {
  printf '%s\n' "$3" >"$2/.made-from"
  mkdir -p "$(dirname "$1")"
  rm -rf "$1"
  mv -T "$2" "$1"
}
