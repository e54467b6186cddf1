package aws_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// Calls per second of the endpoint, with the SDK client on the same machine: go test -bench Calls ./sandbox/aws
func BenchmarkCalls(b *testing.B) {
	emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 78}, WithoutTraffic: true, Unthrottled: true})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(emulator)
	b.Cleanup(func() {
		server.Close()
		if err := emulator.Close(); err != nil {
			b.Error(err)
		}
	})
	client := elb.NewFromConfig(sdk.Config{
		Region: "eu-west-1", BaseEndpoint: &server.URL, HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
		Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
	})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{}); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
