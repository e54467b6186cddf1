// Package model holds what load balancers should be and what AWS says they are, as plain values.
//
// A translator (ingress, later service and gateway) turns Kubernetes objects into a Stack: the desired
// state of one Ingress group. The cloud room gives an Observed: what AWS has for the same stack. The plan
// package compares the two. The package knows neither Kubernetes nor the AWS SDK; names and values are
// those of the ELBv2 and EC2 APIs.
//
// Inside a Stack resources refer to each other by ResourceID (the value of the tracking tag
// ingress.k8s.aws/resource), since ARNs exist only after creation.
package model
