package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"holdfast/sqlguest/agent"
	"holdfast/sqlguest/agent/inject"
)

// TestQ30AgentOfAnotherVersionIsRefused: program and agent must speak the same version.
// The refusal names both and keeps its identity, the remedy says what to do, nothing of
// the session is begun, and a program of the right version is let in afterwards.
func TestQ30AgentOfAnotherVersionIsRefused(t *testing.T) {
	p := start(t, agent.ServiceOptions{})
	config, err := p.client.TLS()
	must(t, err)
	var only http.Protocols
	only.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: config, Protocols: &only}
	defer transport.CloseIdleConnections()
	for _, version := range []int{0, agent.Version - 1, agent.Version + 1} {
		hello, err := json.Marshal(map[string]any{"version": version, "id": "one"})
		must(t, err)
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+p.addr+"/session", bytes.NewReader(hello))
		must(t, err)
		answer, err := transport.RoundTrip(r)
		must(t, err)
		said, err := io.ReadAll(answer.Body)
		must(t, errors.Join(err, answer.Body.Close()))
		if want := fmt.Sprintf("agent %d, program %d", agent.Version, version); answer.StatusCode == http.StatusOK || !strings.Contains(string(said), want) || !strings.Contains(string(said), `"version"`) {
			t.Errorf("program of version %d: status %d: %s, want %s", version, answer.StatusCode, said, want)
		}
	}
	must(t, p.connect(t).Close())
	if hint := inject.Hint(fmt.Errorf("open session: %w", agent.ErrVersion)); !strings.Contains(hint, "go generate") {
		t.Errorf("remedy %q", hint)
	}
}
