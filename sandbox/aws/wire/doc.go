// Package wire translates between the Go types of the AWS SDK and the two XML protocols of AWS that
// the emulator speaks: "query" (ELBv2, STS) and "EC2 query".
//
// There is no code per operation. The names on the wire follow from the names of the Go fields by a few
// rules per protocol; where EC2 departs from them, a table made from the SDK's own serializers
// (zz_generated.ec2names.go) says so. An operation is therefore added to the emulator by writing a
// function from the SDK's input struct to its output struct.
//
//	input := new(elasticloadbalancingv2.CreateRuleInput)
//	unknown, err := wire.ELBv2.Decode(form, input)
//	...
//	body, err := wire.ELBv2.Answer("CreateRule", requestID, output)
//
// It never looks at the meaning of a value: what is required, in range or known is for the handlers.
package wire

//go:generate go run ./names
