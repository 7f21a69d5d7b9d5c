package disk

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"pgregory.net/rapid"

	"holdfast/vmware/task"
)

func TestParsePath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Path{rapid.StringMatching(`[^\]\[]{1,8}`).Draw(t, "store"), rapid.StringMatching(`[^ ].{0,20}`).Draw(t, "file")}
		if got, err := ParsePath(want.String()); err != nil || got != want {
			t.Fatalf("%q: %+v, %v", want.String(), got, err)
		}
	})
	for _, bad := range []string{"", "x", "[x", "[] x", "x] y"} {
		if _, err := ParsePath(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if got := (Path{"d", "a/b.vmdk"}).Sibling("c.vmdk"); got != (Path{"d", "a/c.vmdk"}) {
		t.Error(got)
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add("[ds] a/b.vmdk")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePath(s); err == nil {
			if again, err := ParsePath(p.String()); err != nil || again != p {
				t.Fatalf("%q: %+v", s, again)
			}
		}
	})
}

func layout(parts ...string) *types.VirtualMachineFileLayoutEx {
	l := &types.VirtualMachineFileLayoutEx{}
	var unit types.VirtualMachineFileLayoutExDiskUnit
	for i, name := range parts {
		kind := types.VirtualMachineFileLayoutExFileTypeDiskDescriptor
		if strings.HasSuffix(name, "-flat.vmdk") {
			kind = types.VirtualMachineFileLayoutExFileTypeDiskExtent
		}
		l.File = append(l.File, types.VirtualMachineFileLayoutExFileInfo{Key: int32(i), Name: name, Type: string(kind)})
		unit.FileKey = append(unit.FileKey, int32(i))
	}
	l.Disk = []types.VirtualMachineFileLayoutExDiskLayout{{Chain: []types.VirtualMachineFileLayoutExDiskUnit{unit}}}
	return l
}

func TestChoose(t *testing.T) {
	d := Device{Chain: []string{"[ds] v/v.vmdk"}, Datastore: "ds"}
	whole := layout("[ds] v/v.vmdk", "[ds] v/v-flat.vmdk")
	for _, c := range []struct {
		name, asked, want string
		device            func(*Device)
		s                 Surroundings
	}{
		{"listed", Auto, HTTPS, func(*Device) {}, Surroundings{whole, map[string]string{"ds": "VMFS"}}},
		{"asked for export", Export, Export, func(*Device) {}, Surroundings{whole, nil}},
		{"no extent", Auto, Export, func(*Device) {}, Surroundings{layout("[ds] v/v.vmdk"), nil}},
		{"no layout", Auto, Export, func(*Device) {}, Surroundings{}},
		{"vsan", Auto, Export, func(*Device) {}, Surroundings{whole, map[string]string{"ds": "vsan"}}},
		{"VVOL", Auto, Export, func(*Device) {}, Surroundings{whole, map[string]string{"ds": "VVOL"}}},
		{"rdm", Auto, Export, func(d *Device) { d.RDM = true }, Surroundings{whole, nil}},
		{"linked clone", Auto, Export, func(d *Device) { d.Chain = append(d.Chain, "[ds] base/base.vmdk") }, Surroundings{whole, nil}},
		{"https on vsan", HTTPS, "", func(*Device) {}, Surroundings{whole, map[string]string{"ds": "vsan"}}},
		{"nbd", NBD, "", func(*Device) {}, Surroundings{whole, nil}},
		{"nonsense", "smoke", "", func(*Device) {}, Surroundings{whole, nil}},
	} {
		x := d
		x.Chain = append([]string(nil), d.Chain...)
		c.device(&x)
		got, why, err := Choose(c.asked, x, c.s)
		if got != c.want || errors.Is(err, ErrTransport) != (c.want == "") || err == nil && why == "" {
			t.Errorf("%s: %q (%s), %v", c.name, got, why, err)
		}
	}
}

// Two disks of one size must never be mistaken for each other.
func TestURLOfRefusesToGuess(t *testing.T) {
	yes := true
	url := func(key string) types.HttpNfcLeaseDeviceUrl { return types.HttpNfcLeaseDeviceUrl{Key: key, Disk: &yes} }
	a, b := Device{Key: 2000, Slot: "ParaVirtualSCSIController0:0"}, Device{Key: 2001, Slot: "ParaVirtualSCSIController0:1"}
	for _, c := range []struct {
		urls []string
		want string
	}{
		{[]string{"/vm/ParaVirtualSCSIController0:0", "/vm/ParaVirtualSCSIController0:1"}, "/vm/ParaVirtualSCSIController0:1"},
		{[]string{"/vm/VirtualParaVirtualSCSI0:1", "/vm/x"}, "/vm/VirtualParaVirtualSCSI0:1"},
		{[]string{"/vm/disk:0", "/vm/disk:1"}, "/vm/disk:1"},
		{[]string{"/vm/x", "/vm/y"}, ""},
		{[]string{"/vm/disk:1", "/vm/ParaVirtualSCSIController0:1"}, ""},
		{nil, ""},
	} {
		var urls []types.HttpNfcLeaseDeviceUrl
		for _, k := range c.urls {
			urls = append(urls, url(k))
		}
		got, err := URLOf(urls, b, []Device{a, b})
		if got.Key != c.want || errors.Is(err, ErrTransport) != (c.want == "") {
			t.Errorf("%v: %q, %v", c.urls, got.Key, err)
		}
	}
}

type noLogin struct{}

func (noLogin) Logins() int                        { return 1 }
func (noLogin) Relogin(context.Context, int) error { return nil }

func folder(t *testing.T, h http.HandlerFunc) *Folder {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL + "/sdk")
	if err != nil {
		t.Fatal(err)
	}
	return &Folder{Web: soap.NewClient(u, true), Login: noLogin{}, Datacenters: map[string]string{"d s": "DC 1"},
		Retry: task.Retry{Tries: 2, First: time.Millisecond}}
}

func TestFolderAddress(t *testing.T) {
	var got *http.Request
	f := folder(t, func(w http.ResponseWriter, r *http.Request) { got = r; w.Header().Set("Content-Length", "7") })
	if _, err := f.Size(context.Background(), Path{"d s", "a+b %/ü c.vmdk"}); err != nil {
		t.Fatal(err)
	}
	if got.RequestURI != "/folder/a%2Bb%20%25/%C3%BC%20c.vmdk?dcPath=DC%201&dsName=d%20s" {
		t.Fatal(got.RequestURI)
	}
}

// Whatever a server answers, ReadRange gives the right bytes or an error.
func TestReadRangeTakesNothingWrong(t *testing.T) {
	content := make([]byte, 1000)
	_, _ = rand.Read(content)
	for name, h := range map[string]http.HandlerFunc{
		"right": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		},
		"whole file": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) },
		"other range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99/1000")
			w.WriteHeader(206)
			_, _ = w.Write(content[:100])
		},
		"no range named": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); _, _ = w.Write(content[200:300]) },
		"short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 200-299/1000")
			w.WriteHeader(206)
			_, _ = w.Write(content[200:260])
		},
		"nothing": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
	} {
		p := make([]byte, 100)
		err := folder(t, h).ReadRange(context.Background(), Path{"d s", "x"}, p, 200)
		if name == "right" {
			if err != nil || !bytes.Equal(p, content[200:300]) {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, ErrLength) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInterruptedReadSaysThatItWasInterrupted: the half range that came until then is
// no fault of the server.
func TestInterruptedReadSaysThatItWasInterrupted(t *testing.T) {
	stop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	f := folder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 200-299/1000")
		w.WriteHeader(206)
		_, _ = w.Write(make([]byte, 60))
		_ = http.NewResponseController(w).Flush()
		cancel(stop)
		<-r.Context().Done()
	})
	err := f.ReadRange(ctx, Path{"d s", "x"}, make([]byte, 100), 200)
	if !errors.Is(err, stop) || errors.Is(err, ErrLength) {
		t.Errorf("the read ended with %v", err)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	f := folder(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, rand.Reader, 5000) })
	if _, err := f.ReadFile(context.Background(), Path{"d s", "x"}, 4999); err == nil {
		t.Fatal("a larger file was read")
	}
	if b, err := f.ReadFile(context.Background(), Path{"d s", "x"}, 5000); err != nil || len(b) != 5000 {
		t.Fatal(len(b), err)
	}
	missing := folder(t, http.NotFound)
	if _, err := missing.ReadFile(context.Background(), Path{"d s", "x"}, 1); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	if err := missing.Delete(context.Background(), Path{"d s", "x"}); err != nil {
		t.Fatal(err)
	}
}

func TestUnprotected(t *testing.T) {
	for mode, left := range map[string]bool{"persistent": false, "independent_persistent": true, "independent_nonpersistent": true} {
		d := Device{Mode: mode, Chain: []string{"[d] x"}}
		if (d.Unprotected() != "") != left {
			t.Errorf("%s: %q", mode, d.Unprotected())
		}
	}
	if (&Device{}).Unprotected() == "" {
		t.Error("a disk without a file is protected")
	}
}
