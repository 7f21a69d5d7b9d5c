package lab

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/vmware/lab/chain"
	"holdfast/vmware/lab/spec"
)

// folder is the datastore's file door:
// /folder/<path>?dcPath=<datacenter>&dsName=<datastore>.
func (l *Lab) folder(w http.ResponseWriter, r *http.Request) {
	ok, byTicket := l.admitted(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "401 Unauthorized", http.StatusUnauthorized)
		return
	}
	ds, p := unquote(r.URL.Query().Get("dsName"), l.opt.Datastores...), r.PathValue("path")
	dc := unquote(strings.TrimPrefix(r.URL.Query().Get("dcPath"), "/"), Datacenter)
	if ds == "" || dc == "" && !byTicket { // a host knows no datacenters, and tickets are for hosts
		http.NotFound(w, r)
		return
	}
	if !filepath.IsLocal(filepath.FromSlash(p)) {
		http.Error(w, "400 Bad Request", http.StatusBadRequest)
		return
	}
	dsPath := fmt.Sprintf("[%s] %s", ds, p)
	file, _ := l.vms.Resolve(dsPath)
	// The lock is the host's, not the file system's: what a running VM writes into cannot even
	// be read, the frozen links below it can, and nothing of a running VM can be changed.
	owner, d, live := l.vms.Owner(file)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if live {
			locked(w)
			return
		}
		l.serve(w, r, dsPath, file)
	default:
		if d != nil && (owner.IsOn() || r.Method == http.MethodDelete) {
			locked(w)
			return
		}
		l.change(w, r, ds, file, d)
	}
}

// unquote finds which of the names is meant. Some clients escape once more than needed,
// and inventory names have escapes of their own.
func unquote(s string, names ...string) string {
	again, err := url.PathUnescape(s)
	for _, n := range names {
		if s == n || err == nil && again == n || s == spec.Escape(n) {
			return n
		}
	}
	// No such name is no such place; a vCenter answers 404 for both.
	return ""
}

// locked is how a host answers for a file that is in use (not 403 or 409).
func locked(w http.ResponseWriter) {
	http.Error(w, "500 Internal Server Error", http.StatusInternalServerError)
}

// serve answers GET and HEAD, with Range.
func (l *Lab) serve(w http.ResponseWriter, r *http.Request, dsPath, file string) {
	f, err := os.Open(file)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.IsDir() {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	m := &meter{ResponseWriter: w}
	defer func() {
		if r.Method == http.MethodGet && m.status < 300 {
			l.counts.add(func() { l.counts.served[dsPath] += m.bytes })
		}
	}()
	http.ServeContent(m, r, "", fi.ModTime(), f)
}

// meter counts the bytes of a body and keeps the status.
type meter struct {
	http.ResponseWriter
	bytes  int64
	status int
}

func (m *meter) WriteHeader(status int) {
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.ResponseWriter.Write(p)
	m.bytes += int64(n)
	return n, err
}

// change stores or deletes a file. Directories are not made: that is MakeDirectory's.
func (l *Lab) change(w http.ResponseWriter, r *http.Request, ds, file string, d *chain.Disk) {
	_, err := os.Stat(file)
	exists := err == nil
	switch {
	case r.Method == http.MethodDelete && !exists:
		http.NotFound(w, r)
		return
	case r.Method == http.MethodDelete:
		if os.Remove(file) != nil {
			locked(w)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method == http.MethodPost && exists:
		http.Error(w, "409 Conflict", http.StatusConflict)
		return
	}
	// The answer depends on what was there before: 201 for a new file, 200 for one replaced.
	body := &roomy{r: r.Body, take: func(n int) bool { return l.trouble.Take(ds, int64(n)) }}
	err = store(file, body, d)
	drain(r)
	switch {
	case errors.Is(err, errNoRoom):
		http.Error(w, "507 Insufficient Storage", http.StatusInsufficientStorage)
	case errors.Is(err, os.ErrNotExist):
		http.NotFound(w, r)
	case err != nil:
		locked(w)
	case exists:
		w.WriteHeader(http.StatusOK)
	default:
		w.WriteHeader(http.StatusCreated)
	}
}

// drain reads what is left of an upload, or its sender would see a reset connection
// instead of the answer.
func drain(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

// store writes an upload into a file, or as the flat file of a disk.
func store(file string, body io.Reader, d *chain.Disk) error {
	if d != nil && slices.Equal(d.Chain(""), []chain.Layer{{Descriptor: strings.TrimSuffix(filepath.Base(file), "-flat.vmdk") + ".vmdk", Extent: filepath.Base(file)}}) {
		return d.Replace(body)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = chain.CopySparse(f, body, func(_, _ int64) {})
	return errors.Join(err, f.Close())
}

// errNoRoom ends an upload to a full datastore.
var errNoRoom = errors.New("datastore is full")

// roomy reads an upload as long as there is room for it.
type roomy struct {
	r    io.Reader
	take func(n int) bool
}

func (b *roomy) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if !b.take(n) {
		return 0, errNoRoom
	}
	return n, err
}
