#!/bin/sh
# What the container does: train, with the flags that it is given. Words before them change that:
#   evaluate FLAGS                                        judges controllers
#   torchrun ITS-FLAGS /opt/platoon/train_rl.py FLAGS     trains with several ranks
set -eu
trap 'exit 0' TERM INT  # told to stop before anything has begun

# Loops that were compiled and scenarios that were built with the image. They are used only from where they could also
# be written, and the image may be read-only.
mkdir -p /tmp/platoon
cp -r /opt/prepared/. /tmp/platoon/

case "${1:-}" in
  evaluate) shift; exec python /opt/platoon/evaluate.py "$@" ;;
  torchrun) ;;
  *) set -- python /opt/platoon/train_rl.py "$@" ;;
esac

# Which run is this container's own, for `platoon`: others may lie on the same volume.
run=
resume=
previous=
for word in "$@"; do
  case "$word" in
    --run-dir=*) run=${word#--run-dir=} ;;
    --resume) resume=yes ;;
  esac
  if [ "$previous" = --run-dir ]; then run=$word; fi
  previous=$word
done
if [ -z "$run" ]; then
  if [ -n "${PLATOON_RUN:-}" ]; then
    # A run to begin, or to go on with where it has begun: what a container needs that is started again.
    run=runs/$PLATOON_RUN
    if [ -e "$run/config.yaml" ]; then set -- "$@" --resume; fi
  elif [ -n "$resume" ]; then
    echo "platoon: --resume goes on with a run that --run-dir or PLATOON_RUN names; ls /data/runs" >&2
    exit 2
  else
    run=runs/$(date +%Y-%m-%d_%H-%M-%S)-$(cut -c 1-8 /proc/sys/kernel/random/uuid)  # others may begin in this second
  fi
  set -- "$@" --run-dir "$run"
fi
echo "$run" >/tmp/run

if [ "$1" != torchrun ]; then exec "$@"; fi

# torchrun ends with a code of failure when it is told to stop; so its ranks are told, and it ends as they do.
"$@" &
launcher=$!
trap 'platoon stop || kill -TERM "$launcher"' TERM INT
while kill -0 "$launcher" 2>/dev/null; do  # waiting ends with a signal as well
  code=0
  wait "$launcher" || code=$?
done
exit "$code"
