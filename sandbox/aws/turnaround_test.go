package aws_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// The SDK for Go loses the rest of an answer that it cannot read together with the header, if it comes at once. Nobody else waits.
func TestLongAnswersToTheSDKForGoDoNotComeAtOnce(t *testing.T) {
	t.Parallel()
	const sdkForGo = "aws-sdk-go-v2/1.47.5 ua/2.1 os/linux lang/go#1.26 api/ec2#1.310.2"
	for name, tt := range map[string]struct {
		operation, agent string
		long, waits      bool
	}{
		"long":          {"DescribeSubnets", sdkForGo, true, true},
		"short":         {"DescribeRegions", sdkForGo, false, false},
		"another agent": {"DescribeSubnets", "Boto3/1.35", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				emulator, err := aws.New(aws.Config{VPC: address.Mapping{Octet: 79}, WithoutTraffic: true, Anonymous: true})
				if err != nil {
					t.Fatal(err)
				}
				defer emulator.Close()
				r := httptest.NewRequest("POST", "/", strings.NewReader("Version=2016-11-15&Action="+tt.operation))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set("User-Agent", tt.agent)
				w, begun := httptest.NewRecorder(), time.Now()
				emulator.ServeHTTP(w, r)
				if w.Code != 200 || (w.Body.Len() > 3<<10) != tt.long {
					t.Fatalf("status %d with %d bytes: %.200s", w.Code, w.Body.Len(), w.Body)
				}
				if took := time.Since(begun); (took >= 5*time.Millisecond) != tt.waits {
					t.Errorf("an answer of %d bytes has taken %v", w.Body.Len(), took)
				}
			})
		})
	}
}
