// Command guest is the agent that is put into guests: program.Main as a program of its
// own, small, because it travels with every run.
//
//	holdfast-agent CONFIG
//
// CONFIG is read once and deleted; see program.Config. The program prints nothing: what
// it has to say lies beside its configuration, or goes over its session.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"holdfast/sqlguest/agent/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := program.Main(ctx, os.Args[1:], nil); err != nil {
		stop()
		os.Exit(1)
	}
}
