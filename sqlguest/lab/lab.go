// Package lab is a SQL Server to practise on: it speaks TDS, understands T-SQL, keeps
// databases in real pages with a real log, and takes and restores backups by SQL Server's
// rules, with SQL Server's error numbers. Tests and the laboratory's VM use it; nothing in
// it knows what a client wants to hear.
//
// The parts are packages of their own: storage and backups below, tds, tsql and catalog
// beside; here they become an instance with logins, sessions, locks and faults on purpose.
package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"

	"holdfast/sqlguest/lab/backups"
	"holdfast/sqlguest/lab/bridge"
	"holdfast/sqlguest/lab/media"
	"holdfast/sqlguest/lab/session"
	"holdfast/sqlguest/lab/storage"
	"holdfast/sqlguest/lab/storage/filesystem"
	"holdfast/sqlguest/lab/tds"
)

// Login is a login with a password.
type Login = session.Login

// Options of an instance. The zero value is an instance in memory, named LAB, on a port
// of its own on loopback, with the login sa and an empty password.
type Options struct {
	// Name is MACHINE or MACHINE\INSTANCE.
	Name string
	// Version is the product version, "16.0.1000.6" if empty; Edition its name. Collation is
	// as in backups.Options.
	Version, Edition, Collation string
	// Address to listen on; "127.0.0.1:0" if empty. A Deaf instance listens nowhere: its
	// clients are in this process (Near).
	Address string
	Deaf    bool
	// FS holds the databases' files and, without Path, the backups' too; memory if nil.
	FS filesystem.FS
	// Path gives the file on this machine of a path that the server means (DISK devices);
	// nil keeps backups in FS.
	Path func(server string) string
	// DataDirectory, LogDirectory and BackupDirectory are the server's default directories.
	DataDirectory, LogDirectory, BackupDirectory string
	// Now is the server's local time with its offset, and may jump; the machine's clock
	// in UTC if nil.
	Now func() time.Time
	// Seed fixes all GUIDs.
	Seed uint64
	// Devices are the virtual devices; without them BACKUP … TO VIRTUAL_DEVICE is 3201.
	Devices bridge.Devices
	// Logins are who may log in; sa without a password if there are none.
	Logins []Login
	// Encryption is the server's setting. The zero value encrypts logins.
	Encryption tds.Encryption
	// Sample creates the databases sales, stock and "it's, ünï" with tables and rows.
	Sample bool
	// Clustered: the instance is a failover cluster's.
	Clustered bool
	// Volume says how much room a path's volume has; nil is 100 GiB of 200 on C:\, NTFS.
	Volume func(path string) (mount string, available, total int64, system string)
	Log    *slog.Logger
}

// Lab is a running instance.
type Lab struct {
	opt         Options
	certificate *tls.Certificate
	sessions    *session.Instance
	faults      faults

	mu      sync.Mutex
	srv     *backups.Server
	started time.Time
	running *service // nil while the service is stopped
	address string
}

// service is what runs between start and stop.
type service struct {
	cancel context.CancelFunc
	done   chan error
	tds    *tds.Server
}

// Start makes an instance and begins to listen; Close ends it.
func Start(opt Options) (*Lab, error) {
	if opt.FS == nil {
		opt.FS = &filesystem.Memory{}
	}
	if opt.Now == nil {
		opt.Now = func() time.Time { return time.Now().UTC() }
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Address == "" {
		opt.Address = "127.0.0.1:0"
	}
	if opt.Edition == "" {
		opt.Edition = "Developer Edition (64-bit)"
	}
	if len(opt.Logins) == 0 {
		opt.Logins = []Login{{Name: "sa", Sysadmin: true}}
	}
	if opt.Volume == nil {
		opt.Volume = func(string) (string, int64, int64, string) { return `C:\`, 100 << 30, 200 << 30, "NTFS" }
	}
	certificate, err := selfSigned()
	if err != nil {
		return nil, err
	}
	l := &Lab{opt: opt, certificate: certificate, address: opt.Address}
	l.sessions = session.New(session.Options{Server: l.server, Now: l.now, Started: l.since, Edition: opt.Edition, Logins: opt.Logins,
		Media: l.media, Volume: l.volume, Seed: opt.Seed, Log: opt.Log})
	if err := l.open(); err != nil {
		return nil, err
	}
	if err := l.prepare(); err != nil {
		return nil, errors.Join(err, l.srv.Close())
	}
	return l, l.StartService()
}

// open starts the databases over the instance's files.
func (l *Lab) open() error {
	srv, err := backups.New(backups.Options{Name: l.opt.Name, Version: l.opt.Version, Collation: l.opt.Collation, FS: l.opt.FS, Data: l.opt.DataDirectory, Log: l.opt.LogDirectory,
		Backup: l.opt.BackupDirectory, Now: l.now, Seed: l.opt.Seed, Clustered: l.opt.Clustered, Sessions: l.sessions.In})
	if srv == nil {
		return fmt.Errorf("start instance: %w", err)
	}
	if err != nil {
		l.opt.Log.Warn("a database could not be opened", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.srv = srv
	return nil
}

// prepare makes the system's databases in a new instance, and the samples.
func (l *Lab) prepare() error {
	if _, err := l.srv.Database("master"); err == nil {
		return nil // the files are of an earlier run
	}
	for id, name := range []string{"master", "tempdb", "model", "msdb"} {
		model := storage.Simple
		if name == "model" {
			model = storage.Full
		}
		db, err := l.srv.Create(backups.CreateOptions{Name: name, Model: model, Owner: "sa"})
		if err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
		if err := db.SetID(id + 1); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	if l.opt.Sample {
		return l.sample()
	}
	return nil
}

// now is the server's time, with a jump that was asked for.
func (l *Lab) now() time.Time { return l.faults.clock(l.opt.Now()) }

// server is the instance's databases; a revert puts others in their place.
func (l *Lab) server() *backups.Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.srv
}

// Server gives the databases below, for what a test wants to do or see directly: a
// foreign backup, rows without a client.
func (l *Lab) Server() *backups.Server { return l.server() }

// Address is host:port. It stays the same over stop and start.
func (l *Lab) Address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.address
}

// StartService begins to listen; nothing happens if it does already.
func (l *Lab) StartService() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		return nil
	}
	l.started = l.now()
	if l.opt.Deaf {
		return nil
	}
	listener, err := listen(l.address)
	if err != nil {
		return fmt.Errorf("listen for SQL clients: %w", err)
	}
	l.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{cancel: cancel, done: make(chan error, 1)}
	s.tds = tds.NewServer(tds.Options{Handler: l.sessions, Encryption: l.opt.Encryption, Certificate: l.certificate, Version: tds.WireVersion(l.srv.Options().Version), Log: l.opt.Log})
	go func() { s.done <- s.tds.Serve(ctx, listener) }()
	l.running = s
	return nil
}

// listen listens on an address. One that the service has had before may be somebody's
// for a moment: the port of an outgoing connection, as a rule.
func listen(address string) (net.Listener, error) {
	const tries, pause = 100, 50 * time.Millisecond
	for n := 0; ; n++ {
		listener, err := net.Listen("tcp", address)
		if err == nil || n == tries || strings.HasSuffix(address, ":0") {
			return listener, err
		}
		time.Sleep(pause)
	}
}

// StopService ends the service as a stop does: sessions are cut, what they ran fails,
// open transactions roll back. The databases are recovered as the next start does it.
func (l *Lab) StopService() error {
	if err := l.stop(); err != nil {
		return err
	}
	return l.open()
}

// stop ends the service, if it runs, and closes the databases.
func (l *Lab) stop() error {
	l.mu.Lock()
	s := l.running
	l.running = nil
	l.mu.Unlock()
	if s != nil {
		s.cancel()
		if err := <-s.done; err != nil {
			return fmt.Errorf("stop service: %w", err)
		}
	}
	if err := l.server().Close(); err != nil {
		return fmt.Errorf("stop instance: %w", err)
	}
	return nil
}

// Close ends the instance; its files stay.
func (l *Lab) Close() error { return l.stop() }

// selfSigned makes a certificate as SQL Server makes one for itself at start.
func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SSL_Self_Signed_Fallback"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(30, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// since is when the service was started.
func (l *Lab) since() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

// media is what backups are written to.
func (l *Lab) media() media.Options {
	l.mu.Lock()
	fs := l.opt.FS
	l.mu.Unlock()
	return media.Options{FS: fs, Path: l.opt.Path, Directory: l.opt.BackupDirectory, Devices: l.opt.Devices, Before: l.before}
}

// Near lets a client of this process in, without a wire; Close ends it.
func (l *Lab) Near() *session.Near { return l.sessions.Near() }
