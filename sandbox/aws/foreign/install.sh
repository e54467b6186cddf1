#!/bin/sh
# Installs the AWS CLI and boto3 from Debian where they are missing, for tests that drive the emulated AWS with them. Where that
# cannot be it says so and why, and ends all the same: the tests of what is missing are skipped. It takes four minutes at most.
set -u

missing=
[ -x /usr/bin/aws ] || missing="$missing awscli"
/usr/bin/python3 -c 'import boto3' 2>/dev/null || missing="$missing python3-boto3"
[ -n "$missing" ] || exit 0

give_up() {
	echo "SKIPPED: tests with$missing of Debian, which cannot be installed: $1" >&2
	exit 0
}
command -v apt-get >/dev/null || give_up "there is no apt-get here"
[ "$(id -u)" = 0 ] || give_up "that needs root (sudo apt-get install$missing)"

export DEBIAN_FRONTEND=noninteractive
quick="-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o DPkg::Lock::Timeout=60"
echo "installing$missing" >&2
install() { timeout -k 5 90 apt-get $quick install -y --no-install-recommends $missing >/dev/null 2>&1; }
install && exit 0
timeout -k 5 60 apt-get $quick update >/dev/null 2>&1 || give_up "apt-get update fails (no network?)"
install || give_up "apt-get install$missing fails"
