// Command build compiles the sandbox's control plane, or takes it from the user's cache, and puts it at the path
// given. It is run from the root of the source tree:
//
//	go run ./sandbox/apiserver/build bin/controlplane
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/lockstep-delivery/lockstep/sandbox/apiserver/binary"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./sandbox/apiserver/build PATH")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root, err := os.Getwd()
	if err == nil {
		err = binary.Build(ctx, root, os.Args[1], os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}
