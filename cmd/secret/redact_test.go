package secret

import "testing"

func TestRedactorLeavesOrdinaryWordsAlone(t *testing.T) {
	var r Redactor
	for _, s := range []string{"pass", "password", "", "longer-secret", "longer-secret-still"} {
		r.Add(s)
	}
	got := r.Redact("wrong password: longer-secret-still, longer-secret, pass")
	if got != "wrong password: ***, ***, pass" {
		t.Error(got)
	}
}
