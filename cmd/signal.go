package cmd

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// requests are the signals that ask a run to stop: whatever else ended it would
// leave a snapshot behind. A hang-up that is ignored already (nohup) stays ignored.
func requests() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// listen acts on requests to stop until the returned function is called, which
// waits for it to end. The first calls cancel: the command stops and cleans
// up, removing snapshots for instance. The second only says that this is going
// on, since impatience must not leave a snapshot on a VM. The third calls
// abandon.
func listen(signals <-chan os.Signal, a *app, cancel, abandon func()) (stop func()) {
	release := func() {}
	if signals == nil {
		own := make(chan os.Signal, 3)
		signal.Notify(own, requests()...)
		release = func() { signal.Stop(own) }
		signals = own
	}
	quit := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-quit:
				return
			case <-signals:
			}
			switch n {
			case 1:
				a.screen.Load().Warn("interrupted: cleaning up, please wait")
				cancel()
			case 2:
				a.screen.Load().Warn("still cleaning up; a third time leaves at once, and may leave a snapshot behind")
			default:
				a.screen.Load().Warn("left without cleaning up: holdfast vm cleanup removes what stays behind")
				abandon()
				return
			}
		}
	})
	return func() { release(); close(quit); running.Wait() }
}
