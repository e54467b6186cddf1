package canary

import (
	"strings"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// albs names the AWS resources of each Ingress, where people and dashboards look for them. What cannot be read
// now stays as it was.
func (f facts) albs() (last *v1alpha1.ALBStatus, all []v1alpha1.ALBStatus) {
	for _, i := range f.Ingresses {
		var status v1alpha1.ALBStatus
		switch {
		case i.unseen() == "" && i.Evidence.LoadBalancer.ARN == "":
			continue
		case i.unseen() == "":
			status = v1alpha1.ALBStatus{Ingress: i.Name, LoadBalancer: resource(i.Evidence.LoadBalancer.ARN, 2)}
			if g, ok := i.Evidence.Group(f.strategy.CanaryService); ok {
				status.CanaryTargetGroup = resource(g.ARN, 1)
			}
			if g, ok := i.Evidence.Group(f.strategy.StableService); ok {
				status.StableTargetGroup = resource(g.ARN, 1)
			}
		default:
			old, ok := albOf(f.Rollout.Status.ALBs, i.Name)
			if !ok {
				continue
			}
			status = old
		}
		all = append(all, status)
		last = &all[len(all)-1]
	}
	return last.DeepCopy(), all
}

func albOf(all []v1alpha1.ALBStatus, ingress string) (v1alpha1.ALBStatus, bool) {
	for _, a := range all {
		if a.Ingress == ingress {
			return a, true
		}
	}
	return v1alpha1.ALBStatus{}, false
}

// resource takes an ARN apart: the name is the part after so many slashes, the full name all from there on.
func resource(arn string, slashes int) v1alpha1.AWSResourceRef {
	ref := v1alpha1.AWSResourceRef{ARN: arn}
	if parts := strings.Split(arn, "/"); len(parts) > slashes {
		ref.Name, ref.FullName = parts[slashes], strings.Join(parts[slashes:], "/")
	}
	return ref
}
