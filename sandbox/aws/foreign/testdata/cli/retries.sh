# A call that is throttled is tried again: --debug tells of it. Credentials come from where programs on machines find them.
. "${0%/*}/account.sh"

admin() { # METHOD PATH [DOCUMENT]: asks the emulator for something that AWS has no API for
	/usr/bin/env python3 -c 'import sys, urllib.request as u
method, url, body = sys.argv[1:]
print(u.urlopen(u.Request(url, body.encode() or None, method=method)).read().decode())' "$1" "$EMULATED_AWS/_lockstep/$2" "${3-}"
}
export AWS_MAX_ATTEMPTS=3 AWS_RETRY_MODE=standard
admin POST faults '{"kind": "throttle", "operations": ["elasticloadbalancing:*"], "every": 2}' >/dev/null
tried=0
for _ in 1 2; do
	told=$(aws elbv2 describe-load-balancers --debug 2>&1)
	case $told in *"Retry needed, retrying request after delay"*) tried=$((tried + 1)) ;; esac
done
[ $tried = 1 ] || { echo "$tried of 2 calls were tried again, want 1"; exit 1; }
admin DELETE faults >/dev/null
admin POST faults '{"kind": "throttle"}' >/dev/null
refused Throttling aws elbv2 describe-load-balancers
refused RequestLimitExceeded aws ec2 describe-vpcs
admin DELETE faults >/dev/null

unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
export AWS_EC2_METADATA_SERVICE_ENDPOINT=$EMULATED_AWS/ # older releases need the slash
case $(aws sts get-caller-identity --query Arn) in *:assumed-role/lockstep-node/i-*) ;; *) echo "the machine's role is not used"; exit 1 ;; esac
export AWS_CONTAINER_CREDENTIALS_FULL_URI=$EMULATED_AWS/v2/credentials/deployer
case $(aws sts get-caller-identity --query Arn) in *:assumed-role/deployer/*) ;; *) echo "the container's role is not used"; exit 1 ;; esac
