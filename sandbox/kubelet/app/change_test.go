package app

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"
)

// ask returns the status of an answer, or the error that there was instead.
func (r running) ask(timeout time.Duration, path string) (int, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: timeout}
	resp, err := client.Get("http://" + r.at.String() + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// What the manifest says of a running process changes how it goes on, but not what it is.
func TestBehave(t *testing.T) {
	r := start(t, Behaviour{})
	if !r.Healthy() {
		t.Error("it is not healthy though it listens")
	}
	r.Behave(Behaviour{App: "color", ErrorRate: 1, UnhealthyAfter: time.Nanosecond, Capacity: 7})
	if code, err := r.ask(patience, "/"); code != http.StatusInternalServerError || err != nil {
		t.Errorf("with an error rate of 1: %d, %v", code, err)
	}
	if code, err := r.ask(patience, "/healthz"); code != http.StatusInternalServerError || err != nil || r.Healthy() {
		t.Errorf("unhealthy: %d, %v, %v", code, err, r.Healthy())
	}
	if b := r.Behaviour(); b.App != "echo" || b.Capacity != 0 {
		t.Errorf("it has become another application: %+v", b)
	}
	r.Behave(Behaviour{})
	if code, err := r.ask(patience, "/"); code != http.StatusOK || err != nil {
		t.Errorf("after all is taken back: %d, %v", code, err)
	}
	r.Kill()
	if r.Healthy() || r.Alive() {
		t.Error("a killed process is healthy or alive")
	}
}

// A frozen process takes connections and says nothing; what waits is answered when it goes on, and cut when it is killed.
func TestFreeze(t *testing.T) {
	r := start(t, Behaviour{})
	r.Freeze(true)
	r.Freeze(true) // again changes nothing
	var timeout net.Error
	if code, err := r.ask(100*time.Millisecond, "/healthz"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("while it is frozen: %d, %v; want a time-out", code, err)
	}
	answers := make(chan int, 1)
	go func() {
		code, _ := r.ask(patience, "/")
		answers <- code
	}()
	r.Freeze(false)
	if code := <-answers; code != http.StatusOK {
		t.Errorf("when it goes on: %d", code)
	}
	r.Freeze(true)
	go func() {
		code, _ := r.ask(patience, "/")
		answers <- code
	}()
	r.Kill()
	if code := <-answers; code != 0 {
		t.Errorf("when it is killed: %d", code)
	}
}
