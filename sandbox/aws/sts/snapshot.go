package sts

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/policy"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/snapshot"
)

// keptSession is a temporary key as it is kept on the disk.
type keptSession struct {
	ID      string    `json:"id"`
	Secret  string    `json:"secret"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
	Role    string    `json:"role"`
	Session string    `json:"session"`
	ARN     string    `json:"arn"`
	UserID  string    `json:"userId"`
	// Policy is the document that restricts the session, if there is one.
	Policy string `json:"policy,omitempty"`
}

// Export tells the temporary keys that are in force. Users and roles come from the configuration.
func (s *Service) Export() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []keptSession{}
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		one := s.sessions[id]
		if !time.Now().Before(one.Expires) {
			continue
		}
		k := keptSession{one.ID, one.Secret, one.Token, one.Expires, one.role, one.name, one.Principal.ARN, one.Principal.UserID, ""}
		if one.restriction != nil {
			k.Policy = one.restriction.Documents()[0]
		}
		list = append(list, k)
	}
	return json.Marshal(list)
}

// Import takes over the keys that were exported.
func (s *Service) Import(text json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []keptSession
	if err := snapshot.Decode(text, &list); err != nil {
		return err
	}
	for _, k := range list {
		one := session{
			Key:  Key{ID: k.ID, Secret: k.Secret, Token: k.Token, Expires: k.Expires, Principal: Principal{ARN: k.ARN, UserID: k.UserID, session: true}},
			role: k.Role, name: k.Session,
		}
		if k.Policy != "" {
			var err error
			if one.restriction, err = policy.Parse([]byte(k.Policy)); err != nil {
				return fmt.Errorf("the session %s: %w", k.ARN, err)
			}
		}
		s.sessions[k.ID] = one
	}
	return nil
}
