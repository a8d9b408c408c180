#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that pip cannot replace, only those that are missing, and says why.
# Usage: PYTHON=python3 scripts/system_packages.sh build|rendering
set -euo pipefail

python=${PYTHON:-python3}

fail() {
  echo "error: $*" >&2
  exit 1
}

# install REASON PACKAGE...
install() {
  local reason=$1
  shift
  echo "[setup] apt-get install $*: $reason"
  command -v apt-get > /dev/null || fail "there is no apt-get here; install by hand: $*. $reason"
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || fail "neither root nor sudo; ask an administrator for: apt-get install $*"
    sudo=(sudo)
  fi
  # only refreshed when needed: a machine's own lists are usually good enough
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null 2>&1 \
    || { "${sudo[@]}" apt-get update -qq \
         && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" > /dev/null; } \
    || fail "apt-get could not install $*; install them by hand. $reason"
}

build_packages() {
  command -v "$python" > /dev/null || fail "$python: not found; set PYTHON=/path/to/python3.11"
  "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    || fail "$("$python" --version) is not supported, Python 3.11 to 3.13 is: set PYTHON=/path/to/python3.11"
  [ "$(uname -sm)" = 'Linux x86_64' ] \
    || fail "there are no wheels of ROS 2 for $(uname -sm), only for Linux x86_64; use an installed ROS 2"
  command -v c++ > /dev/null || install 'armor_msgs is compiled.' g++
  "$python" -c 'import ensurepip, venv' 2> /dev/null || install 'a virtual environment is made.' python3-venv
  "$python" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(os.path.join(s.get_path("include"), "Python.h")))' \
    || install "armor_msgs is compiled against Python's headers." python3-dev
}

draw_something() {
  "$python" -c '
from armor_ros.simulation.engine import mujoco
mujoco.GLContext(16, 16).make_current()'
}

rendering_packages() {
  draw_something > /dev/null 2>&1 && return
  install 'the simulated cameras draw with OpenGL, in software.' libosmesa6
  draw_something || fail 'drawing with OpenGL still fails, see above.'
}

case ${1:-} in
  build) build_packages ;;
  rendering) rendering_packages ;;
  *) fail "usage: $0 build|rendering" ;;
esac
