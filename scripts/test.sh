#!/bin/sh
# Lint and tests; scripts/setup.sh comes first ("npm test" runs both).
#
#   scripts/test.sh [path part or option of node --test]...
#   npm test -- lab                                only tests whose path contains "lab"
#   npm test -- --test-name-pattern='TC-36'        only tests with such a name
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"

TIMEOUT_MS=180000 # of one test file
cores=$(nproc)
concurrency=$((cores > 2 ? cores : 2)) # end-to-end tests mostly wait

options=
parts=
for argument; do
  case $argument in
    -*) options="$options
$argument" ;;
    *) parts="$parts
$argument" ;;
  esac
done

node_modules/.bin/biome check .

# From the sources, as the compiler does not remove the output of a test that is gone.
sources=$(find test -name '*.test.ts' | sort)
[ -z "$parts" ] || sources=$(echo "$sources" | grep -F -e "${parts#?}") || {
  echo "tcpcrypt: no test matches" >&2
  exit 1
}
IFS='
'
set -f
status=0
# shellcheck disable=SC2046,SC2086
node --test --test-reporter=spec --test-concurrency=$concurrency --test-timeout=$TIMEOUT_MS \
  $options $(echo "$sources" | sed -E 's#^(.*)\.ts$#build/\1.js#') || status=$?
set +f

# Network namespaces and cgroups of labs (src/lab/) whose process is gone. Its guard may still be at work.
remains() {
  cgroups=$(sed -nE 's#^[^ ]+ ([^ ]+) cgroup2 .*#\1#p' /proc/mounts | head -n 1)
  for path in /run/netns/tcpcrypt-lab-* "$cgroups"/tcpcrypt-lab-*; do
    [ -e "$path" ] || continue
    pid=${path##*/tcpcrypt-lab-}
    [ -e "/proc/${pid%%-*}" ] || echo "  $path"
  done
}
for _ in 1 2 3 4 5 6 7 8 9 10; do
  left=$(remains)
  [ -n "$left" ] || exit $status
  sleep 0.5
done
echo "tcpcrypt: the tests left behind:" >&2
echo "$left" >&2
exit 1
