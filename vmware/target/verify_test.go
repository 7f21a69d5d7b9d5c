package target_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab"
	"holdfast/vmware/target"
	"holdfast/vmware/vmdk"
)

const (
	bySum  = "checksum of the upload by the server"
	byBoth = bySum + ", and read back"
)

func TestEveryDiskIsComparedWithTheServersChecksum(t *testing.T) {
	b := newBench(t)
	how, err := b.restore(target.Options{Name: "new"})
	must(t, err)
	if !slices.Equal(how, []string{byBoth, byBoth}) {
		t.Fatalf("verified by %q", how)
	}
}

// TestDatastoreThatServesNoFilesIsVerifiedByChecksum, every disk of it.
func TestDatastoreThatServesNoFilesIsVerifiedByChecksum(t *testing.T) {
	b := newBench(t)
	b.lab.FailHTTP(lab.HTTPFault{Method: http.MethodGet, Path: "/folder/", Status: http.StatusNotFound, Count: -1})
	how, err := b.restore(target.Options{Name: "new"})
	must(t, err)
	if !slices.Equal(how, []string{bySum, bySum}) {
		t.Fatalf("verified by %q", how)
	}
	b.same("new")
}

// soapProxy stands between the driver and the server. after sees each answer; an
// error of before is the call's, and the server never hears of it.
type soapProxy struct {
	soap.RoundTripper
	before func(req soap.HasFault) error
	after  func(res soap.HasFault)
}

func (p *soapProxy) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	if p.before != nil {
		if err := p.before(req); err != nil {
			return err
		}
	}
	err := p.RoundTripper.RoundTrip(ctx, req, res)
	if p.after != nil {
		p.after(res)
	}
	return err
}

func (b *bench) proxy(p *soapProxy) {
	p.RoundTripper = b.session.Client().RoundTripper
	b.session.Client().RoundTripper = p
}

// TestChecksumOfTheSecondDiskIsCompared, though the lease was completed with the
// first and can be asked no more.
func TestChecksumOfTheSecondDiskIsCompared(t *testing.T) {
	b := newBench(t)
	asked := 0
	b.proxy(&soapProxy{after: func(res soap.HasFault) {
		body, ok := res.(*methods.HttpNfcLeaseGetManifestBody)
		if !ok || body.Res == nil {
			return
		}
		asked++
		slices.SortFunc(body.Res.Returnval, func(x, y types.HttpNfcLeaseManifestEntry) int { return strings.Compare(x.Key, y.Key) })
		body.Res.Returnval[1].Sha1 = strings.Repeat("0", 40)
	}})
	if _, err := b.restore(target.Options{Name: "new"}); !errors.Is(err, target.ErrMismatch) || b.names() != "web01" {
		t.Fatalf("%v; VMs are %s", err, b.names())
	}
	if asked == 0 {
		t.Fatal("nobody asked for the manifest")
	}
}

// meddler is a way to the host that changes what the n-th upload carries.
type meddler struct {
	http.RoundTripper
	n      int
	change func([]byte)
}

func (m *meddler) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/nfc/") {
		return m.RoundTripper.RoundTrip(r)
	}
	if m.n--; m.n != 0 {
		return m.RoundTripper.RoundTrip(r)
	}
	var disk []byte
	size, err := vmdk.ReadStream(r.Context(), r.Body, func(off int64, grain []byte) error {
		disk = append(disk, make([]byte, max(0, off+int64(len(grain))-int64(len(disk))))...)
		copy(disk[off:], grain)
		return nil
	})
	if err != nil {
		return nil, err
	}
	disk = append(disk, make([]byte, max(0, size-int64(len(disk))))...)[:size]
	m.change(disk)
	var body bytes.Buffer
	if _, err := vmdk.WriteStream(r.Context(), &body, bytes.NewReader(disk), size, vmdk.StreamOptions{}); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body, r.ContentLength = io.NopCloser(&body), int64(body.Len())
	return m.RoundTripper.RoundTrip(r)
}

// TestByteInAHoleOfTheSecondDiskIsFound: reading back looks only where the point
// has data, so it is the checksum that tells.
func TestByteInAHoleOfTheSecondDiskIsFound(t *testing.T) {
	b := newBench(t)
	const hole = mib // between what newBench writes
	client := &b.session.Client().Client.Client
	m := &meddler{RoundTripper: client.Transport, n: 2, change: func(disk []byte) {
		if !bytes.Equal(disk[hole:hole+512], make([]byte, 512)) {
			t.Error("there is no hole")
		}
		disk[hole] = 1
	}}
	client.Transport = m
	_, err := b.restore(target.Options{Name: "new"})
	if m.n != 0 {
		t.Fatalf("%d uploads were missing", m.n)
	}
	if !errors.Is(err, target.ErrMismatch) || b.names() != "web01" {
		t.Fatalf("%v; VMs are %s", err, b.names())
	}
}
