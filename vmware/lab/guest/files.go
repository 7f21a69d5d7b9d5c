package guest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// A transfer is what a one-time URL stands for.
type transfer struct {
	method, file string
	size         int64
	path         string // as the guest calls the file
	account      Account
}

func (t transfer) receive(w http.ResponseWriter, r *http.Request) {
	enough, changed := t.account.Inside.take(t.size)
	if changed {
		t.account.Used()
	}
	if !enough {
		http.Error(w, "There is not enough space on the disk.", http.StatusInternalServerError)
		return
	}
	f, err := os.OpenFile(t.file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	n, err := io.Copy(f, io.LimitReader(r.Body, t.size+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	// A transfer that is not exactly as long as announced fails as a whole.
	if err != nil || n != t.size {
		_ = os.Remove(t.file)
		http.Error(w, fmt.Sprintf("received %d of %d bytes", n, t.size), http.StatusInternalServerError)
		return
	}
	t.scanned()
}

// scanned lets the guest's virus scanner look at a file.
func (t transfer) scanned() {
	scan := t.account.Inside.scanner()
	if scan == nil {
		return
	}
	data, err := os.ReadFile(t.file)
	if err != nil {
		return
	}
	if data = scan(t.path, data); data == nil {
		_ = os.Remove(t.file)
		return
	}
	_ = os.WriteFile(t.file, data, 0o700)
}

type authManager struct {
	mo.GuestAuthManager
	g *Operations
}

// ValidateCredentialsInGuest tries a login.
func (m *authManager) ValidateCredentialsInGuest(req *types.ValidateCredentialsInGuest) soap.HasFault {
	_, _, fault := m.g.enter(req.Vm, req.Auth)
	return &methods.ValidateCredentialsInGuestBody{Fault_: fault, Res: &types.ValidateCredentialsInGuestResponse{}}
}

type fileManager struct {
	mo.GuestFileManager
	g *Operations
}

// url makes a one-time URL on the VM's host, which the caller knows as "*".
func (g *Operations) url(id string, t transfer) string {
	token := make([]byte, 16)
	_, _ = rand.Read(token) // never fails
	key := hex.EncodeToString(token)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.transfers[key] = t
	u := url.URL{Scheme: "https", Host: "*", Path: "/guestFile", RawQuery: url.Values{"id": {id}, "token": {key}}.Encode()}
	return u.String()
}

// InitiateFileTransferToGuest gives a URL to PUT a file of the announced size.
func (m *fileManager) InitiateFileTransferToGuest(req *types.InitiateFileTransferToGuest) soap.HasFault {
	account, dir, fault := m.g.enter(req.Vm, req.Auth)
	file := inside(dir, req.GuestFilePath)
	if fault == nil && !req.Overwrite && exists(file) {
		fault = guestFault(req.GuestFilePath, os.ErrExist)
	}
	if fault == nil {
		if _, err := os.Stat(filepath.Dir(file)); err != nil {
			fault = guestFault(req.GuestFilePath, err)
		}
	}
	if fault != nil {
		return &methods.InitiateFileTransferToGuestBody{Fault_: fault}
	}
	t := transfer{method: http.MethodPut, file: file, size: req.FileSize, path: req.GuestFilePath, account: account}
	return &methods.InitiateFileTransferToGuestBody{Res: &types.InitiateFileTransferToGuestResponse{Returnval: m.g.url(account.ID, t)}}
}

// InitiateFileTransferFromGuest gives a URL to GET a file.
func (m *fileManager) InitiateFileTransferFromGuest(req *types.InitiateFileTransferFromGuest) soap.HasFault {
	account, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault != nil {
		return &methods.InitiateFileTransferFromGuestBody{Fault_: fault}
	}
	file := inside(dir, req.GuestFilePath)
	fi, err := os.Stat(file)
	if err != nil {
		return &methods.InitiateFileTransferFromGuestBody{Fault_: guestFault(req.GuestFilePath, err)}
	}
	info := types.FileTransferInformation{
		Attributes: &types.GuestFileAttributes{ModificationTime: types.NewTime(fi.ModTime())},
		Size:       fi.Size(), Url: m.g.url(account.ID, transfer{method: http.MethodGet, file: file}),
	}
	return &methods.InitiateFileTransferFromGuestBody{Res: &types.InitiateFileTransferFromGuestResponse{Returnval: info}}
}

// MakeDirectoryInGuest makes a directory, with its parents when asked.
func (m *fileManager) MakeDirectoryInGuest(req *types.MakeDirectoryInGuest) soap.HasFault {
	_, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault == nil {
		mkdir := os.Mkdir
		if req.CreateParentDirectories {
			mkdir = os.MkdirAll
		}
		if err := mkdir(inside(dir, req.DirectoryPath), 0o700); err != nil {
			fault = guestFault(req.DirectoryPath, err)
		} else {
			m.g.renewed(inside(dir, req.DirectoryPath))
		}
	}
	return &methods.MakeDirectoryInGuestBody{Fault_: fault, Res: &types.MakeDirectoryInGuestResponse{}}
}

// CreateTemporaryDirectoryInGuest makes a directory with a name of its own, below
// C:\Windows\Temp unless told otherwise.
func (m *fileManager) CreateTemporaryDirectoryInGuest(req *types.CreateTemporaryDirectoryInGuest) soap.HasFault {
	_, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault != nil {
		return &methods.CreateTemporaryDirectoryInGuestBody{Fault_: fault}
	}
	parent := req.DirectoryPath
	if parent == "" {
		parent = `C:\Windows\Temp`
	}
	name, err := os.MkdirTemp(inside(dir, parent), req.Prefix+"*"+req.Suffix)
	if err != nil {
		return &methods.CreateTemporaryDirectoryInGuestBody{Fault_: guestFault(parent, err)}
	}
	sep := `\`
	if parent[0] == '/' {
		sep = "/"
	}
	return &methods.CreateTemporaryDirectoryInGuestBody{
		Res: &types.CreateTemporaryDirectoryInGuestResponse{Returnval: parent + sep + filepath.Base(name)}}
}

// DeleteDirectoryInGuest deletes a directory, with its content when asked.
func (m *fileManager) DeleteDirectoryInGuest(req *types.DeleteDirectoryInGuest) soap.HasFault {
	_, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault == nil {
		p := inside(dir, req.DirectoryPath)
		_, err := os.Stat(p)
		if err == nil && req.Recursive {
			err = os.RemoveAll(p)
		} else if err == nil {
			err = os.Remove(p)
		}
		if err != nil {
			fault = guestFault(req.DirectoryPath, err)
		} else {
			m.g.renewed(p)
		}
	}
	return &methods.DeleteDirectoryInGuestBody{Fault_: fault, Res: &types.DeleteDirectoryInGuestResponse{}}
}

// DeleteFileInGuest deletes a file.
func (m *fileManager) DeleteFileInGuest(req *types.DeleteFileInGuest) soap.HasFault {
	_, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault == nil {
		if err := os.Remove(inside(dir, req.FilePath)); err != nil {
			fault = guestFault(req.FilePath, err)
		}
	}
	return &methods.DeleteFileInGuestBody{Fault_: fault, Res: &types.DeleteFileInGuestResponse{}}
}

// MoveFileInGuest renames a file.
func (m *fileManager) MoveFileInGuest(req *types.MoveFileInGuest) soap.HasFault {
	_, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault == nil && !req.Overwrite && exists(inside(dir, req.DstFilePath)) {
		fault = guestFault(req.DstFilePath, os.ErrExist)
	}
	if fault == nil {
		if err := os.Rename(inside(dir, req.SrcFilePath), inside(dir, req.DstFilePath)); err != nil {
			fault = guestFault(req.SrcFilePath, err)
		}
	}
	return &methods.MoveFileInGuestBody{Fault_: fault, Res: &types.MoveFileInGuestResponse{}}
}

// ListFilesInGuest lists a directory, or tells about one file.
func (m *fileManager) ListFilesInGuest(req *types.ListFilesInGuest) soap.HasFault {
	_, dir, fault := m.g.enter(req.Vm, req.Auth)
	if fault != nil {
		return &methods.ListFilesInGuestBody{Fault_: fault}
	}
	match, err := regexp.Compile(req.MatchPattern)
	if err != nil {
		return &methods.ListFilesInGuestBody{Fault_: simulator.Fault(err.Error(), &types.InvalidArgument{InvalidProperty: "matchPattern"})}
	}
	at := inside(dir, req.FilePath)
	names := []string{filepath.Base(at)}
	if fi, err := os.Stat(at); err != nil {
		return &methods.ListFilesInGuestBody{Fault_: guestFault(req.FilePath, err)}
	} else if fi.IsDir() {
		names = []string{".", ".."}
		entries, _ := os.ReadDir(at) // it was there a moment ago
		for _, e := range entries {
			names = append(names, e.Name())
		}
	} else {
		at = filepath.Dir(at)
	}
	res := &types.ListFilesInGuestResponse{}
	for _, n := range names {
		fi, err := os.Lstat(filepath.Join(at, n)) // an entry that is a link is told as one
		if err != nil || !match.MatchString(n) {
			continue
		}
		kind := types.GuestFileTypeFile
		switch {
		case fi.IsDir():
			kind = types.GuestFileTypeDirectory
		case fi.Mode()&os.ModeSymlink != 0:
			kind = types.GuestFileTypeSymlink
		}
		res.Returnval.Files = append(res.Returnval.Files, types.GuestFileInfo{
			Path: n, Type: string(kind), Size: fi.Size(), Attributes: &types.GuestFileAttributes{ModificationTime: types.NewTime(fi.ModTime())}})
	}
	return &methods.ListFilesInGuestBody{Res: res}
}
