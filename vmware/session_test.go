package vmware_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware"
	"holdfast/vmware/lab"
)

func TestConnect(t *testing.T) {
	b := newBench(t, lab.Options{})
	sha256, sha1 := b.lab.Thumbprint()
	url, user, password := b.lab.URL().String(), b.lab.User(), []byte(b.lab.Password())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	nobody := "https://" + closed.Addr().String()
	must(t, closed.Close())
	for _, c := range []struct {
		name string
		opt  vmware.Options
		want error
	}{
		{"SHA-256", vmware.Options{URL: url, User: user, Password: password, Thumbprint: sha256}, nil},
		{"SHA-1", vmware.Options{URL: url, User: user, Password: password, Thumbprint: sha1}, nil},
		{"lower case without colons", vmware.Options{URL: url, User: user, Password: password, Thumbprint: strings.ToLower(strings.ReplaceAll(sha256, ":", ""))}, nil},
		{"insecure", vmware.Options{URL: url, User: user, Password: password, Insecure: true}, nil},
		{"user in url", vmware.Options{URL: strings.Replace(url, "://", "://"+strings.ReplaceAll(user, "@", "%40")+":"+string(password)+"@", 1), Insecure: true}, nil},
		{"not trusted", vmware.Options{URL: url, User: user, Password: password}, vmware.ErrCertificate},
		{"other pin", vmware.Options{URL: url, User: user, Password: password, Thumbprint: strings.Repeat("00:", 31) + "00"}, vmware.ErrCertificate},
		{"other pin, insecure", vmware.Options{URL: url, User: user, Password: password, Thumbprint: strings.Repeat("00", 20), Insecure: true}, vmware.ErrCertificate},
		{"wrong password", vmware.Options{URL: url, User: user, Password: []byte("s3cret-canary"), Insecure: true}, vmware.ErrLogin},
		{"nobody there", vmware.Options{URL: nobody, User: user, Password: []byte("s3cret-canary")}, vmware.ErrUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := vmware.Connect(b.ctx, c.opt)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil {
				must(t, s.Close())
			} else if strings.Contains(fmt.Sprintf("%v %+v", err, err), "s3cret") {
				t.Fatalf("the password is in %v", err)
			}
		})
	}
	for _, bad := range []vmware.Options{{URL: ""}, {URL: "https://u:s3cret@h:x/"}, {URL: url, Thumbprint: "zz"}, {URL: url, CAFile: filepath.Join(t.TempDir(), "none")}} {
		if _, err := vmware.Connect(b.ctx, bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Fatalf("%+v: %v", bad, err)
		}
	}
}

func TestCAFile(t *testing.T) {
	b := newBench(t, lab.Options{})
	conn, err := (&http.Client{Transport: b.session.Client().DefaultTransport()}).Get(b.lab.URL().String())
	must(t, err)
	defer conn.Body.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.TLS.PeerCertificates[0].Raw}), 0o600))
	s, err := vmware.Connect(b.ctx, vmware.Options{URL: b.lab.URL().String(), User: b.lab.User(), Password: []byte(b.lab.Password()), CAFile: file})
	must(t, err)
	must(t, s.Close())
}

func TestCloseLogsOut(t *testing.T) {
	b := newBench(t, lab.Options{})
	before := b.lab.Counts().Sessions
	for range 3 {
		s, err := vmware.Connect(b.ctx, vmware.Options{URL: b.lab.URL().String(), User: b.lab.User(), Password: []byte(b.lab.Password()), Insecure: true})
		must(t, err)
		must(t, s.Close())
	}
	if now := b.lab.Counts().Sessions; now != before {
		t.Fatalf("%d sessions are left of 3", now-before)
	}
	if before != 1 {
		t.Fatalf("the bench has %d sessions", before)
	}
}

// A session is kept alive by itself: with a server that forgets after a second, no
// login is needed again, since it is touched more often.
func TestKeepAliveTouchesTheServer(t *testing.T) {
	b := newBench(t, lab.Options{})
	s := b.connect(vmware.Options{KeepAlive: time.Millisecond})
	before := b.lab.Counts().Calls["CurrentTime"]
	for b.lab.Counts().Calls["CurrentTime"] < before+3 {
		if b.ctx.Err() != nil {
			t.Fatal("the server was not touched")
		}
		_, err := s.VMs(b.ctx)
		must(t, err)
	}
}

func TestExpiredSessionLogsInOnceForAll(t *testing.T) {
	b := newBench(t, lab.Options{})
	b.web01()
	b.lab.ExpireSessions()
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := methods.GetCurrentTime(b.ctx, b.session.Client())
			if err == nil {
				_, err = b.session.VMs(b.ctx)
			}
			errs <- err
		}()
	}
	for range 8 {
		must(t, <-errs)
	}
	if n := b.session.Logins(); n != 2 {
		t.Fatalf("%d logins, want 2", n)
	}
}

func TestCancelledCallReturnsAtOnce(t *testing.T) {
	b := newBench(t, lab.Options{})
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	if _, err := b.session.VMs(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	b := newBench(t, lab.Options{Password: "s3cret-canary"})
	var log bytes.Buffer
	s := b.connect(vmware.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	b.lab.ExpireSessions()
	_, err := s.VMs(b.ctx)
	must(t, err)
	if log.Len() == 0 || strings.Contains(log.String(), "s3cret") {
		t.Fatalf("log is %q", log.String())
	}
}

func TestFindVM(t *testing.T) {
	b := newBench(t, lab.Options{})
	for _, spec := range []lab.VMSpec{{Name: "web01"}, {Name: "web02"}, {Name: "twin", Folder: "a"}, {Name: "twin", Folder: "b"}} {
		_, err := b.lab.AddVM(spec)
		must(t, err)
	}
	web := b.find("web01")
	for _, name := range []string{web.InstanceUUID, strings.ToUpper(web.InstanceUUID), web.Ref.Value, web.Path, "vm/web01", "DC0/vm/web01"} {
		if got := b.find(name); got.Ref != web.Ref {
			t.Fatalf("%q found %s", name, got.Path)
		}
	}
	if got := b.find("a/twin"); got.Path != "/DC0/vm/a/twin" {
		t.Fatalf("found %s", got.Path)
	}
	_, err := b.session.FindVM(b.ctx, "twin")
	if !errors.Is(err, vmware.ErrAmbiguous) || !strings.Contains(err.Error(), "/DC0/vm/a/twin, /DC0/vm/b/twin") {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{"wbe01", "WEB01", "eb01"} {
		if _, err := b.session.FindVM(b.ctx, name); !errors.Is(err, vmware.ErrNotFound) || !strings.Contains(err.Error(), "web01") {
			t.Fatalf("%q: %v", name, err)
		}
	}
	if _, err := b.session.FindVM(b.ctx, ""); !errors.Is(err, vmware.ErrNotFound) {
		t.Fatalf("empty: %v", err)
	}
}

func TestSelect(t *testing.T) {
	b := newBench(t, lab.Options{})
	for _, spec := range []lab.VMSpec{{Name: "web01", Folder: "prod/web"}, {Name: "web02", Folder: "prod/web"}, {Name: "db01", Folder: "prod"}, {Name: "test", Folder: "lab"}} {
		_, err := b.lab.AddVM(spec)
		must(t, err)
	}
	for _, c := range []struct {
		sel  vmware.Selection
		want string
	}{
		{vmware.Selection{All: true}, "test db01 web01 web02"},
		{vmware.Selection{Folders: []string{"prod"}}, "db01 web01 web02"},
		{vmware.Selection{Folders: []string{"/DC0/vm/prod/web"}}, "web01 web02"},
		{vmware.Selection{Folders: []string{"prod/we"}}, ""},
		{vmware.Selection{All: true, Exclude: []string{"web*"}}, "test db01"},
		{vmware.Selection{All: true, Exclude: []string{"/DC0/vm/prod/*"}}, "test web01 web02"},
		{vmware.Selection{Names: []string{"db01", "test"}}, "test db01"},
		{vmware.Selection{Names: []string{"db01"}, Folders: []string{"prod"}}, "db01 web01 web02"},
		{vmware.Selection{}, ""},
	} {
		vms, err := b.session.Select(b.ctx, c.sel)
		must(t, err)
		var names []string
		for _, vm := range vms {
			names = append(names, vm.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Fatalf("%+v: %q, want %q", c.sel, got, c.want)
		}
	}
	for _, sel := range []vmware.Selection{{Names: []string{"none"}}, {All: true, Exclude: []string{"["}}} {
		if _, err := b.session.Select(b.ctx, sel); err == nil {
			t.Fatalf("%+v: no error", sel)
		}
	}
}

func TestCBTCommands(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01(func(s *lab.VMSpec) { s.Disks[1].Independent = true })
	opt := vmware.CBTOptions{Run: b.options().Run, Retry: fast}
	st, err := b.session.CBTStatus(b.ctx, found)
	must(t, err)
	if st.Enabled || !st.Supported || len(st.Disks) != 2 || st.Disks[1].Reason == "" {
		t.Fatalf("%+v", st)
	}
	must(t, b.session.CBTEnable(b.ctx, found, opt))
	must(t, b.session.CBTEnable(b.ctx, found, opt))
	if st, _ = b.session.CBTStatus(b.ctx, found); !st.Enabled || !st.Disks[0].Tracked || st.Disks[1].Tracked {
		t.Fatalf("%+v", st)
	}
	b.clean(found)
	b.userSnapshot(found)
	if err := b.session.CBTReset(b.ctx, found, opt); !errors.Is(err, vmware.ErrHasSnapshots) {
		t.Fatalf("got %v", err)
	}
}

// losing delivers a call and loses its answer, once.
type losing struct {
	soap.RoundTripper
	lost bool
}

func (l *losing) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	err := l.RoundTripper.RoundTrip(ctx, req, res)
	if _, ok := req.(*methods.CreateSnapshotEx_TaskBody); ok && !l.lost {
		l.lost = true
		return fmt.Errorf("connection reset: %w", vmware.ErrUnreachable)
	}
	return err
}

// The answer to the request for a snapshot is lost; the snapshot appears all the
// same, and must go.
func TestLostAnswerLeavesNoSnapshot(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.backup(found, nil)
	c := b.session.Client()
	c.RoundTripper = &losing{RoundTripper: c.RoundTripper}
	if _, err := b.try(b.ctx, found, nil, b.options(), nil); !errors.Is(err, vmware.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	b.clean(found)
	if n := b.lab.Counts().Calls["RemoveSnapshot_Task"]; n != 3 { // tracking enabled, first backup, this one
		t.Fatalf("%d removals", n)
	}
}

func TestFailedSnapshotTaskLeavesNothing(t *testing.T) {
	b := newBench(t, lab.Options{})
	_, found := b.web01()
	b.lab.FailSOAP(lab.SOAPFault{Method: "CreateSnapshotEx_Task", InTask: true, Fault: &types.NoDiskSpace{}})
	if _, err := b.try(b.ctx, found, nil, b.options(), nil); err == nil {
		t.Fatal("no error")
	}
	b.clean(found)
}

func TestPrivileges(t *testing.T) {
	b := newBench(t, lab.Options{})
	for _, role := range []string{vmware.RoleBackup, vmware.RoleRestore, vmware.RoleGuest} {
		missing, err := b.session.MissingPrivileges(b.ctx, role, b.session.Client().ServiceContent.RootFolder)
		must(t, err)
		if len(missing) != 0 {
			t.Fatalf("the laboratory's administrator lacks %v", missing)
		}
	}
	if _, err := vmware.Privileges("root"); !errors.Is(err, vmware.ErrRole) {
		t.Fatal(err)
	}
}

// TestInterruptionIsNoBrokenNetwork: what a cancelled call says is why it was cancelled.
func TestInterruptionIsNoBrokenNetwork(t *testing.T) {
	b := newBench(t, lab.Options{})
	ctx, cancel := context.WithCancelCause(b.ctx)
	why := errors.New("interrupted")
	cancel(why)
	_, err := vmware.Connect(ctx, vmware.Options{URL: b.lab.URL().String(), User: b.lab.User(), Password: []byte(b.lab.Password()), Insecure: true})
	if !errors.Is(err, why) || errors.Is(err, vmware.ErrUnreachable) || strings.Contains(err.Error(), "Post") {
		t.Errorf("connect: %v", err)
	}
	if _, err := methods.GetCurrentTime(ctx, b.session.Client()); !errors.Is(err, why) || errors.Is(err, vmware.ErrUnreachable) {
		t.Errorf("call: %v", err)
	}
}
