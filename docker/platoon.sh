#!/bin/sh
# Steer the run of this container: platoon status|health|pause|resume|scale|stop
set -eu
if [ $# = 0 ]; then set -- --help; fi
if [ ! -e /tmp/run ]; then
  echo "platoon: this container has begun no run" >&2
  exit 2
fi
command=$1
shift
exec python -m collectors "$command" --run-dir "$(cat /tmp/run)" "$@"
