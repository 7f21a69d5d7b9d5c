package repo_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/pack"
	"holdfast/repo/seal"
)

// TestLedgerThatLostItsEndIsMissed by whatever was made under it, be it packs, one
// manifest or an attempt alone: nobody builds on the entry before, and all restores. Once
// the entry is back, everybody goes on.
func TestLedgerThatLostItsEndIsMissed(t *testing.T) {
	old := noise(2, 200_000) // what pruned has made last
	for what, make := range map[string]func(*testing.T, *repo.Repository){
		"data":          func(t *testing.T, r *repo.Repository) { makePoint(t, r, "image/a", noise(8, 200_000)) },
		"a manifest":    func(t *testing.T, r *repo.Repository) { makePoint(t, r, "image/a", old) },
		"a new source":  func(t *testing.T, r *repo.Repository) { makePoint(t, r, "image/b", old) },
		"a forgotten":   func(t *testing.T, r *repo.Repository) { makePoint(t, r, "image/a", old); forgetOldest(t, r) },
		"a vain effort": func(t *testing.T, r *repo.Repository) { begin(t, r, "image/c").Abort() },
	} {
		t.Run(what, func(t *testing.T) {
			be, secret, newest := pruned(t)
			r := openAt(t, be, secret)
			make(t, r)
			points, _, err := r.Points(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			entry := object(t, be, newest)
			damage(t, be, newest, remove)
			damage(t, be, ledger.Spare(newest), remove)
			wantNoWriter(t, be, secret)

			fresh := openAt(t, be, secret)
			if again, _, err := fresh.Points(t.Context()); err != nil || len(again) != len(points) {
				t.Errorf("%d of %d points: %v", len(again), len(points), err)
			}
			for _, e := range points {
				if _, err := read(t.Context(), fresh, e.Point); err != nil {
					t.Errorf("point %s: %v", e.ID, err)
				}
			}
			rep := check(t, fresh)
			wantVerdict(t, rep, pack.ErrDamaged)
			if len(rep.Findings) != 1 || rep.Findings[0].Object != newest {
				t.Errorf("check: %+v", rep.Findings)
			}

			if err := be.Put(t.Context(), newest, entry); err != nil {
				t.Fatal(err)
			}
			makePoint(t, fresh, "image/a", noise(9, 100_000))
			fresh = openAt(t, be, secret)
			if _, err := fresh.Prune(t.Context(), repo.PruneOptions{}); err != nil {
				t.Fatal(err)
			}
			wantVerdict(t, check(t, fresh), nil)
		})
	}
}

func begin(t *testing.T, r *repo.Repository, source string) *repo.Session {
	t.Helper()
	s, err := r.Begin(t.Context(), source, source)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantNoWriter: neither a backup, of whatever source, nor a prune, nor a dry one.
func wantNoWriter(t *testing.T, be *mem.Backend, secret seal.Secret) {
	t.Helper()
	before := names(t, be, "")
	for _, source := range []string{"image/a", "image/d"} {
		if _, err := tryPoint(t.Context(), openAt(t, be, secret), source, noise(7, 100_000)); !errors.Is(err, repo.ErrLedger) || !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("backup of %s: %v", source, err)
		}
	}
	for _, dry := range []bool{true, false} {
		if _, err := openAt(t, be, secret).Prune(t.Context(), repo.PruneOptions{DryRun: dry}); !errors.Is(err, repo.ErrLedger) {
			t.Errorf("prune: %v", err)
		}
	}
	if after := names(t, be, ""); !slices.Equal(before, after) {
		t.Errorf("%d objects have become %d: %v", len(before), len(after), after)
	}
}

// TestEntryJustWrittenIsNoLostEnd: another process has written it and backed up under it,
// and no listing shows the ledger yet.
func TestEntryJustWrittenIsNoLostEnd(t *testing.T) {
	r, be, secret := newRepo(t)
	makePoint(t, r, "image/a", noise(1, 200_000))
	late := openAt(t, &hider{Backend: be, hidden: []string{ledger.Ledgers, ledger.Spare(ledger.Ledgers)}}, secret)
	for day := range uint64(3) {
		if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		makePoint(t, r, "image/a", noise(2+day, 200_000))
		s := begin(t, r, "image/c") // under way
		wantVerdict(t, check(t, late), nil)
		makePoint(t, late, "image/b", noise(2+day, 200_000))
		s.Abort()
	}
	if _, err := late.Prune(t.Context(), repo.PruneOptions{}); err != nil {
		t.Error(err)
	}
}

// meddler lets another process act, once, right before a request for names that begin
// with a prefix is answered.
type meddler struct {
	backend.Backend
	prefix string
	once   sync.Once
	act    func()
}

func (m *meddler) meddle(name string) {
	if strings.HasPrefix(name, m.prefix) {
		m.once.Do(m.act)
	}
}

func (m *meddler) List(ctx context.Context, prefix string, fn func(backend.Info) error) error {
	m.meddle(prefix)
	return m.Backend.List(ctx, prefix, fn)
}

func (m *meddler) Stat(ctx context.Context, name string) (backend.Info, error) {
	m.meddle(name)
	return m.Backend.Stat(ctx, name)
}

// TestEntryWrittenMeanwhileIsNoLostEnd: between a look at the ledger and a look at anything
// else another process has pruned, backed up, and begun once more.
func TestEntryWrittenMeanwhileIsNoLostEnd(t *testing.T) {
	for _, prefix := range []string{ledger.Sessions, ledger.Commits, ledger.Indexes, ledger.Forgets} {
		for what, run := range map[string]func(*testing.T, *repo.Repository){
			"backup": func(t *testing.T, r *repo.Repository) { makePoint(t, r, "image/a", noise(5, 100_000)) },
			"prune": func(t *testing.T, r *repo.Repository) {
				if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
					t.Error(err)
				}
			},
			"check": func(t *testing.T, r *repo.Repository) { wantVerdict(t, check(t, r), nil) },
		} {
			t.Run(what+" "+prefix, func(t *testing.T) {
				other, be, secret := newRepo(t)
				makePoint(t, other, "image/a", noise(1, 200_000))
				m := &meddler{Backend: be, prefix: "never", act: func() {
					if _, err := other.Prune(t.Context(), repo.PruneOptions{}); err != nil {
						t.Error(err)
					}
					makePoint(t, other, "image/a", noise(2, 200_000))
					forgetOldest(t, other)
					begin(t, other, "image/c").Abort()
				}}
				r := openAt(t, m, secret)
				m.prefix = prefix
				run(t, r)
				wantVerdict(t, check(t, openAt(t, be, secret)), nil)
			})
		}
	}
}

// TestGapInTheLedgerIsNoLostEnd: an entry that nobody reads is missing, and no listing
// shows those behind it. What was made under one of them leads there.
func TestGapInTheLedgerIsNoLostEnd(t *testing.T) {
	be, secret, newest := pruned(t)
	makePoint(t, openAt(t, be, secret), "image/a", noise(8, 200_000))
	damage(t, be, ledger.LedgerName(1), remove)
	blind := openAt(t, &hider{Backend: be, hidden: []string{ledger.Ledgers}}, secret)
	s := begin(t, blind, "image/b")
	defer s.Abort()
	if ledger.LedgerName(s.SID().Gen) != newest {
		t.Errorf("it began under entry %d, not %s", s.SID().Gen, newest)
	}
}

// TestNameAloneProvesNoEntry: what nobody of ours has sealed stops no backup.
func TestNameAloneProvesNoEntry(t *testing.T) {
	r, be, secret := newRepo(t)
	p := makePoint(t, r, "image/a", noise(1, 200_000))
	sid, err := ledger.ParseSID(p.SID)
	if err != nil {
		t.Fatal(err)
	}
	whole := object(t, be, ledger.CommitName(sid))
	sid.Gen = 77
	for _, name := range []string{ledger.CommitName(sid), ledger.IndexName(sid, 0)} {
		if err := be.Put(t.Context(), name, whole); err != nil {
			t.Fatal(err)
		}
	}
	makePoint(t, openAt(t, be, secret), "image/a", noise(2, 200_000))
}

// TestLostOldLedgerEntryHindersNothing, and hides nothing that does: check and scrub tell
// of it, for good, as of what nobody needs.
func TestLostOldLedgerEntryHindersNothing(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{"ruined": ruin, "empty": func([]byte) []byte { return []byte{} }} {
		t.Run(what, func(t *testing.T) {
			be, secret, newest := pruned(t)
			damage(t, be, ledger.LedgerName(1), change)
			for _, rep := range []*repo.Report{check(t, openAt(t, be, secret)), scrub(t, be, false), scrub(t, be, true)} {
				wantVerdict(t, rep, repo.ErrHarmless)
				if len(rep.Findings) != 1 || !rep.Findings[0].Idle || rep.Findings[0].Lost || rep.Errors != 0 {
					t.Errorf("%+v", rep)
				}
			}
			r := openAt(t, be, secret)
			makePoint(t, r, "image/a", noise(9, 100_000))
			if _, err := r.Prune(t.Context(), repo.PruneOptions{}); err != nil {
				t.Fatal(err)
			}
			wantVerdict(t, check(t, r), repo.ErrHarmless)
			damage(t, be, newest, func(b []byte) []byte { b[9000] ^= 1; return b })
			wantVerdict(t, scrub(t, be, false), repo.ErrHealable)
			wantVerdict(t, scrub(t, be, true), repo.ErrHarmless)
			wantVerdict(t, scrub(t, be, true), repo.ErrHarmless)
			if left := names(t, be, ledger.Quarantine); len(left) > 0 {
				t.Errorf("%v stays", left)
			}
			all := names(t, be, ledger.Ledgers)
			for _, name := range []string{all[len(all)-1], ledger.Spare(all[len(all)-1])} {
				damage(t, be, name, change)
			}
			wantVerdict(t, scrub(t, be, false), pack.ErrDamaged)
			wantVerdict(t, check(t, openAt(t, be, secret)), pack.ErrDamaged)
		})
	}
}
