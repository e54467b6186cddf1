package ec2

import (
	"fmt"
	"regexp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// naming is how ids of one kind look and which codes speak of wrong ones. The spelling of the codes differs from kind to kind;
// those that AWS's list of error codes does not have are assumptions.
type naming struct {
	prefix, notFound, malformed string
	// what the resource is called in messages.
	what string
}

var (
	vpcID         = naming{"vpc-", "InvalidVpcID.NotFound", "InvalidVpcID.Malformed", "vpc ID"}
	subnetID      = naming{"subnet-", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed", "subnet ID"}
	groupID       = naming{"sg-", "InvalidGroup.NotFound", "InvalidGroupId.Malformed", "security group"}
	ruleID        = naming{"sgr-", "InvalidSecurityGroupRuleId.NotFound", "InvalidSecurityGroupRuleId.Malformed", "security group rule ID"}
	instanceID    = naming{"i-", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "instance ID"}
	interfaceID   = naming{"eni-", "InvalidNetworkInterfaceID.NotFound", "InvalidNetworkInterfaceId.Malformed", "networkInterface ID"}
	attachmentID  = naming{"eni-attach-", "InvalidAttachmentID.NotFound", "InvalidAttachmentID.Malformed", "attachment ID"}
	routeTableID  = naming{"rtb-", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.Malformed", "routeTable ID"}
	associationID = naming{"rtbassoc-", "InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed", "association ID"}
	gatewayID     = naming{"igw-", "InvalidInternetGatewayID.NotFound", "InvalidInternetGatewayId.Malformed", "internetGateway ID"}
	allocationID  = naming{"eipalloc-", "InvalidAllocationID.NotFound", "InvalidAllocationID.Malformed", "allocation ID"}
	prefixListID  = naming{"pl-", "InvalidPrefixListID.NotFound", "InvalidPrefixListId.Malformed", "prefix list ID"}
	imageID       = naming{"ami-", "InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "image ID"}
)

// digits end an id: 17 of them, or 8 in ids of old.
var digits = regexp.MustCompile(`^([0-9a-f]{8}|[0-9a-f]{17})$`)

// check refuses what cannot be an id.
func (n naming) check(id string) error {
	if len(id) <= len(n.prefix) || id[:len(n.prefix)] != n.prefix || !digits.MatchString(id[len(n.prefix):]) {
		return wire.Errorf(n.malformed, "Invalid id: \"%.60s\" (expecting \"%s...\")", id, n.prefix)
	}
	return nil
}

// missing is the error for an id that names nothing.
func (n naming) missing(id string) error {
	if err := n.check(id); err != nil {
		return err
	}
	return wire.Errorf(n.notFound, "The %s '%s' does not exist", n.what, id)
}

// find is the resource that a write of r names.
func find[T any](r eventual.Reader, n naming, t *table[T], id *string, parameter string) (value T, err error) {
	if deref(id) == "" {
		return value, missingParameter(parameter)
	}
	value, ok := t.found(r, *id)
	if !ok {
		return value, n.missing(*id)
	}
	return value, nil
}

func missingParameter(name string) error {
	return wire.Errorf("MissingParameter", "The request must contain the parameter %s", name)
}

func invalidValue(format string, args ...any) error {
	return wire.Errorf("InvalidParameterValue", format, args...)
}

func invalidCombination(format string, args ...any) error {
	return wire.Errorf("InvalidParameterCombination", format, args...)
}

// depends is the error for a resource that something still needs.
func depends(what, id, on string) error {
	return wire.Errorf("DependencyViolation", "The %s '%s' has dependencies and cannot be deleted: %s", what, id, on)
}

// exceeded is the error for a quota that is used up.
func exceeded(code, what string, limit int) error {
	return wire.Errorf(code, "The maximum number of %s, %d, has been reached.", what, limit)
}

func (s *Service) arn(kind, id string) string {
	return fmt.Sprintf("arn:aws:ec2:%s:%s:%s/%s", s.config.Region, s.config.AccountID, kind, id)
}
