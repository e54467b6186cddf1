// Package wire translates between the Go types of the AWS SDK and the protocols of AWS that the emulator
// speaks: "query" (ELBv2, STS, older CloudWatch), "EC2 query", AWS JSON 1.0 and 1.1 (ACM, WAFv2, WAF
// Regional, Shield, Resource Groups Tagging, CloudWatch), REST-XML (Route 53) and Smithy RPC v2 with CBOR
// (today's CloudWatch).
//
// There is no code per operation. The names on the wire follow from the names of the Go fields by a few
// rules per protocol; where EC2 departs from them, a table made from the SDK's own serializers
// (zz_generated.ec2names.go) says so, and Route 53 has a table of its paths (rest.go). An operation is
// therefore added to the emulator by writing a function from the SDK's input struct to its output struct.
//
//	message, err := codec.Read(request)         // *Query, *JSON, *RPC or *REST
//	input := new(elasticloadbalancingv2.CreateRuleInput)
//	unknown, err := message.Decode(input)
//	...
//	response, err := codec.Answer(message, requestID, output)
//
// It never looks at the meaning of a value: what is required, in range or known is for the handlers.
// Unions, event streams and payloads that are not documents are not modelled: no operation needs them.
package wire

//go:generate go run ./names
