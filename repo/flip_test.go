package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/repo"
	"holdfast/repo/backend/mem"
	"holdfast/repo/ledger"
	"holdfast/repo/parity"
	"holdfast/repo/recovery"
	"holdfast/repo/seal"
)

// museum is a repository with one small object of each kind.
type museum struct {
	be     *mem.Backend
	secret seal.Secret
	point  *recovery.Point
	data   []byte
	pieces map[string]string // kind → name of its exhibit
}

func newMuseum(t testing.TB, profile string) *museum {
	t.Helper()
	ctx := t.Context()
	m := &museum{be: mem.New(), secret: keyFile(t), data: faint(3, 3*testChunk), pieces: map[string]string{}}
	r := initAt(t, m.be, repo.InitParams{Parity: profile, Keys: []repo.NewKey{{Secret: m.secret}}}, options())
	gone := makePoint(t, r, "image/gone", m.data)
	sid, err := ledger.ParseSID(gone.SID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteRecord(ctx, ledger.ForgetName(sid), parity.Forget, ledger.Forget{Version: 1, Reason: "policy"}); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteRecord(ctx, ledger.ConfirmName(sid), parity.Confirm, map[string]any{"version": 1}); err != nil {
		t.Fatal(err)
	}
	m.data = faint(9, 3*testChunk)
	m.point = makePoint(t, r, "image/web01", m.data)
	e, err := r.Find(ctx, m.point.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetLabel(ctx, e, func(l *ledger.Label) { l.Pinned = true; l.Tags = []string{"gold"} }); err != nil {
		t.Fatal(err)
	}
	sid, err = ledger.ParseSID(m.point.SID)
	if err != nil {
		t.Fatal(err)
	}
	m.pieces = map[string]string{
		"config": "config", "spare config": "spare/config", "key": names(t, m.be, "keys/")[0], "spare key": names(t, m.be, "spare/keys/")[0],
		"session": ledger.RollName(0), "commit": ledger.CommitName(sid), "label": ledger.LabelName(sid, 0), "ledger": "ledger/00000000",
		"index": ledger.IndexName(sid, 0), "data": names(t, m.be, "data/"+m.point.SID)[0], "meta": names(t, m.be, "meta/"+m.point.SID)[0],
		"forget": names(t, m.be, "forget/")[0], "confirm": names(t, m.be, "confirm/")[0],
	}
	return m
}

// visit opens the repository anew and reads everything of the one point.
func (m *museum) visit(t testing.TB) error {
	r, err := repo.Open(t.Context(), m.be, m.secret, options())
	if err != nil {
		return err
	}
	defer r.Close()
	points, problems, err := r.Points(t.Context())
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return problems[0]
	}
	if len(points) != 1 || points[0].ID != m.point.ID || !points[0].Pinned || len(points[0].Tags) != 1 || points[0].Tags[0] != "gold" {
		t.Fatalf("points came back wrong without an error: %+v", points)
	}
	got, err := read(t.Context(), r, points[0].Point)
	if err == nil && !bytes.Equal(got, m.data) {
		t.Fatal("wrong bytes without an error")
	}
	return err
}

// bitsWorthFlipping are a bit of each byte of the header's fields at both ends,
// of each page's check, and of the first and last sealed bytes, and of every
// 1024th byte of the rest. (Package pack flips every single bit; here the
// question is what a whole repository makes of it.)
func bitsWorthFlipping(object []byte) []int {
	var bits []int
	tail := len(object) - parity.PageBytes // page 0 again, in H'
	dense := func(at int) bool {
		return at < 40 || at >= tail && at < tail+40 || at%parity.PageBytes >= parity.PageBytes-4 ||
			at >= parity.PageBytes && at < parity.PageBytes+24 || at >= 2*parity.PageBytes-40 && at < 2*parity.PageBytes
	}
	for at := range object {
		if dense(at) || at%1024 == 0 {
			bits = append(bits, at*8+(at+at/1024)%8)
		}
	}
	return bits
}

// TestEveryFlippedBitIsHealedByEveryReader: within its parity no object of any
// kind keeps a reader from the right bytes.
func TestEveryFlippedBitIsHealedByEveryReader(t *testing.T) {
	m := newMuseum(t, "standard")
	for kind, name := range m.pieces {
		t.Run(kind, func(t *testing.T) {
			whole := object(t, m.be, name)
			for i, bit := range bitsWorthFlipping(whole) {
				damage(t, m.be, name, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
				if err := m.visit(t); err != nil {
					t.Fatalf("bit %d: %v", bit, err)
				}
				if i%61 == 0 {
					m.inspect(t, name, whole, bit)
				}
				damage(t, m.be, name, func([]byte) []byte { return bytes.Clone(whole) })
			}
		})
	}
}

// inspect lets check and scrub find the damage, and heal it to the last bit.
func (m *museum) inspect(t *testing.T, name string, whole []byte, bit int) {
	t.Helper()
	r := openAt(t, m.be, m.secret)
	for what, rep := range map[string]*repo.Report{"check": check(t, r), "scrub": scrub(t, m.be, false)} {
		if err := rep.Verdict(); !errors.Is(err, repo.ErrHealable) || len(rep.Findings) != 1 || rep.Findings[0].Object != name {
			t.Fatalf("%s of a flipped bit %d: %v %+v", what, bit, err, rep.Findings)
		}
	}
	if rep := scrub(t, m.be, true); rep.Healed != 1 {
		t.Fatalf("bit %d was not healed: %+v", bit, rep)
	}
	if !bytes.Equal(object(t, m.be, name), whole) {
		t.Fatalf("bit %d: healed to other bytes than before", bit)
	}
	wantVerdict(t, scrub(t, m.be, true), nil)
	if kept := names(t, m.be, "quarantine/"); len(kept) > 0 {
		t.Fatalf("a clean scrub left %v", kept)
	}
}

// TestFlipWithoutParityIsNeverWrongBytes: with parity off a reader gives the
// right bytes or an error that names the object.
func TestFlipWithoutParityIsNeverWrongBytes(t *testing.T) {
	m := newMuseum(t, "off")
	for kind, name := range m.pieces {
		t.Run(kind, func(t *testing.T) {
			whole := object(t, m.be, name)
			refused := 0
			for _, bit := range bitsWorthFlipping(whole) {
				damage(t, m.be, name, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b })
				if err := m.visit(t); err != nil {
					refused++
					if !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), m.point.ID) {
						t.Fatalf("bit %d: the error does not name %s: %v", bit, name, err)
					}
				}
				damage(t, m.be, name, func([]byte) []byte { return bytes.Clone(whole) })
			}
			read := map[string]bool{"commit": true, "data": true, "meta": true, "label": true}
			if (refused > 0) != read[kind] {
				t.Errorf("%d flips were refused", refused)
			}
		})
	}
}

// TestEveryByteOfPacksAndSegmentsHeals flips a byte of every header page and a
// sample of the rest of objects of many rows, and reads.
func TestEveryByteOfPacksAndSegmentsHeals(t *testing.T) {
	r, be, secret := newRepo(t)
	data := noise(5, 20*testChunk)
	p := makePoint(t, r, "image/big", data)
	for _, prefix := range []string{"data/", "meta/", "index/"} {
		name := names(t, be, prefix)[0]
		whole := object(t, be, name)
		for at := 0; at < len(whole); at += 1 + len(whole)/60 {
			t.Run(fmt.Sprintf("%s%d", prefix, at), func(t *testing.T) {
				damage(t, be, name, func(b []byte) []byte { b[at] ^= 0x10; return b })
				wantContent(t, openAt(t, be, secret), p, data)
				if at%7 == 0 {
					scrub(t, be, true)
					if !bytes.Equal(object(t, be, name), whole) {
						t.Error("healed to other bytes than before")
					}
				}
				damage(t, be, name, func([]byte) []byte { return bytes.Clone(whole) })
			})
		}
	}
}
