// Package albcanary is the example that `lockstep demo` applies: a Rollout with canary steps over an
// Ingress of class alb, as the published ALB canary guides write it.
package albcanary

import _ "embed"

// Manifests is canary.yaml.
//
//go:embed canary.yaml
var Manifests string
