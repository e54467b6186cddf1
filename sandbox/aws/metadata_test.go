package aws_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestInstancesFindTheirCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	machine, err := w.emulator.EC2().AddInstance("eu-west-1b", "node-1")
	if err != nil {
		t.Fatal(err)
	}
	client := imds.New(imds.Options{Endpoint: w.endpoint, EnableFallback: sdk.FalseTernary})
	if region := must(client.GetRegion(ctx, &imds.GetRegionInput{}))(w).Region; region != "eu-west-1" {
		t.Errorf("region %q", region)
	}
	document := must(client.GetInstanceIdentityDocument(ctx, &imds.GetInstanceIdentityDocumentInput{}))(w)
	if document.InstanceID != machine.ID || document.PrivateIP != machine.Address.String() || document.AvailabilityZone != "eu-west-1b" {
		t.Errorf("instance identity %+v", document.InstanceIdentityDocument)
	}
	read := func(path string) string {
		t.Helper()
		content := must(client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path}))(w).Content
		text, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	mac := read("mac")
	if vpc := read("network/interfaces/macs/" + mac + "/vpc-id"); vpc != w.vpc() {
		t.Errorf("VPC %q", vpc)
	}
	if names := read("network/interfaces/macs/"); names != mac+"/" {
		t.Errorf("interfaces %q", names)
	}
	who := must(sts.NewFromConfig(w.config(ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }))).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))(w)
	if *who.Arn != "arn:aws:sts::123456789012:assumed-role/lockstep-node/"+machine.ID {
		t.Errorf("the instance is %s", *who.Arn)
	}
	if _, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: "nothing"}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("metadata that is not there: %v", err)
	}
}

func TestTokensOfTheMetadataService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		why, method, path, name, value string
		status                         int
	}{
		{"without a token", "GET", "/latest/meta-data/mac", "", "", 401},
		{"with a wrong one", "GET", "/latest/meta-data/mac", "X-Aws-Ec2-Metadata-Token", "guess", 401},
		{"a token without lifetime", "PUT", "/latest/api/token", "", "", 400},
		{"a token for too long", "PUT", "/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21601", 400},
		{"a token by GET", "GET", "/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60", 405},
		{"a token", "PUT", "/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60", 200},
	} {
		request, err := http.NewRequest(tt.method, w.endpoint+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.name != "" {
			request.Header.Set(tt.name, tt.value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != tt.status || tt.status == 200 && response.Header.Get(tt.name) != tt.value {
			t.Errorf("%s: %s %v", tt.why, response.Status, response.Header)
		}
	}
}

func TestContainersFindTheirCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	who := must(sts.NewFromConfig(w.config(endpointcreds.New(w.endpoint+"/v2/credentials/shop"))).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}))(w)
	if !strings.HasPrefix(*who.Arn, "arn:aws:sts::123456789012:assumed-role/shop/") {
		t.Errorf("the container is %s", *who.Arn)
	}
}
