#!/bin/sh
# Builds the kernel part: bpf/*.bpf.c -> dist/bpf/*.bpf.o, and what only the tests load: bpf/test/*.bpf.c ->
# build/bpf/*.bpf.o. Skipped where nothing changed.
# Needs clang and the headers of libbpf; users of the npm package get the objects prebuilt.
set -eu
cd "$(dirname "$0")/.."

build() { # source, directory of the object
  object="$2/$(basename "$1" .c).o"
  mkdir -p "$2"
  newest=$(ls -t "$1" bpf/*.h include/*.h scripts/build-bpf.sh "$object" 2>/dev/null | head -n 1)
  [ "$newest" = "$object" ] && return
  if ! command -v clang >/dev/null; then
    echo "tcpcrypt: cannot build $1: clang is missing (apt-get install clang libbpf-dev)" >&2
    exit 1
  fi
  # To a temporary name first: an interrupted build must not look finished. -g makes the type information (BTF) that
  # the kernel wants; the prefix map keeps this machine's paths out of it.
  clang -O2 -g "-fdebug-prefix-map=$PWD=." -Wall -Wextra -Werror -target bpf \
    -I include -idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$1" -o "$object.tmp"
  mv "$object.tmp" "$object"
  echo "built $object"
}

for source in bpf/*.bpf.c; do build "$source" dist/bpf; done
for source in bpf/test/*.bpf.c; do build "$source" build/bpf; done
