package lifecycle

import (
	"testing"
	"time"
)

func TestSleep(t *testing.T) {
	for _, c := range []struct {
		command []string
		want    time.Duration // negative: not a sleep
	}{
		{[]string{"sleep", "15"}, 15 * time.Second},
		{[]string{"/bin/sleep", "1.5"}, 1500 * time.Millisecond},
		{[]string{"/bin/sh", "-c", "sleep 20"}, 20 * time.Second},
		{[]string{"bash", "-c", " sleep 3s "}, 3 * time.Second},
		{[]string{"sleep", "infinity"}, forever},
		{[]string{"sleep", "99999999999999999999"}, forever},
		{[]string{"sh", "-c", "sleep 5 && nginx -s quit"}, -1},
		{[]string{"sleep"}, -1},
		{[]string{"sleep", "-1"}, -1},
		{nil, -1},
	} {
		got, ok := Sleep(c.command)
		if ok != (c.want >= 0) || ok && got != c.want {
			t.Errorf("%q: %s, %v; want %s", c.command, got, ok, c.want)
		}
	}
}
