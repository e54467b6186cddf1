package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/command"
)

// account starts an account alone and gives a function that runs `lockstep sandbox ...` on it.
func account(t *testing.T, change ...func(*sandbox.Config)) (*sandbox.Sandbox, func(args ...string) (string, error)) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	config := sandbox.Config{Name: "alone", Profile: "ideal", OnlyAWS: true}
	for _, f := range change {
		f(&config)
	}
	s, err := sandbox.Up(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, run
}

func run(args ...string) (string, error) { return bare(append(args, "--name", "alone")...) }

// bare runs a command that does not ask which sandbox is meant.
func bare(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := command.New(cli.Streams{Out: &out, Err: io.Discard})
	cli.Prepare(cmd)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func clientOf(s *sandbox.Sandbox) *ec2.Client {
	return ec2.NewFromConfig(sdk.Config{
		Region: s.State().Region, BaseEndpoint: new(s.State().AWSEndpoint),
		Credentials: credentials.NewStaticCredentialsProvider(s.State().AccessKey, s.State().SecretKey, ""),
		Retryer:     func() sdk.Retryer { return sdk.NopRetryer{} },
	})
}

// want runs a command and looks for texts in what it prints.
func want(t *testing.T, run func(...string) (string, error), command string, texts ...string) string {
	t.Helper()
	out, err := run(strings.Fields(command)...)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s prints\n%swithout %q", command, out, text)
		}
	}
	return out
}

func TestFaultsComeAndGoByCommand(t *testing.T) {
	s, run := account(t)
	describe := func() error {
		_, err := clientOf(s).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
		return err
	}
	id := strings.TrimSpace(want(t, run, "fault add throttle --operation ec2:Describe* --for 1h"))
	if err := describe(); err == nil || !strings.Contains(err.Error(), "RequestLimitExceeded") {
		t.Errorf("during the fault: %v", err)
	}
	want(t, run, "fault add stuck --zone eu-west-1b --after 1h --for 10m --id late")
	want(t, run, "fault list", id, "now, for 1h0m0s", "ec2:Describe*", "late", "from in 1h0m0s to in 1h10m0s", "in eu-west-1b")
	want(t, run, "fault list -o json", `"kind": "stuck"`)
	want(t, run, "fault remove "+id)
	if err := describe(); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	want(t, run, "fault remove --all")
	want(t, run, "journal --event Fault*", "FaultAdded", `"id":"late"`, "FaultEnded")
	if out := want(t, run, "fault list"); strings.Contains(out, "late") {
		t.Errorf("left over: %s", out)
	}
	for command, says := range map[string]string{
		"fault add flood":              "no fault of kind",
		"fault add zone":               "needs a zone",
		"fault add zone --zone mars":   `no zone "mars"`,
		"fault add node --resource n":  "needs a cluster",
		"fault add throttle --for -1s": "cannot be negative",
		"fault remove nosuch":          "no fault",
		"fault remove":                 "say which",
		"journal --operation [":        "is no pattern",
		"host add shop --port 80":      "write 80=127.0.0.1:3000",
		"host add shop":                "needs a port",
		"scale set 7":                  "use 0.1 to 1",
		"profile set nosuch":           "no built-in profile",
		"inspect zones -o yaml":        "use table or json",
	} {
		if _, err := run(strings.Fields(command)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestACommandThatOnlyHoldsOthersNamesThem(t *testing.T) {
	for command, says := range map[string]string{"fault": "use add, list, remove", "fault forget": `no subcommand "forget"`} {
		_, err := bare(strings.Fields(command)...)
		if err == nil || !strings.Contains(err.Error(), says) || cli.ExitCode(err) != cli.ExitUsage {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestTheTempoChangesByCommand(t *testing.T) {
	s, run := account(t)
	want(t, run, "profile show typical", "# median", "alb.rule_change: L(3,20)")
	want(t, run, "profile set pessimistic", "profile pessimistic, scale 1")
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("base: typical\nseconds:\n  alb.rule_change: F(30)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, run, "profile set "+file, "typical, changed")
	want(t, run, "scale set 0.5", "scale 0.5, seed 0")
	want(t, run, "profile show", "alb.rule_change: F(30)", "# scale 0.5")
	want(t, run, "status", "profile typical, changed, scale 0.5", "AWS alone")
	if tempo := s.AWS().Tempo(); tempo.Scale != 0.5 || tempo.Profile.Name != "typical, changed" {
		t.Errorf("%+v", tempo)
	}
	if err := os.WriteFile(file, []byte("base: typical\nseconds:\n  alb.rule_chnage: F(30)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run("profile", "set", file); err == nil || !strings.Contains(err.Error(), "alb.rule_chnage") {
		t.Errorf("a profile with a wrong key: %v", err)
	}
}

func TestWhatHappenedIsToldByCommand(t *testing.T) {
	s, run := account(t)
	if _, err := clientOf(s).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{}); err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(s).DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{}); err == nil {
		t.Fatal("volumes are modelled: take another operation")
	}
	var record struct{ Operation string }
	lines := want(t, run, "journal --operation ec2:*Vpcs")
	if err := json.Unmarshal([]byte(lines), &record); err != nil || record.Operation != "DescribeVpcs" {
		t.Errorf("not one line of the call: %q: %v", lines, err)
	}
	want(t, run, "journal --failed", "DescribeVolumes")
	want(t, run, "status", "not modelled", "ec2:DescribeVolumes: 1")
	want(t, run, "inspect zones", "no load balancer")
	env := want(t, run, "env", "export AWS_ENDPOINT_URL='"+s.State().AWSEndpoint+"'", "AWS_SECRET_ACCESS_KEY")
	if strings.Contains(env, "KUBECONFIG") {
		t.Errorf("an account alone has no cluster:\n%s", env)
	}
}

func TestHostsComeAndGoByCommand(t *testing.T) {
	s, run := account(t)
	want(t, run, "host add shop --zone eu-west-1b --port 80=127.0.0.1:3000", "80=127.0.0.1:3000", "i-")
	want(t, run, "host list", "shop", "eu-west-1b")
	hosts := s.AWS().Hosts()
	if len(hosts) != 1 || hosts[0].Ports[80] != netip.MustParseAddrPort("127.0.0.1:3000") {
		t.Errorf("%+v", hosts)
	}
	want(t, run, "host remove shop")
	if len(s.AWS().Hosts()) != 0 {
		t.Error("the host is still there")
	}
	response, err := http.Get(s.State().AWSEndpoint + "/_lockstep/hosts")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list []aws.Host
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v: %v", list, err)
	}
}

func TestAnAccountIsKeptInItsFolder(t *testing.T) {
	folder := t.TempDir()
	inFolder := func(c *sandbox.Config) { c.DataDir, c.KeepJournal = folder, true }
	s, run := account(t, inFolder)
	fixture := filepath.Join(t.TempDir(), "shop.yaml")
	text := "hosts: [{name: shop, ports: {\"80\": \"127.0.0.1:3000\"}}]\n" +
		"calls: [{service: ec2, operation: CreateSecurityGroup, input: {GroupName: shop, Description: shop, VpcId: \"${vpc}\"}}]\n"
	if err := os.WriteFile(fixture, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	groups := func(s *sandbox.Sandbox) (ids []string) {
		out, err := clientOf(s).DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range out.SecurityGroups {
			ids = append(ids, *g.GroupId)
		}
		return ids
	}
	before := groups(s)
	want(t, run, "reset --fixture "+fixture)
	made, hosts, vpc := groups(s), s.AWS().Hosts(), s.State().VPCCIDR
	if len(made) != len(before)+1 || len(hosts) != 1 {
		t.Errorf("the fixture has made %v and %v", made, hosts)
	}
	if _, err := sandbox.Up(t.Context(), sandbox.Config{Name: "second", OnlyAWS: true, DataDir: folder}); err == nil || !strings.Contains(err.Error(), "another sandbox that runs") {
		t.Errorf("a second one with the same folder: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := sandbox.Up(t.Context(), sandbox.Config{Name: "alone", Profile: "ideal", OnlyAWS: true, DataDir: folder})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !slices.Equal(groups(again), made) || !reflect.DeepEqual(again.AWS().Hosts(), hosts) || again.State().VPCCIDR != vpc {
		t.Errorf("after a restart: %v, %v, %s, not %v, %v, %s", groups(again), again.AWS().Hosts(), again.State().VPCCIDR, made, hosts, vpc)
	}
	if journal, err := os.ReadFile(filepath.Join(folder, "journal.jsonl")); err != nil || !strings.Contains(string(journal), "AccountReset") {
		t.Errorf("the journal is not kept: %.200s, %v", journal, err)
	}
	want(t, run, "reset")
	if got := groups(again); !slices.Equal(got, before) {
		t.Errorf("after a reset: %v, not %v", got, before)
	}
	for says, c := range map[string]sandbox.Config{
		"needs --only aws": {Name: "x", DataDir: folder},
		"needs --data-dir": {Name: "x", OnlyAWS: true, KeepJournal: true},
	} {
		if _, err := sandbox.Up(t.Context(), c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
