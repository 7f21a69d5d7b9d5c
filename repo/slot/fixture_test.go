package slot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/seal"
)

var day = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func keyFile(t testing.TB) seal.Secret {
	t.Helper()
	text, err := seal.NewKeyFile(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := seal.ParseKeyFile(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func over(be backend.Backend, ring *seal.Ring) *Keys {
	return &Keys{Backend: be, Ring: ring, Rand: rand.Reader, Now: func() time.Time { return day }}
}

// made is a store with a slot for each secret.
func made(t testing.TB, be backend.Backend, secrets ...seal.Secret) *Keys {
	t.Helper()
	ring, err := seal.NewRing(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := over(be, ring)
	for i, secret := range secrets {
		if _, err := k.First(t.Context(), New{Secret: secret, Label: fmt.Sprint("key ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func open(ctx context.Context, be backend.Backend, secret seal.Secret) (*Keys, error) {
	ring, id, err := Open(ctx, be, secret)
	if err != nil {
		return nil, err
	}
	k := over(be, ring)
	k.Opened(id)
	return k, nil
}

func opened(t testing.TB, be backend.Backend, secret seal.Secret) *Keys {
	t.Helper()
	k, err := open(t.Context(), be, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rotated(t testing.TB, k *Keys) *Rotated {
	t.Helper()
	done, err := k.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func names(t testing.TB, be backend.Backend, prefix string) []string {
	t.Helper()
	var all []string
	err := be.List(t.Context(), prefix, func(info backend.Info) error {
		all = append(all, info.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func object(t testing.TB, be backend.Backend, name string) []byte {
	t.Helper()
	data, err := be.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func plant(t testing.TB, be backend.Backend, name string, data []byte) {
	t.Helper()
	for _, place := range []string{name, ledger.Spare(name)} {
		if err := be.Put(t.Context(), place, data); err != nil {
			t.Fatal(err)
		}
	}
}

// wantTidy demands that no box of an undecided rotation, of a slot that is gone
// or without its spare remains.
func wantTidy(t testing.TB, be backend.Backend, k *Keys) {
	t.Helper()
	ids, err := IDs(t.Context(), be)
	if err != nil {
		t.Fatal(err)
	}
	all := names(t, be, ledger.Epochs)
	for _, name := range all {
		epoch, rotation, id, err := ledger.ParseBox(name)
		if err != nil {
			continue
		}
		d, err := decision(t.Context(), be, k.Ring, epoch)
		if err != nil || d.Rotation != rotation || !slices.Contains(ids, id) {
			t.Errorf("%s remains: %v", name, err)
		}
	}
	if spares := names(t, be, ledger.Spare(ledger.Epochs)); len(spares) != len(all) {
		t.Errorf("%d objects below epochs/, %d spares", len(all), len(spares))
	}
}

func luck(seed uint64) *mrand.Rand { return mrand.New(mrand.NewPCG(seed, 7)) }

func clone(be *mem.Backend) *mem.Backend { return be.CrashClone(mem.CrashOptions{}) }

func wantClosed(t testing.TB, be backend.Backend, secret seal.Secret, want error) {
	t.Helper()
	if k, err := open(t.Context(), be, secret); !errors.Is(err, want) {
		t.Helper()
		t.Errorf("it opens, or for another reason not: %v %v", k != nil, err)
	}
}

func contains(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}

// whenStat calls do once, before that name is asked for.
type whenStat struct {
	backend.Backend
	name string
	do   func()
}

func (w *whenStat) Stat(ctx context.Context, name string) (backend.Info, error) {
	if do := w.do; do != nil && name == w.name {
		w.do = nil
		do()
	}
	return w.Backend.Stat(ctx, name)
}
