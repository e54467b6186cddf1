# Who may sign requests, as the command line shows it.
. "${0%/*}/account.sh"

want 123456789012 aws sts get-caller-identity --query Account
read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN <<<"$(aws sts assume-role --role-arn arn:aws:iam::123456789012:role/reader \
	--role-session-name cli --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]')"
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
want arn:aws:sts::123456789012:assumed-role/reader/cli aws sts get-caller-identity --query Arn
refused UnauthorizedOperation aws ec2 create-security-group --group-name web --description web
refused AccessDenied aws elbv2 create-target-group --name web --target-type lambda
refused AccessDeniedException aws acm request-certificate --domain-name example.com
export AWS_SESSION_TOKEN=wrong
refused InvalidClientTokenId aws sts get-caller-identity
