package address

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestReal(t *testing.T) {
	plain, moved := Mapping{Octet: 7}, Mapping{Octet: 7, LowPortsMoved: true}
	for _, c := range []struct {
		m             Mapping
		virtual, real string // real "" = cannot be served
	}{
		{plain, "10.7.3.4:8080", "127.7.3.4:8080"},
		{plain, "10.7.3.4:80", "127.7.3.4:80"},
		{plain, "10.7.3.4:64080", "127.7.3.4:64080"},
		{moved, "10.7.3.4:80", "127.7.3.4:64080"},
		{moved, "10.7.3.4:443", "127.7.3.4:64443"},
		{moved, "10.7.3.4:1023", "127.7.3.4:65023"},
		{moved, "10.7.3.4:1024", "127.7.3.4:1024"},
		{moved, "10.7.3.4:0", "127.7.3.4:0"},
		{moved, "10.7.3.4:64000", "127.7.3.4:64000"},
		{moved, "10.7.3.4:64001", ""},
		{moved, "10.7.3.4:65023", ""},
		{moved, "10.7.3.4:65024", "127.7.3.4:65024"},
		{plain, "10.8.3.4:80", ""},
		{plain, "127.0.0.1:80", ""},
		{plain, "[::1]:80", ""},
		{plain, "[::ffff:10.7.0.1]:80", "127.7.0.1:80"},
	} {
		got := c.m.Real(netip.MustParseAddrPort(c.virtual))
		want := netip.AddrPort{}
		if c.real != "" {
			want = netip.MustParseAddrPort(c.real)
		}
		if got != want {
			t.Errorf("%+v: Real(%s) = %v, want %v", c.m, c.virtual, got, want)
		}
	}
	if !plain.Contains(netip.MustParseAddr("10.7.255.254")) || plain.Contains(netip.MustParseAddr("127.7.0.1")) {
		t.Error("Contains must hold exactly for 10.7.0.0/16")
	}
}

// Every VPC endpoint that can be served has a real one of its own, and Virtual finds the way back.
func TestVirtualInvertsReal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Mapping{Octet: rapid.Uint8Range(1, 254).Draw(t, "octet"), LowPortsMoved: rapid.Bool().Draw(t, "moved")}
		addr := netip.AddrFrom4([4]byte{10, m.Octet, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c")})
		virtual := netip.AddrPortFrom(addr, rapid.Uint16().Draw(t, "port"))
		real := m.Real(virtual)
		if !real.IsValid() {
			return
		}
		if !real.Addr().IsLoopback() || real.Addr().As4()[1] == 0 {
			t.Fatalf("Real(%v) = %v is not in the sandbox's own loopback block", virtual, real)
		}
		if m.LowPortsMoved && real.Port() != 0 && real.Port() < 1024 {
			t.Fatalf("Real(%v) = %v has a port that cannot be bound", virtual, real)
		}
		if back := m.Virtual(real); back != virtual {
			t.Fatalf("Virtual(Real(%v)) = %v", virtual, back)
		}
	})
}

func TestMappingTravelsAsJSON(t *testing.T) {
	m := Mapping{Octet: 9, LowPortsMoved: true}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Mapping
	if err := json.Unmarshal(b, &back); err != nil || back != m {
		t.Fatalf("%s became %+v (%v)", b, back, err)
	}
}

func TestClaimsDiffer(t *testing.T) {
	a, b := mustClaim(t), mustClaim(t)
	if a.Octet == b.Octet {
		t.Fatalf("two claims got the same octet %d", a.Octet)
	}
	if a.CIDR().Overlaps(b.CIDR()) {
		t.Fatalf("%v overlaps %v", a.CIDR(), b.CIDR())
	}
}

func TestReleasedOctetCanBeClaimedAgain(t *testing.T) {
	v := claimBetween(t)
	k := v.Octet
	if _, err := claim(k); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("a second claim of a held octet: %v, want %v", err, syscall.EADDRINUSE)
	}
	if err := errors.Join(v.Release(), v.Release()); err != nil {
		t.Fatal(err)
	}
	again, err := claim(k)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	_ = again.Release()
}

// Somebody else's web server, at all addresses of the machine, is no reason to take networks for used.
func TestAPortOfAnotherProgramIsNotForbidden(t *testing.T) {
	other, err := listen(netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.251.0.0"), uint16(other.Addr().(*net.TCPAddr).Port))
	if no, err := forbidden(at); no || err != nil {
		t.Errorf("%v, %v", no, err)
	}
}

// What Real says can really be bound, low ports included, whoever runs the test.
func TestRealCanBeBound(t *testing.T) {
	v := mustClaim(t)
	for _, port := range []uint16{80, 443, 8080} {
		l, err := listen(v.Real(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, v.Octet, 1, 1}), port)))
		if err != nil {
			t.Errorf("port %d: %v", port, err)
			continue
		}
		_ = l.Close()
	}
}

const claimantEnv = "LOCKSTEP_TEST_CLAIM_OCTET"

// TestMain lets the test binary be the process that claims an octet and then dies with it.
func TestMain(m *testing.M) {
	if k, err := strconv.Atoi(os.Getenv(claimantEnv)); err == nil {
		v, err := claim(uint8(k))
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("claimed", v.Octet)
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestDeadClaimantsOctetIsReused(t *testing.T) {
	free := claimBetween(t)
	k := free.Octet
	_ = free.Release()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", claimantEnv, k))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if strings.TrimSpace(line) != fmt.Sprint("claimed ", k) {
		t.Fatalf("the other process said %q", line)
	}
	if _, err := claim(k); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("claim of an octet that a living process holds: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	v, err := claim(k)
	if err != nil {
		t.Fatalf("claim after its holder was killed: %v", err)
	}
	_ = v.Release()
}

// claimBetween takes an octet far from both ends, where other sandboxes and tests on this machine look for theirs.
func claimBetween(t *testing.T) *VPC {
	t.Helper()
	for i := range 100 {
		v, err := claim(uint8(77 + (os.Getpid()+i)%100))
		if err == nil {
			return v
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatal(allInUse())
	return nil
}

func mustClaim(t *testing.T) *VPC {
	t.Helper()
	v, err := Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Release() })
	return v
}
