package cloud

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
)

// metadataWithin bounds what instance metadata may take, so that a process that runs elsewhere starts with a clear error.
const metadataWithin = 10 * time.Second

// findVPC says which VPC the cluster is in: the configured one, the only one with the configured tags, that of the instance that this
// process runs on, or that of its node where the node is named by its instance. It is the order of the load balancer controller
// whose place is taken.
func (c *Cloud) findVPC(ctx context.Context, metadata *imds.Client) (string, error) {
	switch {
	case c.config.VPCID != "":
		return c.config.VPCID, nil
	case len(c.config.VPCTags) > 0:
		return c.vpcByTags(ctx)
	}
	id, err := vpcByMetadata(ctx, metadata)
	if err == nil {
		return id, nil
	}
	if strings.HasPrefix(c.config.NodeName, "i-") {
		return c.vpcOfInstance(ctx, c.config.NodeName)
	}
	return "", fmt.Errorf("cannot find the VPC of cluster %s (set --aws-vpc-id or --aws-vpc-tags): %w", c.config.ClusterName, err)
}

func (c *Cloud) vpcByTags(ctx context.Context) (string, error) {
	in := &ec2.DescribeVpcsInput{}
	for _, key := range slices.Sorted(maps.Keys(c.config.VPCTags)) {
		in.Filters = append(in.Filters, filter("tag:"+key, c.config.VPCTags[key]))
	}
	out, _, err := readEC2(ctx, c, budget.Traffic, "", (*ec2.Client).DescribeVpcs, in)
	if err != nil {
		return "", fmt.Errorf("cannot find the VPC with tags %v: %w", c.config.VPCTags, err)
	}
	if n := len(out.Vpcs); n != 1 {
		return "", fmt.Errorf("cannot find the VPC: %d VPCs have the tags %v of --aws-vpc-tags, where one should", n, c.config.VPCTags)
	}
	return aws.ToString(out.Vpcs[0].VpcId), nil
}

func vpcByMetadata(ctx context.Context, client *imds.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataWithin)
	defer cancel()
	mac, err := readMetadata(ctx, client, "mac")
	if err != nil {
		return "", err
	}
	return readMetadata(ctx, client, "network/interfaces/macs/"+mac+"/vpc-id")
}

func regionByMetadata(ctx context.Context, client *imds.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataWithin)
	defer cancel()
	out, err := client.GetRegion(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("cannot read it from instance metadata: %w", err)
	}
	return out.Region, nil
}

func readMetadata(ctx context.Context, client *imds.Client, path string) (string, error) {
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", fmt.Errorf("cannot read %s from instance metadata: %w", path, err)
	}
	defer out.Content.Close()
	content, err := io.ReadAll(out.Content)
	if err != nil {
		return "", fmt.Errorf("cannot read %s from instance metadata: %w", path, err)
	}
	return strings.TrimSpace(string(content)), nil
}

func (c *Cloud) vpcOfInstance(ctx context.Context, id string) (string, error) {
	out, _, err := readEC2(ctx, c, budget.Traffic, id, (*ec2.Client).DescribeInstances, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return "", fmt.Errorf("cannot find the VPC by instance %s: %w", id, err)
	}
	for _, reservation := range out.Reservations {
		if at := slices.IndexFunc(reservation.Instances, func(i types.Instance) bool { return i.VpcId != nil }); at >= 0 {
			return *reservation.Instances[at].VpcId, nil
		}
	}
	return "", fmt.Errorf("cannot find the VPC by instance %s: it is in none", id)
}
