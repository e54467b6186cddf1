# Security groups, instances, addresses and tags by the command line.
. "${0%/*}/account.sh"

vpc=$(aws ec2 describe-vpcs --query 'Vpcs[0].VpcId')
aws ec2 wait vpc-available --vpc-ids "$vpc"
subnet=$(aws ec2 describe-subnets --filters 'Name=availability-zone,Values=eu-west-1?' --query 'Subnets[0].SubnetId')
want 6 aws ec2 describe-subnets --page-size 5 --output json --query 'length(Subnets)'
refused InvalidSubnetID.NotFound aws ec2 describe-subnets --subnet-ids subnet-0123456789abcdef0
refused InvalidParameterValue aws ec2 describe-subnets --filters Name=no-such-filter,Values=x

refused DryRunOperation aws ec2 create-security-group --dry-run --group-name web --description web --vpc-id "$vpc"
group=$(aws ec2 create-security-group --group-name web --description web --vpc-id "$vpc" --query GroupId \
	--tag-specifications 'ResourceType=security-group,Tags=[{Key=team,Value=shop}]')
want 443 aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 443 --cidr 10.0.0.0/8 --query 'SecurityGroupRules[0].ToPort'
refused InvalidPermission.Duplicate aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 443 --cidr 10.0.0.0/8
aws ec2 authorize-security-group-ingress --group-id "$group" --ip-permissions 'IpProtocol=udp,FromPort=53,ToPort=53,IpRanges=[{CidrIp=0.0.0.0/0,Description=names}]' >/dev/null
want '10.0.0.0/8 0.0.0.0/0' aws ec2 describe-security-groups --filters 'Name=tag:team,Values=sh*' --query 'SecurityGroups[0].IpPermissions[].IpRanges[].CidrIp'
want 3 aws ec2 describe-security-group-rules --filters Name=group-id,Values="$group" --query 'length(SecurityGroupRules)'
aws ec2 revoke-security-group-ingress --group-id "$group" --protocol tcp --port 443 --cidr 10.0.0.0/8 >/dev/null
aws ec2 create-tags --resources "$group" "$subnet" --tags Key=stage,Value=test
want 'security-group subnet' aws ec2 describe-tags --filters Name=key,Values=stage --query 'sort(Tags[].ResourceType)'
aws ec2 delete-tags --resources "$group" "$subnet" --tags Key=stage
want 0 aws ec2 describe-tags --filters Name=key,Values=stage --query 'length(Tags)'

run() { aws ec2 run-instances --image-id ami-0123456789abcdef0 --instance-type "$1" --subnet-id "$subnet" --security-group-ids "$group" --client-token once --query 'Instances[0].InstanceId'; }
instance=$(run t3.micro)
want "$instance" run t3.micro
refused IdempotentParameterMismatch run m5.large
aws ec2 wait instance-running --instance-ids "$instance"
want "running $subnet $group" aws ec2 describe-instances --filters Name=instance-state-name,Values=running Name=instance-id,Values="$instance" \
	--query 'Reservations[0].Instances[0].[State.Name,SubnetId,SecurityGroups[0].GroupId]'
refused DependencyViolation aws ec2 delete-security-group --group-id "$group"
aws ec2 stop-instances --instance-ids "$instance" >/dev/null
aws ec2 wait instance-stopped --instance-ids "$instance"
aws ec2 terminate-instances --instance-ids "$instance" >/dev/null
aws ec2 wait instance-terminated --instance-ids "$instance"
aws ec2 delete-security-group --group-id "$group" >/dev/null

address=$(aws ec2 allocate-address --domain vpc --query AllocationId)
want vpc aws ec2 describe-addresses --allocation-ids "$address" --query 'Addresses[0].Domain'
aws ec2 release-address --allocation-id "$address"
refused InvalidAllocationID.NotFound aws ec2 release-address --allocation-id "$address"
