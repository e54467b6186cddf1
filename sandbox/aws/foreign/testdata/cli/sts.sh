# Who may sign requests, as the command line shows it.
. "${0%/*}/account.sh"

want 123456789012 aws sts get-caller-identity --query Account
refused MissingAuthenticationToken aws elbv2 describe-load-balancers --no-sign-request
AWS_SECRET_ACCESS_KEY=wrong refused SignatureDoesNotMatch aws elbv2 describe-load-balancers

# A token for a cluster is the URL of a call, signed and not sent. Whoever is shown it sends it, with the name of the cluster.
token=$(command "$AWS" eks get-token --cluster-name shop --output json | tr -d '" ,' | sed -n 's/.*token:k8s-aws-v1\.\([^}]*\).*/\1/p')
want arn:aws:iam::123456789012:user/lockstep python3 -c '
import base64, re, sys, urllib.parse, urllib.request
url = urllib.parse.urlsplit(base64.urlsafe_b64decode(sys.argv[1] + "==").decode())
request = urllib.request.Request("%s/?%s" % (sys.argv[2], url.query), headers={"Host": url.netloc, "x-k8s-aws-id": "shop"})
print(re.search("<Arn>(.*)</Arn>", urllib.request.urlopen(request).read().decode())[1])' "$token" "$EMULATED_AWS"

read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN <<<"$(aws sts assume-role --role-arn arn:aws:iam::123456789012:role/reader \
	--role-session-name cli --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]')"
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
want arn:aws:sts::123456789012:assumed-role/reader/cli aws sts get-caller-identity --query Arn
refused UnauthorizedOperation aws ec2 create-security-group --group-name web --description web
refused AccessDenied aws elbv2 create-target-group --name web --target-type lambda
refused AccessDeniedException aws acm request-certificate --domain-name example.com
export AWS_SESSION_TOKEN=wrong
refused InvalidClientTokenId aws sts get-caller-identity
unset AWS_SESSION_TOKEN
export AWS_SECRET_ACCESS_KEY=wrong
refused InvalidClientTokenId aws sts get-caller-identity # a temporary key without its token
AWS_ACCESS_KEY_ID=$EXPIRED_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$EXPIRED_SECRET_ACCESS_KEY AWS_SESSION_TOKEN=$EXPIRED_SESSION_TOKEN \
	refused ExpiredToken aws elbv2 describe-load-balancers
