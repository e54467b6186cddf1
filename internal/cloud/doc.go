// Package cloud is the only door to AWS: its clients, the budget of calls, the mirror of what AWS has,
// and the evidence that is read from it. The rest of Lockstep speaks to it in the values of
// balancing/model and evidence; no other package of the controllers imports a client of the AWS SDK.
//
// The one idea: every call takes one path, and what AWS answers ends in one place.
//
//	method -> client of its lane -> SDK (retries reads only) -> budget -> AWS
//	                                                                |
//	             subscribers <- mirror <- write-through, or read  <-+
//
// A mutation never waits: without a token it returns a *BusyError at once. A read may wait for a token,
// a bounded time, on behalf of somebody who waits. What we write is in the mirror when the method returns;
// what is evidence comes only from reads that AWS began to answer after the write had returned.
//
// Start reading at Cloud (cloud.go), then traffic.go (how a weight is written and seen back) and
// evidence.go. The arithmetic of tokens is in package budget, the ordering of reads and writes in
// package mirror; both know neither AWS's SDK nor the network.
//
//	aws, err := cloud.New(ctx, cloud.Config{ClusterName: "shop", VPCID: "vpc-1", Region: "eu-west-1"})
//	observed, err := aws.Stack(ctx, "default/web")
//	err = aws.ModifyRule(ctx, ruleARN, actions, nil)
package cloud
