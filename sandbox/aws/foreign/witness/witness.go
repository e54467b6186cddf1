// Package witness lets boto3 and the AWS CLI see what the Go SDK sees when it is refused: a table of wrong calls is written
// once, in Go, and foreign clients repeat each call at the moment in which it was refused.
//
//	record := witness.New(t, witness.Boto3(t, account))
//	client := elb.NewFromConfig(config, func(o *elb.Options) { o.APIOptions = append(o.APIOptions, record.Watch) })
//	_, err := client.CreateRule(ctx, in) // when this is refused, boto3 has been refused too, or the test fails
//
// A client is one process for the whole test. What an older release does not know it cannot repeat; the log tells that as
// SKIPPED.
package witness

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Account is where witnesses make their calls.
type Account struct{ Endpoint, Region, AccessKeyID, SecretAccessKey string }

// Witness is a foreign client in a process of its own. It repeats one call at a time.
type Witness struct {
	name  string
	calls io.WriteCloser
	says  *json.Decoder
	// wrong is what the client prints besides its answers.
	wrong bytes.Buffer
	// check says what is wrong with how the client has been refused.
	check func(Refusal, answer) error
	// slow is a client that sees each code once.
	slow bool
}

// Refusal is how the SDK was refused. Class is the name of the error's shape in AWS's model, "" of one that is not modelled.
type Refusal struct {
	Operation, Code, Message, Class string
	Status                          int
}

// text is how clients of botocore tell a refusal.
func (r Refusal) text() string {
	return fmt.Sprintf("An error occurred (%s) when calling the %s operation: %s", r.Code, r.Operation, r.Message)
}

// call is what a client is asked to repeat, with the names of AWS's model.
type call struct {
	Service, Operation string
	Input              any
	// Class is the exception that the client should raise, if it has it.
	Class string
}

// answer is what a client says to a call: what it lacks to make it, or how it was refused.
type answer struct {
	Lacks, Text string
	// Status is that of HTTP; of a command line, that of its end.
	Status int
	// Class is the exception that was raised, and HasClass tells whether the client has the one that it was asked for.
	Class, RequestID string
	HasClass         bool
}

//go:embed boto3.py
var boto3 string

//go:embed commandline.py
var commandLine string

// Boto3 starts each installed release of boto3 until the end of the test.
func Boto3(t *testing.T, account Account) (all []*Witness) {
	t.Helper()
	for _, c := range installed(t, "/usr/bin/python3", "python3", "-c", "import boto3; print('boto3', boto3.__version__)") {
		w := start(t, c, boto3, account)
		w.check = refusedByException
		all = append(all, w)
	}
	if len(all) == 0 {
		t.Log("SKIPPED: no boto3 sees what is refused: 'make clients' installs it from Debian")
	}
	return all
}

// CommandLine starts each installed release of the AWS CLI until the end of the test. A call takes it a sixth of a second of
// a processor, so each code is seen once, by the first release that knows the operation.
func CommandLine(t *testing.T, account Account) (all []*Witness) {
	t.Helper()
	if testing.Short() {
		t.Log("SKIPPED: no AWS CLI sees what is refused: that takes ten seconds of a processor")
		return nil
	}
	for _, c := range installed(t, "/usr/bin/python3", "python3", "-c", "import awscli; print('aws-cli', awscli.__version__)") {
		w := start(t, c, commandLine, account)
		w.slow, w.check = true, refusedWithStatus(254)
		if strings.HasPrefix(c.Version, "aws-cli 1.") {
			w.check = refusedWithStatus(255)
		}
		all = append(all, w)
	}
	if len(all) == 0 {
		t.Log("SKIPPED: no AWS CLI sees what is refused: 'make clients' installs it from Debian")
	}
	return all
}

// reached is what clients tell besides, of an error after which they would try again.
var reached = regexp.MustCompile(` \(reached max retries: \d+\)`)

// says checks what a client tells of its refusal.
func (a answer) says(want Refusal) error {
	if text := reached.ReplaceAllString(a.Text, ""); text != want.text() {
		return fmt.Errorf("it says %q, want %q", a.Text, want.text())
	}
	return nil
}

// refusedByException checks the exception of boto3, which is of a class of its own where the model has one.
func refusedByException(want Refusal, got answer) error {
	class := "ClientError"
	if got.HasClass {
		class = want.Class
	}
	switch {
	case got.Status != want.Status:
		return fmt.Errorf("it was answered with status %d, want %d: %s", got.Status, want.Status, got.Text)
	case want.Class != "" && got.Class != class:
		return fmt.Errorf("it raises a %s, want a %s", got.Class, class)
	case got.RequestID == "":
		return errors.New("it knows no id of the request")
	}
	return got.says(want)
}

// refusedWithStatus checks what the CLI prints, and the status of its end: 254, and 255 in its first generation.
func refusedWithStatus(status int) func(Refusal, answer) error {
	return func(want Refusal, got answer) error {
		if got.Status != status {
			return fmt.Errorf("it ends with status %d, want %d: %s", got.Status, status, got.Text)
		}
		return got.says(want)
	}
}

// start runs a client until the end of the test, with no settings of whoever runs that.
func start(t *testing.T, c Client, program string, account Account) *Witness {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	command := exec.CommandContext(ctx, c.Program, "-c", program)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") {
			command.Env = append(command.Env, variable)
		}
	}
	command.Env = append(command.Env, "EMULATED_AWS="+account.Endpoint, "AWS_DEFAULT_REGION="+account.Region,
		"AWS_ACCESS_KEY_ID="+account.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+account.SecretAccessKey, "AWS_MAX_ATTEMPTS=1", "AWS_PAGER=",
		"HOME="+t.TempDir(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	w := &Witness{name: c.Version}
	command.Stderr = &w.wrong
	calls, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	says, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.calls, w.says = calls, json.NewDecoder(says)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		_ = calls.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("%s: %v: %s", w.name, err, &w.wrong)
		}
	})
	return w
}

// repeat lets the client make a call.
func (w *Witness) repeat(c call) (answer, error) {
	var a answer
	text, err := json.Marshal(c)
	if err != nil {
		return a, err
	}
	if _, err := w.calls.Write(append(text, '\n')); err != nil {
		return a, fmt.Errorf("it cannot be told the call: %w", err)
	}
	if err := w.says.Decode(&a); err != nil {
		return a, fmt.Errorf("it says nothing: %w", err)
	}
	return a, nil
}
