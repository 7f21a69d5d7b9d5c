// Command build builds the agent for each system that guests have, compresses it and
// writes it into a folder.
//
//	go run ./build FOLDER
//
// The same source gives the same bytes: paths and build times are left out.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"holdfast/sqlguest/agent/binary"
)

// systems are those that guests have.
var systems = []string{"windows", "linux"}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build agents:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: build FOLDER")
	}
	for _, system := range systems {
		if err := build(ctx, args[0], system); err != nil {
			return err
		}
	}
	return nil
}

// build builds one agent.
func build(ctx context.Context, folder, system string) error {
	scratch, err := os.MkdirTemp("", "agent-")
	if err != nil {
		return fmt.Errorf("make scratch directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	out := filepath.Join(scratch, "agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "holdfast/sqlguest/agent/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH=amd64")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build agent for %s: %w: %s", system, err, said.String())
	}
	program, err := os.ReadFile(out)
	if err != nil {
		return fmt.Errorf("read agent for %s: %w", system, err)
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return fmt.Errorf("pack agent for %s: %w", system, err)
	}
	defer func() { _ = e.Close() }()
	if err := os.WriteFile(filepath.Join(folder, binary.Name(system)), e.EncodeAll(program, nil), 0o644); err != nil {
		return fmt.Errorf("write agent for %s: %w", system, err)
	}
	return nil
}
