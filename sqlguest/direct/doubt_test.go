package direct_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"testing"

	"holdfast/sqlguest/direct"
	"holdfast/sqlguest/server"
)

// TestSQL16HistoryThatCannotBeWritten: SQL Server raises 3009 with the severity of an
// error, and has made the backup all the same. It is a success, by every transport, and
// an abort keeps the only copy.
func TestSQL16HistoryThatCannotBeWritten(t *testing.T) {
	for _, transport := range []string{server.Disk, server.VDI} {
		t.Run(transport, func(t *testing.T) {
			l, s := laboratory(t)
			backUp(t, s, statement("BACKUP DATABASE [d] TO %s", transport))
			l.LoseMSDB(true)
			before := lastLog(t, s)
			b, err := s.Backup(t.Context(), statement("BACKUP LOG [d] TO %s", transport))
			must(t, err)
			read(t, b)
			outcome, err := b.Commit(t.Context())
			if err != nil || !outcome.Has(3009) || !outcome.Has(3014) {
				t.Errorf("commit: %v, %+v", err, outcome)
			}
			if reflect.DeepEqual(before, lastLog(t, s)) {
				t.Error("the laboratory did not truncate: this test shows nothing")
			}
		})
	}
	l, s := laboratory(t)
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.Disk))
	l.LoseMSDB(true)
	b, err := s.Backup(t.Context(), statement("BACKUP LOG [d] TO %s", server.Disk))
	must(t, err)
	read(t, b)
	var kept *direct.Kept
	if err := b.Abort(t.Context()); !errors.As(err, &kept) {
		t.Fatalf("abort: %v", err)
	}
	if _, err := os.Stat(kept.Files[0]); err != nil {
		t.Error(err)
	}
}

// TestSQL16GaveUp: what proves that SQL Server did not make a backup.
func TestSQL16GaveUp(t *testing.T) {
	said := func(numbers ...int32) error {
		e := &server.Error{}
		for _, n := range numbers {
			e.All = append(e.All, server.Message{Number: n, Severity: 16})
		}
		return e
	}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"refused":                  {said(911, 3013), true},
		"device failed":            {said(3202, 3013), true},
		"killed":                   {said(596), false},
		"killed, and severe":       {said(596, 0), false},
		"deadlock":                 {said(1205), false},
		"connection lost":          {said(64), false},
		"nobody knows what":        {said(0), false},
		"killed, but given up":     {said(3204, 3013, 596), true},
		"made, history not":        {said(3009, 3013), false},
		"made, and something else": {said(3014, 802), false},
		"cut after a word":         {errors.Join(said(3043), io.ErrUnexpectedEOF), false},
		"cut":                      {io.ErrUnexpectedEOF, false},
		"silent":                   {direct.ErrSilent, false},
		"interrupted":              {context.Canceled, false},
	} {
		if got := direct.GaveUp(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// gateway forwards connections, and can lose its own clients without telling the server.
type gateway struct {
	mu      sync.Mutex
	clients []net.Conn
}

func (g *gateway) listen(t *testing.T, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	var servers []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			g.mu.Lock()
			g.clients, servers = append(g.clients, c), append(servers, d)
			g.mu.Unlock()
			all.Go(func() { _, _ = io.Copy(d, c) }) // its end closes nothing: half open
			all.Go(func() { _, _ = io.Copy(c, d) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		g.mu.Lock()
		for i := range servers {
			_, _ = g.clients[i].Close(), servers[i].Close()
		}
		g.mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// lose resets the newest connection towards its client.
func (g *gateway) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[len(g.clients)-1]
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// TestSQL16ServerGoesOnBehindACutConnection: a firewall forgets the statement's
// connection, msdb has no row, and SQL Server finishes later: the file is kept.
func TestSQL16ServerGoesOnBehindACutConnection(t *testing.T) {
	l, here := laboratory(t)
	dir := backupDirectory(t, l, here)
	var g gateway
	s, err := direct.Open(t.Context(), direct.Options{Address: g.listen(t, l.Address()), User: "sa", Password: password})
	must(t, err)
	defer s.Close()
	backUp(t, s, statement("BACKUP DATABASE [d] TO %s", server.Disk))
	before := lastLog(t, here)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.BreakDevice(func(ctx context.Context, _ string, _ int64) error {
		once.Do(func() { close(reached) })
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	b, err := s.Backup(t.Context(), statement("BACKUP LOG [d] TO %s", server.Disk))
	must(t, err)
	<-reached
	g.lose()
	if _, err := io.ReadAll(b.Streams()[0]); err == nil {
		t.Error("the stream ended well")
	}
	var kept *direct.Kept
	if err := b.Abort(t.Context()); !errors.As(err, &kept) || !kept.Unknown {
		t.Errorf("abort: %v", err)
	}
	close(goOn)
	for reflect.DeepEqual(before, lastLog(t, here)) { // until the server has finished
		must(t, t.Context().Err())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%d files are left of a truncated log: %v", len(files), err)
	}
}
