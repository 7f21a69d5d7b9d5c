package settings

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// FuzzURLShowsNoPassword: wherever in a URL a password stands, neither config
// show nor an error shows it, and a child process does not get the variable.
func FuzzURLShowsNoPassword(f *testing.F) {
	const password = "CanaryPassword"
	f.Add("https://user:", "@vc.example.com/sdk")
	f.Add("s3:https://user:", "@host/bucket")
	f.Add("user:", "@host")
	f.Add("https://a:b@c:", "%zz@[::1")
	f.Fuzz(func(t *testing.T, before, behind string) {
		text := before + password + behind
		user, ok := strings.CutPrefix(strings.TrimPrefix(before, "s3:"), "https://")
		if !ok || !strings.Contains(user, ":") || !strings.Contains(behind, "@") || strings.ContainsAny(text, "\x00\r\n") {
			return // no password there
		}
		if shown := redactURL(text); strings.Contains(shown, password) {
			t.Fatalf("%q is shown as %q", text, shown)
		}
		if !HoldsSecret("HOLDFAST_VCENTER_URL", text) || !HoldsSecret("AWS_SECRET_ACCESS_KEY", "") || HoldsSecret("PATH", text) {
			t.Fatalf("%q goes to child processes", text)
		}
		c := &cobra.Command{Use: "probe"}
		AddFlags(c.Flags())
		s, err := Load(c, Environment{"GOVC_URL=" + text})
		if err != nil {
			if strings.Contains(err.Error(), password) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for _, shown := range s.Show() {
			if strings.Contains(shown.Value, password) {
				t.Fatalf("%q: %s is shown as %q", text, shown.Name, shown.Value)
			}
		}
	})
}
