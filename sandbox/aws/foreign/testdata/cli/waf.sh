# Firewalls, protections and accelerators by the command line.
. "${0%/*}/account.sh"

subnets=$(aws ec2 describe-subnets --filters 'Name=tag:kubernetes.io/role/elb,Values=1' --query 'Subnets[].SubnetId')
balancer=$(aws elbv2 create-load-balancer --name web --subnets $subnets --query 'LoadBalancers[0].LoadBalancerArn')
acl=$(aws wafv2 create-web-acl --name acl --scope REGIONAL --default-action Allow={} --query Summary.ARN \
	--visibility-config SampledRequestsEnabled=false,CloudWatchMetricsEnabled=false,MetricName=acl)
want None aws wafv2 get-web-acl-for-resource --resource-arn "$balancer" --query WebACL
aws wafv2 associate-web-acl --web-acl-arn "$acl" --resource-arn "$balancer"
want "$acl" aws wafv2 get-web-acl-for-resource --resource-arn "$balancer" --query WebACL.ARN
aws wafv2 disassociate-web-acl --resource-arn "$balancer"
old=$(aws waf-regional create-web-acl --name old --metric-name old --default-action Type=ALLOW --change-token "$(aws waf-regional get-change-token --query ChangeToken)" --query WebACL.WebACLId)
aws waf-regional associate-web-acl --web-acl-id "$old" --resource-arn "$balancer"
want old aws waf-regional get-web-acl-for-resource --resource-arn "$balancer" --query WebACLSummary.Name

aws shield create-subscription
refused ResourceNotFoundException aws shield describe-protection --resource-arn "$balancer"
protection=$(aws shield create-protection --name web --resource-arn "$balancer" --query ProtectionId)
want web aws shield list-protections --query 'Protections[].Name'
aws shield delete-protection --protection-id "$protection"

accelerator=$(aws globalaccelerator create-accelerator --name web --query Accelerator.AcceleratorArn)
want 'DEPLOYED True' aws globalaccelerator describe-accelerator --accelerator-arn "$accelerator" --query 'Accelerator.[Status,Enabled]'
listener=$(aws globalaccelerator create-listener --accelerator-arn "$accelerator" --protocol TCP --port-ranges FromPort=80,ToPort=80 --query Listener.ListenerArn)
aws globalaccelerator create-endpoint-group --listener-arn "$listener" --endpoint-group-region eu-west-1 --endpoint-configurations EndpointId="$balancer",Weight=10 >/dev/null
want 10 aws globalaccelerator list-endpoint-groups --listener-arn "$listener" --query 'EndpointGroups[].EndpointDescriptions[].Weight'
refused AcceleratorNotDisabledException aws globalaccelerator delete-accelerator --accelerator-arn "$accelerator"
