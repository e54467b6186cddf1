package aws_test

import (
	"fmt"
	"net/http/httptest"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// An account for a test: New, an HTTP server, and any AWS client that is pointed at it.
func ExampleNew() {
	emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 7}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer emulator.Close()
	server := httptest.NewServer(emulator)
	defer server.Close()

	client := ec2.NewFromConfig(sdk.Config{
		Region: "eu-west-1", BaseEndpoint: &server.URL,
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	})
	zones, err := client.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, z := range zones.AvailabilityZones {
		fmt.Println(*z.ZoneName, *z.ZoneId)
	}
	// Output:
	// eu-west-1a euw1-az1
	// eu-west-1b euw1-az2
	// eu-west-1c euw1-az3
}
