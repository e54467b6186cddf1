package rehearsal

import "testing"

// What a rehearsal may do on this machine is what its sandbox may do.
func TestConfig(t *testing.T) {
	for _, forbid := range []bool{false, true} {
		d := &stage{options: Options{NoCommands: forbid, Profile: "ideal", Scale: 0.1}}
		if c := d.config(); c.NoCommands != forbid || c.Profile != "ideal" || c.Scale != 0.1 {
			t.Errorf("the sandbox's configuration is %+v", c)
		}
	}
}
