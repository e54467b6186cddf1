package catalog_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	rgt "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/shield"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/wafregional"
	"github.com/aws/aws-sdk-go-v2/service/wafv2"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/catalog"
)

var update = flag.Bool("update", false, "write operations.txt anew")

var clients = map[string]reflect.Type{
	"acm":                  reflect.TypeFor[*acm.Client](),
	"monitoring":           reflect.TypeFor[*cloudwatch.Client](),
	"ec2":                  reflect.TypeFor[*ec2.Client](),
	"elasticloadbalancing": reflect.TypeFor[*elb.Client](),
	"globalaccelerator":    reflect.TypeFor[*globalaccelerator.Client](),
	"tagging":              reflect.TypeFor[*rgt.Client](),
	"route53":              reflect.TypeFor[*route53.Client](),
	"shield":               reflect.TypeFor[*shield.Client](),
	"sts":                  reflect.TypeFor[*sts.Client](),
	"waf-regional":         reflect.TypeFor[*wafregional.Client](),
	"wafv2":                reflect.TypeFor[*wafv2.Client](),
}

func operationsOf(client reflect.Type) (names []string) {
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() == 4 && m.Type.In(2).Kind() == reflect.Pointer && m.Type.In(2).Elem().Name() == m.Name+"Input" {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestTheListIsThatOfTheSDK(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, service := range slices.Sorted(maps.Keys(clients)) {
		names := operationsOf(clients[service])
		fmt.Fprintf(&text, "%s: %s\n", service, strings.Join(names, " "))
		if !*update && !slices.Equal(names, catalog.Operations(service)) {
			t.Errorf("the operations of %s are out of date: run this test with -update", service)
		}
	}
	if *update {
		if err := os.WriteFile("operations.txt", []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !catalog.Has("ec2", "DescribeVolumes") || catalog.Has("ec2", "Fly") || catalog.Has("nosuch", "DescribeVolumes") {
		t.Error("operations are not found, or others are")
	}
}
