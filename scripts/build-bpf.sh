#!/bin/sh
# Builds the kernel part: bpf/*.bpf.c -> dist/bpf/*.bpf.o (skipped when nothing changed).
# Needs clang and the headers of libbpf; users of the npm package get the objects prebuilt.
set -eu
cd "$(dirname "$0")/.."

mkdir -p dist/bpf
for source in bpf/*.bpf.c; do
  [ -e "$source" ] || exit 0
  object="dist/bpf/$(basename "$source" .c).o"
  newest=$(ls -t bpf/*.c bpf/*.h include/*.h "$object" 2>/dev/null | head -n 1)
  [ "$newest" = "$object" ] && continue
  if ! command -v clang >/dev/null; then
    echo "tcpcrypt: cannot build $source: clang is missing (apt-get install clang libbpf-dev)" >&2
    exit 1
  fi
  clang -O2 -g -Wall -Wextra -Werror -target bpf -I include -idirafter "/usr/include/$(uname -m)-linux-gnu" \
    -c "$source" -o "$object"
  echo "built $object"
done
