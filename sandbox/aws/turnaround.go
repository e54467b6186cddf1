package aws

import (
	"context"
	"strings"
	"time"
)

// An answer that comes back at once breaks programs that use the AWS SDK for Go. As soon as it has the header of an answer, the SDK closes the body of
// the request. If the transport has not looked yet whether anything follows the last byte of that body, its look ends in io.EOF, which the SDK's reader
// (smithy-go up to v1.28.8, WriteTo) returns as an error, and the transport closes the connection: what is left of the answer is lost, and the program
// reads "use of closed network connection" in the middle of a 200. AWS is too far away for that. What the transport reads together with the header is
// safe.
const (
	readWithHeader  = 3 << 10 // bytes of a body: the transport reads 4 KiB at a time
	leastTurnaround = 5 * time.Millisecond
)

// turnAround waits before an answer that could break its reader, unless that has gone away.
func (c *call) turnAround(ctx context.Context, size int) {
	if size <= readWithHeader || !strings.Contains(c.record.UserAgent, "aws-sdk-go-v2/") {
		return
	}
	select {
	case <-time.After(leastTurnaround):
	case <-ctx.Done():
	}
}
