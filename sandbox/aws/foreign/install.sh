#!/bin/sh
# Installs the AWS CLI and boto3 from Debian where they are missing. It prints nothing when both are there, and
# says why on its last line, with status 1, when it cannot install them. It never takes longer than two minutes and a half.
set -u

missing=
[ -x /usr/bin/aws ] || missing="$missing awscli"
/usr/bin/python3 -c 'import boto3' 2>/dev/null || missing="$missing python3-boto3"
[ -n "$missing" ] || exit 0

give_up() {
	echo "cannot install$missing: $1"
	exit 1
}
command -v apt-get >/dev/null || give_up "there is no apt-get here"
[ "$(id -u)" = 0 ] || give_up "that needs root: sudo apt-get install$missing"

export DEBIAN_FRONTEND=noninteractive
quick="-o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o DPkg::Lock::Timeout=60"
install() { timeout -k 5 100 apt-get $quick -qq install -y --no-install-recommends $missing >/dev/null 2>&1; }
install && exit 0
timeout -k 5 45 apt-get $quick -qq update >/dev/null 2>&1 || give_up "apt-get update fails (no network?)"
install || give_up "apt-get install fails: try it by hand"
