//go:build !linux

package local

import (
	"context"
	"errors"
)

func playFullDisk(context.Context, string) error { return errors.ErrUnsupported }
