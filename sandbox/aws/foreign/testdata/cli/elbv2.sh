# A canary by the command line: from a load balancer to its deletion.
. "${0%/*}/account.sh"

vpc=$(aws ec2 describe-vpcs --query 'Vpcs[0].VpcId')
subnets=$(aws ec2 describe-subnets --filters 'Name=tag:kubernetes.io/role/elb,Values=1' Name=vpc-id,Values="$vpc" --query 'Subnets[].SubnetId')
balancer=$(aws elbv2 create-load-balancer --name web --subnets $subnets --tags Key=team,Value=shop --query 'LoadBalancers[0].LoadBalancerArn')
aws elbv2 wait load-balancer-available --load-balancer-arns "$balancer"
aws elbv2 wait load-balancer-exists --names web
want 'application internet-facing active' aws elbv2 describe-load-balancers --names web --query 'LoadBalancers[0].[Type,Scheme,State.Code]'
refused DuplicateLoadBalancerName aws elbv2 create-load-balancer --name web --scheme internal --subnets $subnets
refused LoadBalancerNotFound aws elbv2 describe-load-balancers --names nobody
aws elbv2 modify-load-balancer-attributes --load-balancer-arn "$balancer" --attributes Key=idle_timeout.timeout_seconds,Value=30 >/dev/null
want 30 aws elbv2 describe-load-balancer-attributes --load-balancer-arn "$balancer" --query "Attributes[?Key=='idle_timeout.timeout_seconds'].Value"

group() { aws elbv2 create-target-group --name "$1" --protocol HTTP --port 8080 --vpc-id "$vpc" --target-type ip --query 'TargetGroups[0].TargetGroupArn'; }
stable=$(group stable) canary=$(group canary)
# With --page-size these operations end after one page (it is their own parameter as well); the rest is fetched with the
# token that the part before ended with.
want canary aws elbv2 describe-target-groups --page-size 1 --query 'TargetGroups[].TargetGroupName'
token=$(aws elbv2 describe-target-groups --max-items 1 --output json --query NextToken | tr -d '"')
want stable aws elbv2 describe-target-groups --starting-token "$token" --query 'TargetGroups[].TargetGroupName'

listener=$(aws elbv2 create-listener --load-balancer-arn "$balancer" --protocol HTTP --port 80 --query 'Listeners[0].ListenerArn' \
	--default-actions '[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"}}]')
split() { echo "[{\"Type\": \"forward\", \"ForwardConfig\": {\"TargetGroups\": [{\"TargetGroupArn\": \"$stable\", \"Weight\": $1}, {\"TargetGroupArn\": \"$canary\", \"Weight\": $2}]}}]"; }
rule=$(aws elbv2 create-rule --query 'Rules[0].RuleArn' --cli-input-json "{\"ListenerArn\": \"$listener\", \"Priority\": 10, \"Actions\": $(split 100 0),
	\"Conditions\": [{\"Field\": \"host-header\", \"HostHeaderConfig\": {\"Values\": [\"*.example.com\"]}}]}")
want '90 10' aws elbv2 modify-rule --rule-arn "$rule" --actions "$(split 90 10)" --query 'Rules[0].Actions[0].ForwardConfig.TargetGroups[].Weight'
want '10 default' aws elbv2 describe-rules --listener-arn "$listener" --query 'Rules[].Priority'
aws elbv2 set-rule-priorities --rule-priorities RuleArn="$rule",Priority=20 >/dev/null
want '20 *.example.com' aws elbv2 describe-rules --rule-arns "$rule" --query 'Rules[0].[Priority,Conditions[0].Values[0]]'
refused PriorityInUse aws elbv2 create-rule --listener-arn "$listener" --priority 20 --actions "$(split 1 1)" --conditions Field=path-pattern,Values=/x
refused ResourceInUse aws elbv2 delete-target-group --target-group-arn "$canary"

address=$(aws ec2 describe-subnets --subnet-ids ${subnets%%[[:space:]]*} --query 'Subnets[0].CidrBlock')
aws elbv2 register-targets --target-group-arn "$stable" --targets Id="${address%.*}.99"
want initial aws elbv2 describe-target-health --target-group-arn "$stable" --query 'TargetHealthDescriptions[0].TargetHealth.State'
aws elbv2 add-tags --resource-arns "$stable" "$balancer" --tags Key=stage,Value=test
want '1 2' aws elbv2 describe-tags --resource-arns "$stable" "$balancer" --query 'sort(TagDescriptions[].length(Tags))'
want "$stable" aws resourcegroupstaggingapi get-resources --tag-filters Key=stage,Values=test --resource-type-filters elasticloadbalancing:targetgroup --query 'ResourceTagMappingList[].ResourceARN'

want 1 aws elbv2 describe-ssl-policies --names ELBSecurityPolicy-TLS13-1-2-2021-06 --query 'length(SslPolicies)'
want 50 aws elbv2 describe-account-limits --query "Limits[?Name=='application-load-balancers'].Max"
aws elbv2 delete-rule --rule-arn "$rule"
aws elbv2 delete-listener --listener-arn "$listener"
aws elbv2 deregister-targets --target-group-arn "$stable" --targets Id="${address%.*}.99"
aws elbv2 wait target-deregistered --target-group-arn "$stable" --targets Id="${address%.*}.99"
aws elbv2 delete-target-group --target-group-arn "$stable"
aws elbv2 delete-load-balancer --load-balancer-arn "$balancer"
aws elbv2 wait load-balancers-deleted --load-balancer-arns "$balancer"
