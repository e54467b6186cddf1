package aws

import (
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/imds"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

// nodeRole is the role of instances.
const nodeRole = "lockstep-node"

func (e *Emulator) newMetadata() *imds.Service {
	return imds.New(imds.Config{
		Instance: e.firstInstance, Role: nodeRole,
		Issue: func(role string, lifetime time.Duration) (imds.Credentials, error) {
			key, err := e.sts.Issue(role, e.firstInstance().ID, lifetime)
			return imds.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret, Token: key.Token, Expires: key.Expires}, err
		},
	})
}

// firstInstance is the instance whose metadata is told: the running one with the smallest id, or one that
// is not there, as long as there are none.
func (e *Emulator) firstInstance() imds.Instance {
	i := imds.Instance{
		ID: "i-00000000000000000", Type: "m5.large", Image: "ami-0123456789abcdef0", Region: e.config.Region, Zone: e.config.Zones[0],
		Account: e.config.AccountID, MAC: "02:00:00:00:00:00", CIDR: e.config.VPC.CIDR().String(),
	}
	i.VPC = e.ec2.VPC()
	all, err := e.ec2.DescribeInstances(eventual.Reader{}, &ec2.DescribeInstancesInput{})
	if err != nil {
		return i
	}
	var first *types.Instance
	for _, r := range all.Reservations {
		for _, one := range r.Instances {
			if one.State.Name == types.InstanceStateNameRunning && len(one.NetworkInterfaces) > 0 && (first == nil || *one.InstanceId < *first.InstanceId) {
				first = &one
			}
		}
	}
	if first == nil {
		return i
	}
	face := first.NetworkInterfaces[0]
	i.ID, i.Type, i.Image, i.Zone = *first.InstanceId, string(first.InstanceType), *first.ImageId, *first.Placement.AvailabilityZone
	i.Address, i.Name, i.Launched = *first.PrivateIpAddress, *first.PrivateDnsName, *first.LaunchTime
	i.MAC, i.Interface, i.VPC, i.Subnet = *face.MacAddress, *face.NetworkInterfaceId, *face.VpcId, *face.SubnetId
	for _, g := range face.Groups {
		i.SecurityGroups = append(i.SecurityGroups, *g.GroupId)
	}
	return i
}

// serveMetadata answers a question to the metadata service and records it.
func (e *Emulator) serveMetadata(w http.ResponseWriter, r *http.Request) {
	record := journal.Record{Received: time.Now(), Service: "imds", Operation: "Get", Parameters: map[string]string{"path": r.URL.Path}, UserAgent: r.UserAgent()}
	if r.Method != http.MethodGet {
		record.Operation = "PutToken"
	}
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	e.metadata.ServeHTTP(seen, r)
	record.Status, record.Duration = seen.status, time.Since(record.Received)
	e.journal.Add(record)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
