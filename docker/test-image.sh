#!/usr/bin/env bash
# Build the image and try it: with Docker where an engine answers; otherwise, as root on Debian, with buildah and podman,
# in a storage of their own under build/image, which grows with each build: `make clean` removes it. Arguments are
# pytest's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=platoon:test  # not the one that people run
place=$PWD/build/image

# The address of the index that has torch for CPUs, where pip does not find that by itself.
arguments=()
if [ -n "${TORCH_INDEX:-}" ]; then arguments+=(--build-arg "TORCH_INDEX=$TORCH_INDEX"); fi

main() {
  if docker info >/dev/null 2>&1; then
    engine=docker
    DOCKER_BUILDKIT=1 docker build --file docker/Dockerfile --tag "$image" "${arguments[@]}" .
  elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    engine=podman
    install_tools
    configure
    make_base
    build
  else
    echo "test-image: no Docker engine answers, and buildah and podman need root on Debian: start Docker, or use sudo" >&2
    exit 1
  fi
  exec .venv/bin/python -m pytest docker --engine "$engine" --image "$image" --timeout 600 "$@"
}

install_tools() {
  local tools=(buildah podman runc mmdebstrap catatonit) tool missing=
  for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || missing=yes; done
  if [ -z "$missing" ]; then return; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null
}

# Apart from what else podman does on this machine. crun, which is Debian's default, refuses control groups of version 1
# and 2 side by side; without systemd nobody else makes groups; locks in shared memory would stay there; limits must not
# be above what this process may have.
configure() {
  mkdir -p "$place"
  cat >"$place/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$place/storage"
runroot = "$place/run"
END
  cat >"$place/containers.conf" <<END
[containers]
netns = "host"
default_ulimits = ["nofile=$(at_most nofile 65536)", "nproc=$(at_most nproc 4096)"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
lock_type = "file"
events_logger = "file"
END
  export CONTAINERS_STORAGE_CONF=$place/storage.conf CONTAINERS_CONF=$place/containers.conf
}

# at_most KIND NUMBER: a soft and a hard limit that a container may be given.
at_most() {
  local limit
  limit=$(python3 -c "import resource as r; print(r.getrlimit(r.RLIMIT_${1^^})[1])")
  if [ "$limit" -lt 0 ] || [ "$limit" -gt "$2" ]; then limit=$2; fi
  echo "$limit:$limit"
}

# What the Dockerfile begins with, from Debian's packages; without manuals, as there.
make_base() {
  podman image exists debian:bookworm-slim && return
  local options=() folder
  for folder in doc man locale info; do options+=("--dpkgopt=path-exclude=/usr/share/$folder/*"); done
  echo "Making a base of Debian's packages, two minutes."
  mmdebstrap --quiet --variant=minbase "${options[@]}" bookworm "$place/base.tar"
  podman import --quiet "$place/base.tar" debian:bookworm-slim
  rm "$place/base.tar"
}

# With this machine's certificates, its settings of pip and what these point to, while it is built only.
build() {
  local mounts=() folder
  {
    echo "[global]"
    python3 -m pip config list | sed -E "s/^[^.]*\.//; s/^\.//; s/='/ = /; s/'\$//" | grep -v "^cert = " | awk -F ' = ' '!seen[$1]++'
    echo "cert = /etc/build-certificates.crt"
  } >"$place/pip.conf"
  mounts+=(--volume "$place/pip.conf:/etc/pip.conf:ro")
  mounts+=(--volume /etc/ssl/certs/ca-certificates.crt:/etc/build-certificates.crt:ro)
  # An index in a folder has its files beside it.
  for folder in $(sed -E 's/^[^=]* = //; s#file://(\S+)/simple#\1#g' "$place/pip.conf" | tr ' ' '\n' | grep '^/' | sort -u); do
    if [ -e "$folder" ]; then mounts+=(--volume "$folder:$folder:ro"); fi
  done
  buildah bud --isolation chroot --network host --pull-never --layers --format docker "${mounts[@]}" \
    "${arguments[@]}" --file docker/Dockerfile --tag "$image" .
}

main "$@"
