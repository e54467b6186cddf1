package elbv2

import "testing"

func TestAResetForgetsSecrets(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	s.secrets[clientOf{}] = "secret"
	s.Reset()
	if len(s.secrets) != 0 {
		t.Error("the secret of a client is left")
	}
}
