package agent

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"holdfast/sqlguest/server"
)

// FuzzCell: what is understood says the same when it is said again.
func FuzzCell(f *testing.F) {
	for _, s := range []string{"null", "1", `"x"`, "true", `{"float":"NaN"}`, `{"float":"1e300"}`, `{"bytes":"AA=="}`, `{}`, "[1]", "1.5", "99999999999999999999", `{"bytes":"","float":"1"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b cell
		if json.Unmarshal(data, &a) != nil {
			return
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &b); err != nil {
			t.Fatal(err)
		}
		if n, ok := a.v.(float64); ok && n != n {
			return
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%#v became %#v", a, b)
		}
	})
}

// FuzzTrailer: no end of a stream is taken for a good one, or panics.
func FuzzTrailer(f *testing.F) {
	f.Add(wireFailure(&server.Error{All: []server.Message{{Number: 3202, Text: "ü\n"}}}).trailer())
	f.Add(`"{}"`)
	f.Add("eof")
	f.Fuzz(func(t *testing.T, line string) {
		if readTrailer(line) == nil {
			t.Fatal("a failure became none")
		}
	})
}

func TestFailuresKeepTheirIdentity(t *testing.T) {
	for name, s := range sentinels {
		err := readTrailer(wireFailure(errors.Join(errors.New("before"), s)).trailer())
		if !errors.Is(err, s) || !strings.Contains(err.Error(), "before") {
			t.Errorf("%s came back as %v", name, err)
		}
	}
	long := readTrailer(wireFailure(errors.Join(server.ErrAborted, errors.New(strings.Repeat("ü", maxTrailer)))).trailer())
	if !errors.Is(long, server.ErrAborted) {
		t.Errorf("a long failure came back as %v", long)
	}
}

// TestBodyWithoutTrailerIsCut: a response that ends in order and does not say that
// this was all.
func TestBodyWithoutTrailerIsCut(t *testing.T) {
	s := &incoming{answer: &http.Response{}}
	if err := s.end(io.EOF); !errors.Is(err, ErrCut) {
		t.Errorf("end of stream: %v", err)
	}
}

// TestFeedWithoutTrailerIsCut: a RESTORE must not take the rest of a cut stream for
// its end.
func TestFeedWithoutTrailerIsCut(t *testing.T) {
	from, to := io.Pipe()
	n := &session{restores: map[string]*loading{"x": {pipes: []*io.PipeWriter{to}, fed: map[int]bool{}}}}
	got := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(from)
		got <- err
	}()
	r := httptest.NewRequest("PUT", "/restore/x/0", strings.NewReader("half a backup"))
	r.SetPathValue("id", "x")
	r.SetPathValue("n", "0")
	n.feed(httptest.NewRecorder(), r)
	if err := <-got; !errors.Is(err, ErrCut) {
		t.Errorf("the restore read %v", err)
	}
}

// TestRequestsOfAnotherSessionAreRefused: what a client sends late, whose session has
// ended, must not reach the next one's.
func TestRequestsOfAnotherSessionAreRefused(t *testing.T) {
	s := &service{session: &session{id: "next"}}
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/query", nil)
	r.Header.Set(headerSession, "last")
	s.within(func(*session, http.ResponseWriter, *http.Request) { t.Error("the request was let in") })(w, r)
	if w.Code == http.StatusOK {
		t.Error("the request was answered well")
	}
}
