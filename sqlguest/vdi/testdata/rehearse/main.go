// Command rehearse is a client of SQL Server's Virtual Device Interface, for the
// test that runs it as a program for Windows: it saves backups into files or loads
// them, and prints as JSON what came of it. The statement is run by the
// other side of -control.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// Request is what the other side of -control is asked to run.
type Request struct {
	Restore  bool     `json:"restore"`
	Instance string   `json:"instance"`
	Names    []string `json:"names"`
}

// Reply is SQL Server's verdict.
type Reply struct {
	Outcome *server.Outcome `json:"outcome,omitempty"`
	Error   *server.Error   `json:"error,omitempty"`
}

// Result is what is printed.
type Result struct {
	Available bool            `json:"available"`
	Outcome   *server.Outcome `json:"outcome,omitempty"`
	Error     string          `json:"error,omitempty"`
	Result    uint32          `json:"result,omitempty"` // of the interface
	Aborted   string          `json:"aborted,omitempty"`
}

type options struct {
	act, control, dir string
	sets              int
	set               vdi.SetOptions
}

func main() {
	var o options
	flag.StringVar(&o.act, "act", "commit", "commit, abort, abort early, die or restore")
	flag.StringVar(&o.control, "control", "", "address of who runs statements")
	flag.StringVar(&o.dir, "dir", "", "directory of the files")
	flag.StringVar(&o.set.Instance, "instance", "", "instance")
	flag.StringVar(&o.set.Name, "name", "", "name of the set")
	flag.IntVar(&o.set.Devices, "devices", 1, "number of devices")
	flag.IntVar(&o.sets, "sets", 1, "number of sets at once; the second's name and directory end in -1, and so on")
	flag.Parse()
	r := Result{Available: vdi.Available() == nil}
	if err := o.runAll(&r); err != nil {
		r.Error = err.Error()
		var result vdi.Result
		if errors.As(err, &result) {
			r.Result = uint32(result)
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

func (o options) runAll(r *Result) error {
	results := make([]Result, o.sets)
	errs := make([]error, o.sets)
	var wg sync.WaitGroup
	for i := range o.sets {
		one := o
		if i > 0 {
			one.set.Name += fmt.Sprintf("-%d", i)
			one.dir += fmt.Sprintf("-%d", i)
		}
		wg.Go(func() { errs[i] = one.run(&results[i]) })
	}
	wg.Wait()
	r.Outcome, r.Aborted = results[0].Outcome, results[0].Aborted
	return errors.Join(errs...)
}

func (o options) run(r *Result) error {
	set, err := vdi.Open(o.set)
	if err != nil {
		return err
	}
	names := vdi.Names(o.set.Name, o.set.Devices)
	request := Request{Restore: o.act == "restore", Instance: o.set.Instance, Names: names}
	statement := func(ctx context.Context) (*server.Outcome, error) { return o.ask(ctx, request) }
	if request.Restore {
		r.Outcome, err = o.load(set, names, statement)
		return err
	}
	b, err := vdi.Save(context.Background(), set, names, statement, vdi.Options{BufferBytes: 1 << 16})
	if err != nil {
		return err
	}
	if err := o.take(b.Streams()); err != nil {
		return errors.Join(err, b.Abort(context.Background()))
	}
	switch o.act {
	case "abort":
		if err := b.Abort(context.Background()); err != nil {
			r.Aborted = err.Error()
		}
	case "die":
		os.Exit(7)
	default:
		r.Outcome, err = b.Commit(context.Background())
	}
	return err
}

// ask has the statement run; a cut connection ends it.
func (o options) ask(ctx context.Context, request Request) (*server.Outcome, error) {
	conn, err := net.Dial("tcp", o.control)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return nil, err
	}
	var reply Reply
	if err := json.NewDecoder(bufio.NewReader(conn)).Decode(&reply); err != nil {
		return nil, fmt.Errorf("await verdict: %w", err)
	}
	if reply.Error != nil {
		return nil, reply.Error
	}
	return reply.Outcome, nil
}

func (o options) file(device int) string {
	return filepath.Join(o.dir, fmt.Sprintf("device%d", device))
}

func (o options) take(streams []io.ReadCloser) error {
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for i, s := range streams {
		wg.Go(func() {
			if o.act == "abort early" {
				_, _ = io.CopyN(io.Discard, s, 1000)
				_ = s.Close()
				return
			}
			f, err := os.Create(o.file(i))
			if err != nil {
				errs[i] = errors.Join(err, s.Close())
				return
			}
			_, err = io.Copy(f, s)
			errs[i] = errors.Join(err, f.Close())
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (o options) load(set vdi.Set, names []string, statement vdi.Statement) (*server.Outcome, error) {
	var streams []io.Reader
	for i := range names {
		f, err := os.Open(o.file(i))
		if err != nil {
			return nil, errors.Join(err, set.Close())
		}
		defer func() { _ = f.Close() }()
		streams = append(streams, f)
	}
	return vdi.Load(context.Background(), set, names, streams, statement, vdi.Options{})
}
