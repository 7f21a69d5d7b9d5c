package vdi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"holdfast/sqlguest/server"
)

// ErrUnused: the statement ended well without having touched its devices.
var ErrUnused = errors.New("statement ended without using its virtual devices")

// Statement runs the BACKUP or RESTORE that uses the set, and returns what SQL
// Server said about it: a *server.Error if it failed. It returns soon after ctx
// has ended.
type Statement func(ctx context.Context) (*server.Outcome, error)

// Options of Save and Load.
type Options struct {
	// BufferBytes is how much of each device is kept between SQL Server and a
	// slower reader; 0 is 4 MiB.
	BufferBytes int
	// Logger is told what SQL Server asked for; nil for nobody.
	Logger *slog.Logger
}

func (o Options) bufferBytes() int {
	if o.BufferBytes <= 0 {
		return 4 << 20
	}
	return o.BufferBytes
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// poll is how long one call waits inside the interface. Abort wakes it; this is
// the second line, should the other side have died without a word.
const poll = 500 * time.Millisecond

// operation is a statement together with the set that it uses.
type operation struct {
	set     Set
	devices []Device
	config  Config
	log     *slog.Logger
	// failed is told of the first failure, once.
	failed func(error)

	cancel context.CancelFunc // of the statement
	ended  chan struct{}      // the statement has returned; outcome and verdict stand
	gaveUp chan struct{}      // the first failure has happened; cause stands
	settle chan struct{}      // everything has come to its end

	outcome *server.Outcome
	verdict error

	mu    sync.Mutex
	cause error

	closing  sync.Mutex // guards the set against an Abort beside or after its Close
	isClosed bool
}

// abortSet tells both sides to give up, as long as there is a set.
func (p *operation) abortSet() {
	p.closing.Lock()
	defer p.closing.Unlock()
	if p.isClosed {
		return
	}
	if err := p.set.Abort(); err != nil {
		p.log.Debug("set not aborted", "error", err)
	}
}

func (p *operation) closeSet() {
	p.closing.Lock()
	defer p.closing.Unlock()
	p.isClosed = true
	if err := p.set.Close(); err != nil {
		p.log.Debug("set not closed in order", "error", err)
	}
}

// begin starts the statement, waits until SQL Server has configured the set and
// opens its devices. If that fails, everything has ended.
func begin(ctx context.Context, set Set, names []string, run Statement, o Options) (*operation, error) {
	p := &operation{
		set: set, log: o.logger(), failed: func(error) {},
		ended: make(chan struct{}), gaveUp: make(chan struct{}), settle: make(chan struct{}),
	}
	runCtx, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	go func() {
		defer close(p.ended)
		p.outcome, p.verdict = run(runCtx)
	}()
	err := p.configure(ctx)
	if err == nil {
		err = p.open(names)
	}
	if err == nil {
		return p, nil
	}
	p.fail(err)
	if errors.Is(err, ErrAbort) {
		p.awaitVerdict()
	}
	// SQL Server may never have heard of the set: the statement waits for a lock,
	// say. The set's abort would not reach it then.
	cancel()
	<-p.ended
	p.closeSet()
	return nil, p.explain()
}

// awaitVerdict gives a statement whose side has given up the moment to say why.
func (p *operation) awaitVerdict() {
	select {
	case <-p.ended:
	case <-time.After(poll):
	}
}

// configure races the set's configuration against the statement's failure: a
// statement that fails early never connects.
func (p *operation) configure(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.abortSet)
	defer stop()
	done := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-p.ended:
			p.abortSet()
		case <-done:
		}
	}()
	defer func() { close(done); <-watching }()
	for {
		config, err := p.set.Configuration(poll)
		if over := p.endedEarly(ctx); over != nil {
			return over
		}
		if errors.Is(err, ErrTimeout) {
			continue
		}
		if errors.Is(err, ErrAbort) {
			// SQL Server's side gave up; its reason is the statement's.
			select {
			case <-p.ended:
				return p.statementEnded()
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("get the device set's configuration: %w", err)
		}
		p.config = config
		p.log.Debug("set configured", "features", fmt.Sprintf("0x%x", config.Features), "block", config.BlockSize, "transfer", config.MaxTransferSize)
		return nil
	}
}

func (p *operation) endedEarly(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.statementEnded()
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// statementEnded is why a statement that has ended is a failure here.
func (p *operation) statementEnded() error {
	if p.verdict != nil {
		return p.verdict
	}
	return ErrUnused
}

func (p *operation) open(names []string) error {
	for _, name := range names {
		d, err := p.set.OpenDevice(name)
		if err != nil {
			return fmt.Errorf("open virtual device %s: %w", name, err)
		}
		p.devices = append(p.devices, d)
	}
	return nil
}

// fail keeps the first cause and makes both sides give up.
func (p *operation) fail(cause error) {
	p.mu.Lock()
	first := p.cause == nil
	if first {
		p.cause = cause
		close(p.gaveUp)
	}
	p.mu.Unlock()
	if first {
		p.abortSet()
		p.failed(cause)
	}
}

func (p *operation) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// explain joins our cause, which is the root, with SQL Server's words. It is
// called when the statement has ended.
func (p *operation) explain() error {
	cause := p.why()
	var said *server.Error
	isSaid := errors.As(p.verdict, &said)
	switch {
	case cause == nil, isSaid && errors.Is(cause, ErrAbort):
		return p.verdict
	case isSaid && !errors.Is(cause, error(said)):
		return fmt.Errorf("%w; then SQL Server: %w", cause, p.verdict)
	default:
		return cause
	}
}

// watch fails the operation when ctx ends, or when the statement has failed while
// its devices wait for something else.
func (p *operation) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
		p.fail(context.Cause(ctx))
	case <-p.settle:
		return
	case <-p.ended:
		if p.verdict != nil {
			p.fail(p.verdict)
		}
	}
	<-p.settle
}

// serve runs answer over each device's commands until all have ended, closes the
// set, awaits the statement and says so by settle. finish comes before that.
func (p *operation) serve(ctx context.Context, answer func(device int, c *Command) (Completion, uint32), closed func(device int) error, finish func()) {
	var loops sync.WaitGroup
	for i, d := range p.devices {
		loops.Go(func() {
			if err := p.loop(i, d, answer, closed); err != nil {
				p.fail(err)
			}
		})
	}
	var watching sync.WaitGroup
	watching.Go(func() { p.watch(ctx) })
	go func() {
		loops.Wait()
		p.closeSet()
		<-p.ended
		p.cancel()
		finish()
		close(p.settle)
		watching.Wait()
	}()
}

// loop answers one device. A thread of its own, because the interface waits inside
// of calls, alertably.
func (p *operation) loop(i int, d Device, answer func(int, *Command) (Completion, uint32), closed func(int) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		c, err := d.Next(poll)
		switch {
		case errors.Is(err, ErrTimeout):
			if p.isOver() {
				return closed(i)
			}
			continue
		case errors.Is(err, ErrClose):
			return closed(i)
		case errors.Is(err, ErrAbort):
			return p.aborted()
		case err != nil:
			return fmt.Errorf("get command of virtual device %d: %w", i, err)
		}
		code, n := answer(i, c)
		p.log.Debug("command answered", "device", i, "command", uint32(c.Code), "size", c.Size, "answer", uint32(code))
		switch err := d.Complete(c, code, n, 0); {
		case errors.Is(err, ErrAbort):
			return p.aborted()
		case err != nil:
			return fmt.Errorf("complete command of virtual device %d: %w", i, err)
		}
	}
}

// isOver tells whether the statement has ended.
func (p *operation) isOver() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// aborted is the cause when a device says that the set was aborted: ours if we
// have one, else the statement's, which is about to end.
func (p *operation) aborted() error {
	select {
	case <-p.gaveUp:
		return p.why()
	case <-p.ended:
		if p.verdict != nil {
			return p.verdict
		}
		return ErrAbort
	}
}
