// Package shell is what answers inside a simulated container when a command is run there: by a probe, a hook or
// kubectl exec. Nothing of it touches the machine: scripts are interpreted, files are in memory, and the only network is
// that of the sandbox.
//
// A script may be anything that a POSIX shell (and much of what bash) understands. Of programs there are those of
// programs.go; what an image would have besides is unknown, and whoever runs a command says what that means.
//
//	code, err := shell.Run(ctx, shell.Config{Command: []string{"sh", "-c", "test -f /tmp/ok && curl -f localhost:8080"}, ...})
//
// Start reading at [Run].
package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// NotFound is the exit code of a program that does not exist.
const NotFound = 127

// Config says what to run and where. Command and Files are required.
type Config struct {
	Command []string
	// Env is the whole environment, NAME=value.
	Env []string
	// Stdin, Stdout and Stderr may be nil.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal says that a person sits at Stdin and Stdout: a shell without a script then prompts, and lines can be edited.
	Terminal bool
	// Hostname is what the container calls itself.
	Hostname string
	Files    *Files
	// Dial connects to a host and port as seen from the container; nil: there is no network.
	Dial func(ctx context.Context, host, port string) (net.Conn, error)
	// Signal sends a signal, such as TERM, to the container's application; nil: nothing happens.
	Signal func(name string)
	// Unknown says what becomes of a program that is not known; nil: it is not found.
	Unknown func(args []string) (code uint8)

	terminal *term.Terminal // nil without one
}

// Run runs a command and returns its exit code. An error says that ctx has ended it.
func Run(ctx context.Context, c Config) (code int32, err error) {
	c.Stdin, c.Stdout, c.Stderr = orNothing(c.Stdin), orDiscard(c.Stdout), orDiscard(c.Stderr)
	if c.Terminal {
		c.terminal = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{c.Stdin, c.Stdout}, "/ # ")
		// Which ends lines as terminals want it. What is typed is for the prompt alone.
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(""), c.terminal, c.terminal
	}
	in, stop, err := pipe(c.Stdin)
	if err != nil {
		return 0, fmt.Errorf("cannot open the input of a command: %w", err)
	}
	defer stop()
	c.Stdin = in
	if len(c.Command) == 0 {
		return 0, errors.New("no command is given")
	}
	err = c.program(ctx, c.Command)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	var status interp.ExitStatus
	switch {
	case errors.As(err, &status):
		return int32(status), nil
	case err != nil:
		fmt.Fprintln(c.Stderr, err)
		return 1, nil
	}
	return 0, nil
}

func orNothing(r io.Reader) io.Reader {
	if r == nil {
		return strings.NewReader("")
	}
	return r
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// pipe returns a file with what r gives: the interpreter shares it among the commands of a script.
func pipe(r io.Reader) (in *os.File, stop func(), err error) {
	in, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	go func() { // ends with the input, or with the first of it after stop
		_, _ = io.Copy(w, r)
		_ = w.Close()
	}()
	return in, func() { _ = in.Close() }, nil
}

// script runs a script with the interpreter.
func (c Config) script(ctx context.Context, source string, args []string) error {
	file, err := syntax.NewParser().Parse(strings.NewReader(source), "")
	if err != nil {
		fmt.Fprintf(c.Stderr, "sh: %v\n", err)
		return interp.ExitStatus(2)
	}
	runner, err := c.runner(args)
	if err != nil {
		return err
	}
	return runner.Run(ctx, file)
}

// prompt runs what a person types, line by line, until the end of the input or of the shell.
func (c Config) prompt(ctx context.Context) error {
	runner, err := c.runner(nil)
	if err != nil {
		return err
	}
	for {
		line, readErr := c.terminal.ReadLine()
		if readErr != nil || ctx.Err() != nil {
			return err
		}
		file, parseErr := syntax.NewParser().Parse(strings.NewReader(line), "")
		if parseErr != nil {
			fmt.Fprintf(c.Stderr, "sh: %v\n", parseErr)
			continue
		}
		if err = runner.Run(ctx, file); runner.Exited() {
			return err
		}
	}
}

// runner returns the interpreter.
func (c Config) runner(args []string) (*interp.Runner, error) {
	// The folder is checked against the machine's, where there is always a root.
	return interp.New(
		interp.Env(expand.ListEnviron(c.Env...)), interp.Dir("/"), interp.StdIO(c.Stdin, c.Stdout, c.Stderr),
		interp.Params(append([]string{"--"}, args...)...),
		interp.CallHandler(call),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return c.exec }),
		interp.OpenHandler(func(ctx context.Context, name string, flag int, _ os.FileMode) (io.ReadWriteCloser, error) {
			return c.Files.open(absolute(interp.HandlerCtx(ctx).Dir, name), flag)
		}),
		interp.StatHandler(func(_ context.Context, name string, _ bool) (fs.FileInfo, error) {
			return c.Files.stat(absolute("/", name))
		}),
		interp.ReadDirHandler2(func(_ context.Context, name string) ([]fs.DirEntry, error) {
			return c.Files.list(absolute("/", name))
		}),
	)
}

func absolute(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(dir, name)
}

// call gives names that the interpreter would refuse as builtins to our own programs.
func call(_ context.Context, args []string) ([]string, error) {
	if args[0] == "kill" {
		return slices.Concat([]string{"/bin/kill"}, args[1:]), nil
	}
	return args, nil
}

// exec is called by the interpreter for what is no builtin.
func (c Config) exec(ctx context.Context, args []string) error {
	h := interp.HandlerCtx(ctx)
	c.Stdin, c.Stdout, c.Stderr = h.Stdin, h.Stdout, h.Stderr
	c.Env = nil
	for name, v := range h.Env.Each {
		if v.Exported && v.IsSet() {
			c.Env = append(c.Env, name+"="+v.String())
		}
	}
	return c.programIn(ctx, h.Dir, args)
}

func (c Config) program(ctx context.Context, args []string) error { return c.programIn(ctx, "/", args) }

func (c Config) programIn(ctx context.Context, dir string, args []string) error {
	name := args[0]
	switch path.Dir(name) {
	case "/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin":
		name = path.Base(name)
	}
	run, known := programs[name]
	if known {
		return status(run(ctx, c, dir, args[1:]))
	}
	if builtin(name) { // as a program of its own, such as true or test
		return c.script(ctx, quoted(slices.Concat([]string{name}, args[1:])), nil)
	}
	if c.Unknown != nil {
		return status(c.Unknown(args))
	}
	fmt.Fprintf(c.Stderr, "sh: %s: not found (this is a simulated application: it has a shell and %s)\n", name, strings.Join(names(), ", "))
	return status(NotFound)
}

func status(code uint8) error {
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(code)
}

func builtin(name string) bool {
	return slices.Contains([]string{"true", "false", "echo", "printf", "test", "[", "pwd", "exit"}, name)
}

func quoted(args []string) string {
	var words []string
	for _, a := range args {
		q, err := syntax.Quote(a, syntax.LangBash)
		if err != nil {
			q = "''" // what no shell can hold, such as a NUL
		}
		words = append(words, q)
	}
	return strings.Join(words, " ")
}
