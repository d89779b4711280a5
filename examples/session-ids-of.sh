#!/bin/sh
# Prints the session IDs of the connections of running programs, a line for each: program, peer, session ID.
#
#     sh examples/session-ids-of.sh redis-server nginx
#
# Exit status: 0 when there is at least one, 1 otherwise, 2 usage.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 PROGRAM..." >&2; exit 2; }
status=1
for name; do
  for pid in $(pgrep -x "$name"); do
    # "FD  LOCAL  REMOTE  SESSION-ID", or "(plain)" and "(negotiating)" in its place
    connections=$(tcpcrypt session-id --pid "$pid") || continue
    status=0
    echo "$connections" | while read -r _ _ remote id; do echo "$name $remote $id"; done
  done
done
exit $status
