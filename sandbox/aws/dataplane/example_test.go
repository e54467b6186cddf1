package dataplane_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// A node is told of a group, its target and a listener, and proxies as soon as the target has passed its first check.
func Example() {
	target := netip.MustParseAddrPort("127.42.0.2:8080")
	l, err := net.Listen("tcp", target.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	go func() { _ = app.Serve(l) }()
	defer app.Close()

	healthy := make(chan dataplane.HealthChange, 10)
	node := dataplane.NewNode(dataplane.Config{
		LoadBalancer: "app/shop/50dc6c495c0c9188", Zone: "eu-west-1a", Address: netip.MustParseAddr("127.42.0.1"),
		Health: func(c dataplane.HealthChange) { healthy <- c },
	})
	defer node.Close()
	node.ApplyGroup(dataplane.Group{ARN: "blue", Protocol: dataplane.HTTP, DeregistrationDelay: 5 * time.Minute})
	node.ApplyTargets("blue", dataplane.TargetSet{Version: 1, Targets: []dataplane.Target{{Address: target.Addr(), Port: target.Port(), Zone: "eu-west-1a"}}})
	err = node.Apply(dataplane.NodeConfig{Version: 1, Listeners: []dataplane.Listener{{
		Port: 8080, Protocol: dataplane.HTTP,
		Default: dataplane.Action{Forward: &dataplane.Forward{Groups: []dataplane.WeightedGroup{{ARN: "blue", Weight: 1}}}},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println((<-healthy).State, (<-healthy).State)

	res, err := http.Get("http://127.42.0.1:8080/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, _ := io.ReadAll(res.Body)
	fmt.Println(res.StatusCode, string(body))
	// Output:
	// initial healthy
	// 200 hello
}
