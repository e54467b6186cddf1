// Package deploy holds what is installed into a cluster.
package deploy

import "embed"

// CRDs holds the custom resource definitions as YAML files in folder crds.
//
//go:embed crds/*.yaml
var CRDs embed.FS

// IngressClass is the object that makes class alb ours.
//
//go:embed ingressclass.yaml
var IngressClass string
