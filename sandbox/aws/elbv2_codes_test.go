package aws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/foreign/witness"
)

// codesOfELBv2 are the error codes that AWS's model has for each operation.
var codesOfELBv2 = map[string]string{
	"CreateLoadBalancer": "AllocationIdNotFound AvailabilityZoneNotSupported DuplicateLoadBalancerName DuplicateTagKeys InvalidConfigurationRequest " +
		"InvalidScheme InvalidSecurityGroup InvalidSubnet OperationNotPermitted ResourceInUse SubnetNotFound TooManyLoadBalancers TooManyTags",
	"DeleteLoadBalancer":             "LoadBalancerNotFound OperationNotPermitted ResourceInUse",
	"DescribeLoadBalancers":          "LoadBalancerNotFound",
	"DescribeLoadBalancerAttributes": "LoadBalancerNotFound",
	"ModifyLoadBalancerAttributes":   "LoadBalancerNotFound InvalidConfigurationRequest",
	"SetSubnets": "AllocationIdNotFound AvailabilityZoneNotSupported CapacityReservationPending InvalidConfigurationRequest InvalidSubnet " +
		"LoadBalancerNotFound SubnetNotFound",
	"SetSecurityGroups":           "InvalidConfigurationRequest InvalidSecurityGroup LoadBalancerNotFound",
	"SetIpAddressType":            "InvalidConfigurationRequest InvalidSubnet LoadBalancerNotFound",
	"ModifyIpPools":               "LoadBalancerNotFound",
	"DescribeCapacityReservation": "LoadBalancerNotFound",
	"ModifyCapacityReservation": "CapacityDecreaseRequestLimitExceeded CapacityReservationPending CapacityUnitsLimitExceeded InsufficientCapacity " +
		"InvalidConfigurationRequest LoadBalancerNotFound OperationNotPermitted PriorRequestNotComplete",
	"CreateListener": "ALPNPolicyNotFound CertificateNotFound DuplicateListener IncompatibleProtocols InvalidConfigurationRequest " +
		"InvalidLoadBalancerAction LoadBalancerNotFound SSLPolicyNotFound TargetGroupAssociationLimit TargetGroupNotFound TooManyActions " +
		"TooManyCertificates TooManyListeners TooManyRegistrationsForTargetId TooManyTags TooManyTargets " +
		"TooManyUniqueTargetGroupsPerLoadBalancer TrustStoreNotFound TrustStoreNotReady UnsupportedProtocol",
	"ModifyListener": "ALPNPolicyNotFound CertificateNotFound DuplicateListener IncompatibleProtocols InvalidConfigurationRequest " +
		"InvalidLoadBalancerAction ListenerNotFound SSLPolicyNotFound TargetGroupAssociationLimit TargetGroupNotFound TooManyActions " +
		"TooManyCertificates TooManyListeners TooManyRegistrationsForTargetId TooManyTargets " +
		"TooManyUniqueTargetGroupsPerLoadBalancer TrustStoreNotFound TrustStoreNotReady UnsupportedProtocol",
	"DeleteListener":               "ListenerNotFound ResourceInUse",
	"DescribeListeners":            "ListenerNotFound LoadBalancerNotFound UnsupportedProtocol",
	"DescribeListenerAttributes":   "ListenerNotFound",
	"ModifyListenerAttributes":     "ListenerNotFound InvalidConfigurationRequest",
	"AddListenerCertificates":      "CertificateNotFound ListenerNotFound TooManyCertificates",
	"RemoveListenerCertificates":   "ListenerNotFound OperationNotPermitted",
	"DescribeListenerCertificates": "ListenerNotFound",
	"CreateRule": "IncompatibleProtocols InvalidConfigurationRequest InvalidLoadBalancerAction ListenerNotFound PriorityInUse " +
		"TargetGroupAssociationLimit TargetGroupNotFound TooManyActions TooManyRegistrationsForTargetId TooManyRules TooManyTags " +
		"TooManyTargetGroups TooManyTargets TooManyUniqueTargetGroupsPerLoadBalancer UnsupportedProtocol",
	"ModifyRule": "IncompatibleProtocols InvalidLoadBalancerAction OperationNotPermitted RuleNotFound TargetGroupAssociationLimit " +
		"TargetGroupNotFound TooManyActions TooManyRegistrationsForTargetId TooManyTargets TooManyUniqueTargetGroupsPerLoadBalancer UnsupportedProtocol",
	"DeleteRule":                    "OperationNotPermitted RuleNotFound",
	"SetRulePriorities":             "OperationNotPermitted RuleNotFound PriorityInUse",
	"DescribeRules":                 "ListenerNotFound RuleNotFound UnsupportedProtocol",
	"CreateTargetGroup":             "DuplicateTargetGroupName InvalidConfigurationRequest TooManyTags TooManyTargetGroups",
	"ModifyTargetGroup":             "InvalidConfigurationRequest TargetGroupNotFound",
	"ModifyTargetGroupAttributes":   "InvalidConfigurationRequest TargetGroupNotFound",
	"DescribeTargetGroupAttributes": "TargetGroupNotFound",
	"DeleteTargetGroup":             "ResourceInUse",
	"DescribeTargetGroups":          "LoadBalancerNotFound TargetGroupNotFound",
	"RegisterTargets":               "InvalidTarget TargetGroupNotFound TooManyRegistrationsForTargetId TooManyTargets",
	"DeregisterTargets":             "InvalidTarget TargetGroupNotFound",
	"DescribeTargetHealth":          "HealthUnavailable InvalidTarget TargetGroupNotFound",
	"AddTags":                       "DuplicateTagKeys ListenerNotFound LoadBalancerNotFound RuleNotFound TargetGroupNotFound TooManyTags TrustStoreNotFound",
	"RemoveTags":                    "ListenerNotFound LoadBalancerNotFound RuleNotFound TargetGroupNotFound TooManyTags TrustStoreNotFound",
	"DescribeTags":                  "ListenerNotFound LoadBalancerNotFound RuleNotFound TargetGroupNotFound TrustStoreNotFound",
	"DescribeSSLPolicies":           "SSLPolicyNotFound",

	"CreateTrustStore": "CaCertificatesBundleNotFound DuplicateTagKeys DuplicateTrustStoreName InvalidCaCertificatesBundle TooManyTags TooManyTrustStores",
	"ModifyTrustStore": "CaCertificatesBundleNotFound InvalidCaCertificatesBundle TrustStoreNotFound",
	"DeleteTrustStore": "TrustStoreInUse TrustStoreNotFound", "DescribeTrustStores": "TrustStoreNotFound",
	"DescribeTrustStoreAssociations":    "TrustStoreNotFound",
	"DescribeTrustStoreRevocations":     "RevocationIdNotFound TrustStoreNotFound",
	"AddTrustStoreRevocations":          "InvalidRevocationContent RevocationContentNotFound TooManyTrustStoreRevocationEntries TrustStoreNotFound",
	"RemoveTrustStoreRevocations":       "RevocationIdNotFound TrustStoreNotFound",
	"GetTrustStoreCaCertificatesBundle": "TrustStoreNotFound",
	"GetTrustStoreRevocationContent":    "RevocationIdNotFound TrustStoreNotFound",
	"GetResourcePolicy":                 "ResourceNotFound",
	"DeleteSharedTrustStoreAssociation": "AssociationNotFound DeleteAssociationSameAccount TrustStoreNotFound",
}

// statusOfELBv2 are the codes whose HTTP status is not 400.
var statusOfELBv2 = map[string]int{
	"HealthUnavailable": http.StatusInternalServerError, "InsufficientCapacity": http.StatusInternalServerError,
	"PriorRequestNotComplete": http.StatusTooManyRequests,
}

// provoked is one way to an error.
type provoked struct {
	operation, code string
	call            func() error
	// byFault says why nothing that a caller does leads to the error here: the call is right, and refused by a fault of kind error.
	byFault string
}

// refused makes a row of a call that is wrong.
func refused[I, O any](code string, call func(context.Context, *I, ...func(*elb.Options)) (*O, error), in *I) provoked {
	operation := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", in), "*elasticloadbalancingv2."), "Input")
	return provoked{operation: operation, code: code, call: func() error { _, err := call(ctx, in); return err }}
}

// faulted makes a row of a call that nothing is wrong with.
func faulted[I, O any](code, why string, call func(context.Context, *I, ...func(*elb.Options)) (*O, error), in *I) provoked {
	row := refused(code, call, in)
	row.byFault = why
	return row
}

// Every error code that AWS has for an operation is provoked, over HTTP with the SDK as it is. Most arise from what the call says. Those that
// AWS answers for reasons of its own are had by a fault, and the row says why. Each refused call is repeated by boto3, and one with each
// code by the AWS CLI.
func TestEveryErrorCodeOfELBv2(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	record := witness.New(t, witness.Boto3(t, w.account()), witness.CommandLine(t, w.account()))
	w.elb = elb.New(w.elb.Options(), func(o *elb.Options) { o.APIOptions = append(o.APIOptions, record.Watch) })
	scene := newScene(w)
	rows := scene.rows()
	left := map[string]map[string]bool{}
	for operation, codes := range codesOfELBv2 {
		left[operation] = map[string]bool{}
		for code := range strings.FieldsSeq(codes) {
			left[operation][code] = true
		}
	}
	natural := 0
	for _, row := range rows {
		if !left[row.operation][row.code] {
			t.Errorf("%s: %s is given twice, or is none of its codes", row.operation, row.code)
		}
		delete(left[row.operation], row.code)
		if row.byFault == "" {
			natural++
		}
		t.Run(row.operation+"/"+row.code, func(t *testing.T) {
			w := &world{T: t, emulator: w.emulator, endpoint: w.endpoint}
			if row.byFault != "" {
				if err := row.call(); err != nil {
					t.Errorf("without the fault the call is refused: %v", err)
				}
				defer w.fail(row.operation, row.code)()
			}
			err := row.call()
			w.wantCode(err, row.code)
			w.wantStatus(err, max(statusOfELBv2[row.code], http.StatusBadRequest))
			record.Check(t, row.operation, row.code)
		})
	}
	for _, operation := range slices.Sorted(maps.Keys(left)) {
		for _, code := range slices.Sorted(maps.Keys(left[operation])) {
			t.Errorf("%s: nothing provokes %s", operation, code)
		}
	}
	t.Logf("%d of %d arise from the call", natural, len(rows))
	for _, row := range []provoked{ // AWS's model lacks these
		refused("ValidationError", w.elb.DescribeLoadBalancers, &elb.DescribeLoadBalancersInput{PageSize: new(int32(401))}),
		refused("UnsupportedCertificate", w.elb.AddListenerCertificates, &elb.AddListenerCertificatesInput{
			ListenerArn: &scene.https, Certificates: []types.Certificate{{CertificateArn: &scene.pending}},
		}),
	} {
		w.wantCode(row.call(), row.code)
		record.Check(t, row.operation, row.code)
	}
}

// account is where foreign clients find the emulator.
func (w *world) account() witness.Account {
	return witness.Account{Endpoint: w.endpoint, Region: "eu-west-1", AccessKeyID: aws.DefaultAccessKeyID, SecretAccessKey: aws.DefaultSecretAccessKey}
}

// fail lets an operation fail with a code until what it returns is called.
func (w *world) fail(operation, code string) (end func()) {
	w.Helper()
	text, err := json.Marshal(fault.Fault{
		Kind: fault.Error, Operations: []string{"elasticloadbalancing:" + operation}, Code: code, Status: max(statusOfELBv2[code], http.StatusBadRequest),
	})
	if err != nil {
		w.Fatal(err)
	}
	var added struct{ ID string }
	w.admin("POST", "faults", string(text), http.StatusOK, &added)
	return func() { w.admin("DELETE", "faults/"+added.ID, "", http.StatusNoContent, nil) }
}
