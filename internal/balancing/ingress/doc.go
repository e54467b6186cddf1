// Package ingress says which load balancer an Ingress asks for: it translates an Ingress, its class and
// the Services that it names into a model.Stack.
//
// It performs nothing and knows no client and no clock. What only AWS can tell (subnets, security groups
// and target groups by name) is named by NeededLookups first and handed to Translate as Resolved:
//
//	claim, params, err := ingress.Claimed(settings, objects) // is this Ingress ours?
//	needed := ingress.NeededLookups(objects, existing)
//	stack, events, err := ingress.Translate(settings, objects, resolved)
//
// An error is the user's to fix: it names the object, the field, its value and a remedy, and means that
// nothing may be changed. Start reading at Translate.
package ingress
