package aws

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// Tempo is how slow and how inconsistent the account is at the moment.
type Tempo struct {
	Profile *profile.Profile `json:"profile"`
	Scale   float64          `json:"scale"`
	Seed    uint64           `json:"seed"`
}

// Tempo is how slow and how inconsistent the account is at the moment.
func (e *Emulator) Tempo() Tempo {
	return Tempo{Profile: e.draws.Profile(), Scale: e.draws.Scale(), Seed: e.config.Seed}
}

// SetProfile and SetScale count for what happens from now on: a change on its way to a node arrives when it would have.
func (e *Emulator) SetProfile(p *profile.Profile) {
	e.tempo.Lock()
	defer e.tempo.Unlock()
	e.draws.Set(p, e.draws.Scale())
	e.ec2.Refresh()
}

// SetScale sets the factor on every delay of the profile. It fails if that is negative.
func (e *Emulator) SetScale(scale float64) error {
	if scale < 0 {
		return fmt.Errorf("scale %v is negative", scale)
	}
	e.tempo.Lock()
	defer e.tempo.Unlock()
	e.draws.Set(e.draws.Profile(), scale)
	e.ec2.Refresh()
	if e.config.Rescaled != nil {
		e.config.Rescaled(scale)
	}
	return nil
}

func (e *Emulator) setProfile(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var p *profile.Profile
	if err == nil {
		p, err = profile.Parse(text)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.SetProfile(p)
	writeJSON(w, e.Tempo())
}

func (e *Emulator) setScale(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Scale *float64 `json:"scale"`
	}
	err := readJSON(w, r, &body)
	switch {
	case err != nil:
	case body.Scale == nil:
		err = fmt.Errorf(`there is no scale: write {"scale": 0.5}`)
	default:
		err = e.SetScale(*body.Scale)
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("cannot set the scale: %v", err), http.StatusBadRequest)
		return
	}
	writeJSON(w, e.Tempo())
}

func (e *Emulator) postHost(w http.ResponseWriter, r *http.Request) {
	var h Host
	err := readJSON(w, r, &h)
	if err == nil {
		h, err = e.AddHost(h)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, h)
}

func (e *Emulator) deleteHost(w http.ResponseWriter, r *http.Request) {
	if err := e.RemoveHost(r.PathValue("name")); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readJSON reads one value and nothing that it does not know.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
