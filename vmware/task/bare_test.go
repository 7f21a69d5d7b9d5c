package task

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
)

func TestAddressesOfFilesAreInNoError(t *testing.T) {
	sent := &url.Error{Op: "Put", URL: "https://esx1:8443/guestFile?id=vm-34&token=canary", Err: context.Canceled}
	got := Bare(fmt.Errorf("send: %w", sent))
	if got.Error() != `Put "https://esx1:8443": context canceled` || !errors.Is(got, context.Canceled) {
		t.Error(got)
	}
	if got := Bare(ErrNoSpace); got != ErrNoSpace || Bare(nil) != nil {
		t.Error(got)
	}
}
