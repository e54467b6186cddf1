package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mvdan.cc/sh/v3/interp"
)

// programs are what every simulated container has besides its shell.
var programs map[string]func(ctx context.Context, c Config, dir string, args []string) uint8

func init() { // not in the declaration: some run scripts, which look here
	programs = map[string]func(context.Context, Config, string, []string) uint8{
		"sh": runShell, "bash": runShell, "ash": runShell, "dash": runShell,
		"cat": cat, "touch": touch, "rm": rm, "ls": ls, "mkdir": mkdir,
		"sleep": sleep, "date": date, "hostname": hostname, "env": printEnv, "printenv": printEnv,
		"curl": curl, "wget": wget, "nc": nc, "kill": kill,
	}
}

func names() []string {
	list := slices.Sorted(maps.Keys(programs))
	return slices.DeleteFunc(list, func(s string) bool { return strings.HasSuffix(s, "sh") })
}

// runShell is sh -c SCRIPT, or a script from the input.
func runShell(ctx context.Context, c Config, _ string, args []string) uint8 {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && !strings.Contains(args[0], "c") {
		args = args[1:]
	}
	var source string
	switch {
	case len(args) > 1 && strings.HasPrefix(args[0], "-"):
		source, args = args[1], args[2:]
		if len(args) > 0 {
			args = args[1:] // $0
		}
	case len(args) == 0 && c.terminal != nil:
		return code(c.prompt(ctx))
	case len(args) == 0:
		return c.readAndRun(ctx)
	default:
		content, err := c.read(args[0])
		if err != nil {
			return c.fail("sh", args[0], err, NotFound)
		}
		source, args = string(content), args[1:]
	}
	return code(c.script(ctx, source, args))
}

// readAndRun runs a script that comes by the input, when all of it is there.
func (c Config) readAndRun(ctx context.Context) uint8 {
	source, err := io.ReadAll(c.Stdin)
	if err != nil {
		return 1
	}
	return code(c.script(ctx, string(source), nil))
}

// code is what a script has ended with.
func code(err error) uint8 {
	var status interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return uint8(status)
	default:
		return 1
	}
}

func (c Config) fail(program, what string, err error, code uint8) uint8 {
	fmt.Fprintf(c.Stderr, "%s: %s: %s\n", program, what, reason(err))
	return code
}

func (c Config) read(name string) ([]byte, error) {
	f, err := c.Files.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// operands returns the arguments that are no flags, and the letters of those that are.
func operands(args []string) (list []string, flags string) {
	for i, a := range args {
		switch {
		case a == "--":
			return append(list, args[i+1:]...), flags
		case len(a) > 1 && a[0] == '-':
			flags += a[1:]
		default:
			list = append(list, a)
		}
	}
	return list, flags
}

func cat(_ context.Context, c Config, dir string, args []string) (code uint8) {
	list, _ := operands(args)
	if len(list) == 0 {
		list = []string{"-"}
	}
	for _, name := range list {
		if name == "-" {
			_, _ = io.Copy(c.Stdout, c.Stdin)
			continue
		}
		content, err := c.read(absolute(dir, name))
		if err != nil {
			code = c.fail("cat", name, err, 1)
			continue
		}
		_, _ = c.Stdout.Write(content)
	}
	return code
}

func touch(_ context.Context, c Config, dir string, args []string) (code uint8) {
	list, _ := operands(args)
	for _, name := range list {
		if _, err := c.Files.open(absolute(dir, name), os.O_CREATE|os.O_WRONLY); err != nil {
			code = c.fail("touch", name, err, 1)
		}
	}
	return code
}

func rm(_ context.Context, c Config, dir string, args []string) (code uint8) {
	list, flags := operands(args)
	for _, name := range list {
		if err := c.Files.remove(absolute(dir, name)); err != nil && !strings.Contains(flags, "f") {
			code = c.fail("rm", name, err, 1)
		}
	}
	return code
}

func mkdir(_ context.Context, c Config, dir string, args []string) (code uint8) {
	list, flags := operands(args)
	for _, name := range list {
		if err := c.Files.makeDir(absolute(dir, name), strings.Contains(flags, "p")); err != nil {
			code = c.fail("mkdir", name, err, 1)
		}
	}
	return code
}

func ls(_ context.Context, c Config, dir string, args []string) (code uint8) {
	list, _ := operands(args)
	if len(list) == 0 {
		list = []string{dir}
	}
	for _, name := range list {
		at := absolute(dir, name)
		if i, err := c.Files.stat(at); err != nil {
			code = c.fail("ls", name, err, 1)
			continue
		} else if !i.IsDir() {
			fmt.Fprintln(c.Stdout, name)
			continue
		}
		entries, _ := c.Files.list(at)
		for _, e := range entries {
			fmt.Fprintln(c.Stdout, e.Name())
		}
	}
	return code
}

func sleep(ctx context.Context, c Config, _ string, args []string) uint8 {
	var total time.Duration
	for _, a := range args {
		d, err := time.ParseDuration(a)
		if err != nil {
			d, err = time.ParseDuration(a + "s")
		}
		if err != nil {
			fmt.Fprintf(c.Stderr, "sleep: invalid number %q\n", a)
			return 1
		}
		total += d
	}
	timer := time.NewTimer(total)
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0
	case <-ctx.Done():
		return 143
	}
}

func date(_ context.Context, c Config, _ string, args []string) uint8 {
	now := time.Now().UTC()
	if len(args) == 1 && args[0] == "+%s" {
		fmt.Fprintln(c.Stdout, now.Unix())
		return 0
	}
	fmt.Fprintln(c.Stdout, now.Format(time.UnixDate))
	return 0
}

func hostname(_ context.Context, c Config, _ string, _ []string) uint8 {
	fmt.Fprintln(c.Stdout, c.Hostname)
	return 0
}

func printEnv(_ context.Context, c Config, _ string, args []string) (code uint8) {
	if len(args) == 0 {
		for _, e := range c.Env {
			fmt.Fprintln(c.Stdout, e)
		}
	}
	for _, name := range args {
		i := slices.IndexFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			code = 1
			continue
		}
		fmt.Fprintln(c.Stdout, c.Env[i][len(name)+1:])
	}
	return code
}

// kill signals the application, which is process 1; there is no other.
func kill(_ context.Context, c Config, _ string, args []string) uint8 {
	name := "TERM"
	var pids []string
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-s" && i+1 < len(args):
			i++
			name = args[i]
		case strings.HasPrefix(a, "-"):
			name = a[1:]
		default:
			pids = append(pids, a)
		}
	}
	if len(pids) != 1 || pids[0] != "1" {
		fmt.Fprintf(c.Stderr, "kill: %v: no such process\n", pids)
		return 1
	}
	if c.Signal != nil {
		c.Signal(strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	}
	return 0
}

// nc only tells whether somebody listens: nc -z HOST PORT.
func nc(ctx context.Context, c Config, _ string, args []string) uint8 {
	list, _ := operands(args)
	if len(list) < 2 {
		fmt.Fprintln(c.Stderr, "nc: a host and a port are needed; -z is all that the sandbox does")
		return 1
	}
	conn, err := c.dial(ctx, list[len(list)-2], list[len(list)-1])
	if err != nil {
		fmt.Fprintf(c.Stderr, "nc: %v\n", err)
		return 1
	}
	_ = conn.Close()
	return 0
}

func (c Config) dial(ctx context.Context, host, port string) (net.Conn, error) {
	if c.Dial == nil {
		return nil, errors.New("there is no network")
	}
	return c.Dial(ctx, host, port)
}

// fetch is a request as curl and wget describe it.
type fetch struct {
	method, url, body, output string
	headers                   http.Header
	timeout                   time.Duration
	fail, quiet, show         bool
	// failed is the exit code for a status of 400 and more, lost that for no answer.
	failed, lost uint8
}

func curl(ctx context.Context, c Config, dir string, args []string) uint8 {
	f := fetch{headers: http.Header{}, output: "-", failed: 22, lost: 7}
	err := f.flags(args, map[string]func(string){
		"X": func(v string) { f.method = v }, "request": func(v string) { f.method = v },
		"H": f.header, "header": f.header,
		"d": func(v string) { f.body = v }, "data": func(v string) { f.body = v },
		"o": func(v string) { f.output = v }, "output": func(v string) { f.output = v },
		"m": f.seconds, "max-time": f.seconds, "connect-timeout": f.seconds,
		"A": func(v string) { f.headers.Set("User-Agent", v) }, "w": func(string) {}, "retry": func(string) {},
	}, map[string]func(){
		"f": func() { f.fail = true }, "fail": func() { f.fail = true },
		"s": func() { f.quiet = true }, "silent": func() { f.quiet = true },
		"i": func() { f.show = true }, "include": func() { f.show = true },
		"I": func() { f.method, f.show = http.MethodHead, true }, "head": func() { f.method, f.show = http.MethodHead, true },
	})
	return f.run(ctx, c, dir, "curl", err)
}

func wget(ctx context.Context, c Config, dir string, args []string) uint8 {
	f := fetch{headers: http.Header{}, fail: true, failed: 1, lost: 1}
	err := f.flags(args, map[string]func(string){
		"O": func(v string) { f.output = v }, "output-document": func(v string) { f.output = v },
		"T": f.seconds, "timeout": f.seconds, "t": func(string) {}, "tries": func(string) {},
		"header": f.header, "post-data": func(v string) { f.body = v },
	}, map[string]func(){
		"q": func() { f.quiet = true }, "spider": func() { f.method, f.output = http.MethodHead, "/dev/null" },
	})
	if f.output == "" {
		f.output = "index.html"
		if u, err := url.Parse(f.url); err == nil && !strings.HasSuffix(u.Path, "/") && u.Path != "" {
			f.output = u.Path[strings.LastIndexByte(u.Path, '/')+1:]
		}
	}
	return f.run(ctx, c, dir, "wget", err)
}

// flags reads the arguments: values are flags that take one, switches those that take none; others mean nothing here.
func (f *fetch) flags(args []string, values map[string]func(string), switches map[string]func()) error {
	for i := 0; i < len(args); i++ {
		a := args[i]
		long, isLong := strings.CutPrefix(a, "--")
		switch {
		case isLong:
			name, value, given := strings.Cut(long, "=")
			set := values[name]
			if set != nil && !given {
				if i++; i == len(args) {
					return fmt.Errorf("--%s needs a value", name)
				}
				value = args[i]
			}
			if set != nil {
				set(value)
			} else if do := switches[name]; do != nil {
				do()
			}
		case len(a) > 1 && a[0] == '-':
			for j := 1; j < len(a); j++ {
				letter := a[j : j+1]
				if set := values[letter]; set != nil {
					value := a[j+1:]
					if value == "" {
						if i++; i == len(args) {
							return fmt.Errorf("-%s needs a value", letter)
						}
						value = args[i]
					}
					set(value)
					break
				}
				if do := switches[letter]; do != nil {
					do()
				}
			}
		default:
			f.url = a
		}
	}
	switch {
	case f.url == "":
		return errors.New("no URL is given")
	case !strings.Contains(f.url, "://"):
		f.url = "http://" + f.url
	}
	return nil
}

func (f *fetch) header(line string) {
	name, value, _ := strings.Cut(line, ":")
	f.headers.Add(name, strings.TrimSpace(value))
}

func (f *fetch) seconds(v string) {
	if n, err := strconv.ParseFloat(v, 64); err == nil {
		f.timeout = time.Duration(n * float64(time.Second))
	}
}

// run sends the request over a connection of its own and writes the answer.
func (f *fetch) run(ctx context.Context, c Config, dir, program string, problem error) uint8 {
	complain := func(code uint8, format string, args ...any) uint8 {
		if !f.quiet || code == 2 {
			fmt.Fprintf(c.Stderr, program+": "+format+"\n", args...)
		}
		return code
	}
	if problem != nil {
		return complain(2, "%v", problem)
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	if f.method == "" && f.body != "" {
		f.method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, f.method, f.url, strings.NewReader(f.body))
	if err != nil {
		return complain(3, "%v", err)
	}
	request.Header = f.headers
	request.Host = f.headers.Get("Host")
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, at string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(at)
		if err != nil {
			return nil, err
		}
		return c.dial(ctx, host, port)
	}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return complain(f.lost, "%v", err)
	}
	defer response.Body.Close()
	if f.fail && response.StatusCode >= http.StatusBadRequest {
		return complain(f.failed, "the server answered %s", response.Status)
	}
	return f.write(c, dir, response, complain)
}

func (f *fetch) write(c Config, dir string, response *http.Response, complain func(uint8, string, ...any) uint8) uint8 {
	out := c.Stdout
	if f.output != "-" {
		file, err := c.Files.open(absolute(dir, f.output), os.O_CREATE|os.O_WRONLY|os.O_TRUNC)
		if err != nil {
			return complain(23, "%v", err)
		}
		out = file
	}
	if f.show {
		fmt.Fprintf(out, "HTTP/1.1 %s\r\n", response.Status)
		_ = response.Header.Write(out)
		fmt.Fprint(out, "\r\n")
	}
	if _, err := io.Copy(out, response.Body); err != nil {
		return complain(18, "%v", err)
	}
	return 0
}
