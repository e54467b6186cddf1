# A zone with a weighted record, and the certificate that it validates.
. "${0%/*}/account.sh"

zone=$(aws route53 create-hosted-zone --name example.com --caller-reference one --query HostedZone.Id)
share() { echo "{\"Action\": \"$1\", \"ResourceRecordSet\": {\"Name\": \"shop.example.com\", \"Type\": \"A\", \"SetIdentifier\": \"$2\", \"Weight\": $3, \"TTL\": 60, \"ResourceRecords\": [{\"Value\": \"192.0.2.1\"}]}}"; }
change=$(aws route53 change-resource-record-sets --hosted-zone-id "$zone" --change-batch "{\"Changes\": [$(share CREATE a 90), $(share CREATE b 10)]}" --query ChangeInfo.Id)
aws route53 wait resource-record-sets-changed --id "$change"
want INSYNC aws route53 get-change --id "$change" --query ChangeInfo.Status
want '90 10' aws route53 list-resource-record-sets --hosted-zone-id "$zone" --page-size 1 --query 'ResourceRecordSets[?SetIdentifier].Weight'
refused InvalidChangeBatch aws route53 change-resource-record-sets --hosted-zone-id "$zone" --change-batch "{\"Changes\": [$(share CREATE a 1)]}"
refused HostedZoneNotEmpty aws route53 delete-hosted-zone --id "$zone"

certificate=$(aws acm request-certificate --domain-name shop.example.com --validation-method DNS --query CertificateArn)
read -r name value <<<"$(aws acm describe-certificate --certificate-arn "$certificate" --query 'Certificate.DomainValidationOptions[0].ResourceRecord.[Name,Value]')"
aws route53 change-resource-record-sets --hosted-zone-id "$zone" --change-batch "{\"Changes\": [{\"Action\": \"UPSERT\", \"ResourceRecordSet\":
	{\"Name\": \"$name\", \"Type\": \"CNAME\", \"TTL\": 60, \"ResourceRecords\": [{\"Value\": \"$value\"}]}}]}" >/dev/null
aws acm wait certificate-validated --certificate-arn "$certificate"
imported=$(aws acm import-certificate --certificate "fileb://$CERTIFICATES/server.pem" --private-key "fileb://$CERTIFICATES/server-key.pem" --query CertificateArn)
want 'IMPORTED shop.example.com' aws acm describe-certificate --certificate-arn "$imported" --query 'Certificate.[Type,DomainName]'
want 'ISSUED' aws acm describe-certificate --certificate-arn "$certificate" --query Certificate.Status
aws acm delete-certificate --certificate-arn "$certificate"
refused ResourceNotFoundException aws acm describe-certificate --certificate-arn "$certificate"
refused NoSuchHostedZone aws route53 get-hosted-zone --id Z0000000000000
