// Package app is what runs inside the sandbox's pods: simulated applications that really listen,
// answer, fail and stop, in this process, on the pod's loopback address.
//
// # Images
//
// A [Catalogue] knows which application an image is. What it does not know cannot be pulled.
//
//	lockstep.dev/echo:<any tag>            answers JSON: pod, namespace, version, method, path, headers
//	argoproj/rollouts-demo:<colour>        answers the colour, as JSON string, at /color and elsewhere as a page;
//	                                       red, orange, yellow, green, blue, purple. bad-<colour> answers 15 % of
//	                                       /color with 500, slow-<colour> takes 2 s. Stops 10 s after SIGTERM.
//	registry.k8s.io/pause:<any tag>        listens nowhere and does nothing
//	busybox, alpine, bash, debian,         in pods that are to complete, such as those of Jobs: run their command as a process
//	ubuntu:<any tag>                       of this machine. In others the same as pause, and exit with 0 at once, or when the
//	                                       command "sleep N" is over: for init containers
//
// A container listens at its declared TCP ports; a pod's only container, if it declares none, at 8080.
//
// Every answer has the headers X-App-Version (the image's tag) and X-Pod.
//
// # Behaviour
//
// How an application behaves is said by annotations of the pod, sandbox.lockstep.dev/<parameter>,
// for all its containers, or by the environment variable SANDBOX_<PARAMETER> of one container, which goes first.
//
//	parameter        value           meaning (default)
//	app              name            run this application whatever the image is: echo, color, pause; or command, which runs the
//	                                 container's command as a process of this machine, with the rights of the sandbox's user
//	startup-delay    duration        from process start until it listens (0). Times the sandbox's scale
//	ready-delay      duration        from listening until it is ready: before, everything but /livez and /healthz
//	                                 answers 503 (0). Times the sandbox's scale
//	latency          duration or     how long an answer takes (0): 20ms, evenly spread as 5ms..50ms, or
//	                 distribution    log-normal as p50=20ms,p99=300ms
//	error-rate       0.05 or 5%      share of requests answered 500, health paths excepted (0)
//	capacity         number          requests served at a time, others wait; 0 is no limit (0)
//	crash-after      duration        exits with code 1 this long after start (never)
//	unhealthy-after  duration        health paths answer 500 from this long after start (never)
//	run-for          duration        exits with exit-code this long after start (never). Times the sandbox's scale
//	exit-code        number          of run-for (0)
//	on-sigterm       graceful        stop accepting, finish what is under way, close idle connections, exit 0 (this)
//	                 abrupt          die at once: connections are cut, exit 143
//	                 ignore          keep serving until SIGKILL
//	drain-delay      duration        after SIGTERM keep accepting this long before stopping gracefully; answers
//	                                 close their connection meanwhile (0)
//	idle-timeout     duration        close connections that have been idle this long (never)
//	cpu              duration        processor time that one answer takes, for the metrics API alone (1ms)
//	memory           amount          memory in use, likewise (32Mi)
//
// Annotations may change while a pod runs: latency, error-rate, unhealthy-after, on-sigterm, drain-delay, cpu and memory follow.
//
// Health paths are those whose last element is health, healthz, live, livez, ready or readyz.
// HTTP/2 without TLS is spoken as well, to clients that begin with it; the gRPC health protocol (grpc.health.v1) answers for every service
// name, and for life alone where the name begins with live.
// Durations are as in Go (1m30s), and never negative.
package app
