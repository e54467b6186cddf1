package kubelet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Of the protocol of gRPC health checks (grpc.health.v1), a probe needs one call, whose request and answer have one field each.
const (
	healthCheck    = "/grpc.health.v1.Health/Check"
	grpcText       = "application/grpc"
	grpcServing    = 1  // HealthCheckResponse.ServingStatus
	grpcNoSuchCall = 12 // UNIMPLEMENTED
	// grpcLargest is how much of an answer is read: one frame with one small number.
	grpcLargest = 1 << 10
)

// servingStatus names the states that an answer can have.
var servingStatus = map[uint64]string{0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

// grpcCheck asks a container by gRPC whether it, or a service of it, is healthy: over HTTP/2 without TLS, as a kubelet does.
func (k *Kubelet) grpcCheck(ctx context.Context, addr netip.Addr, spec *corev1.Container, action *corev1.GRPCAction) error {
	at, err := k.endpoint(addr, "", intstr.FromInt32(action.Port), spec)
	if err != nil {
		return err
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	host := net.JoinHostPort(addr.String(), strconv.Itoa(int(action.Port)))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+healthCheck, bytes.NewReader(healthRequest(service)))
	if err != nil {
		return fmt.Errorf("cannot ask %s: %w", at, err)
	}
	request.Header = http.Header{"Content-Type": {grpcText}, "Te": {"trailers"}, "User-Agent": {probeAgent + " grpc"}}
	conn, err := probeDialer.DialContext(ctx, "tcp4", at.String())
	if err != nil {
		return fmt.Errorf("cannot ask %s for its health by gRPC: %w", at, err)
	}
	defer conn.Close() // the transport keeps one whose server has not said a word
	transport := &http.Transport{
		Protocols: new(http.Protocols), DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("cannot ask %s for its health by gRPC: %w", at, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, grpcLargest))
	if err != nil {
		return fmt.Errorf("cannot read the health of %s: %w", at, err)
	}
	return judgeHealth(response, body)
}

// judgeHealth says what is wrong with an answer; nil: the service is healthy.
func judgeHealth(response *http.Response, body []byte) error {
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer to a gRPC health check has HTTP status %d", response.StatusCode)
	}
	status, message := response.Trailer.Get("Grpc-Status"), response.Trailer.Get("Grpc-Message")
	if status == "" { // an answer without a body has them in front
		status, message = response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
	}
	switch status {
	case "0":
	case strconv.Itoa(grpcNoSuchCall):
		return errors.New("this server does not implement the grpc health protocol (grpc.health.v1.Health)")
	default:
		return fmt.Errorf("the gRPC health check ended with status %q: %s", status, message)
	}
	serving, err := healthAnswer(body)
	if err != nil {
		return err
	}
	if serving != grpcServing {
		return fmt.Errorf("service unhealthy (responded with %q)", servingStatus[serving])
	}
	return nil
}

// healthRequest is the frame of a HealthCheckRequest: its field 1 is the service's name.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service))), service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// healthAnswer reads the frame of a HealthCheckResponse: its field 1 is the status, and 0 if it is left out.
func healthAnswer(frame []byte) (status uint64, err error) {
	const head = 5 // one byte for compression, four for the length
	if len(frame) < head || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:head])) != len(frame)-head {
		return 0, errors.New("the answer to a gRPC health check is not one uncompressed message")
	}
	if len(frame) == head {
		return 0, nil
	}
	if frame[head] != 1<<3 {
		return 0, errors.New("the answer to a gRPC health check is not a HealthCheckResponse")
	}
	status, n := binary.Uvarint(frame[head+1:])
	if n <= 0 {
		return 0, errors.New("the answer to a gRPC health check is not a HealthCheckResponse")
	}
	return status, nil
}
