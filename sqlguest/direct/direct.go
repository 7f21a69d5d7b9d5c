// Package direct is a SQL Server as server.Server, over go-mssqldb: for a program
// beside it, with virtual devices or staging files, or for one on another machine
// that reaches the same staging directory.
//
//	Query ─────────────→ a connection of its own, first result
//	Hold ──────────────→ a session of its own, which is the lock's life
//	Backup, Restore ───→ VDI: vdi.Save and vdi.Load around the statement
//	                     Disk: files in the staging directory (see staged)
//
// # Files hold nothing back
//
// A BACKUP into virtual devices waits for our word; a BACKUP TO DISK does not, and a
// BACKUP LOG TO DISK has truncated the log when it ends. From then on its file is
// the only copy of that log until the repository has it, so that nothing but Commit
// deletes it: Abort keeps it (Kept), Staged finds it in a later run, and Adopt gives
// it out again as the backup that it is.
package direct

import (
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"holdfast/sqlguest/server"
	"holdfast/sqlguest/vdi"
)

// Options say which SQL Server it is, and who logs in. The zero value is the default
// instance of this machine with this process's Windows login.
type Options struct {
	// Address is HOST, HOST:PORT or HOST\INSTANCE; "" is this machine, as are "."
	// and "localhost".
	Address string
	// Instance is the instance's name without the machine's, for virtual devices;
	// "" takes it from Address.
	Instance string
	// User and Password are a SQL login; without a User it is Windows authentication.
	User, Password string
	// Verify checks the server's certificate against this machine's roots. Without
	// it the connection is encrypted towards whoever answers, which is right for a
	// server on this machine: its certificate is one that it made for itself.
	Verify bool
	// Roots are trusted by Verify instead of this machine's; nil is this machine's.
	Roots *x509.CertPool
	// OpenSet opens virtual device sets; nil is vdi.Open.
	OpenSet func(vdi.SetOptions) (vdi.Set, error)
	// Logger is told of details; nil for nobody.
	Logger *slog.Logger
}

// Server is one SQL Server and one login.
type Server struct {
	opt       Options
	connector driver.Connector
	db        *sql.DB
	log       *slog.Logger
	others    []string // addresses, see OpenFirst
	held      sync.Map // of *held, by the lock's name
	proven    sync.Map // staging directories, by both names; see prove
}

var _ server.Server = (*Server)(nil)

// Open prepares the connection and logs in once, so that a wrong address or password
// is told at once: a *server.Error with 18456 is a login that was refused.
func Open(ctx context.Context, o Options) (*Server, error) {
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	connector := mssql.NewConnectorConfig(config)
	connector.Dialer = &dialler{net.Dialer{KeepAlive: config.KeepAlive}}
	s := &Server{opt: o, connector: &door{connector, loginTimeout}, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.db = sql.OpenDB(s.connector)
	// An idle connection may be of a server that was restarted meanwhile, and shows
	// that only by failing the next statement.
	s.db.SetMaxIdleConns(-1)
	if err := s.db.PingContext(ctx); err != nil {
		_ = s.db.Close()
		return nil, fmt.Errorf("log in to SQL Server %s: %w", o.place(), translate(err))
	}
	return s, nil
}

// Close ends all connections that nobody uses.
func (s *Server) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close connections: %w", err)
	}
	return nil
}

// place is the server's name for messages.
func (o Options) place() string {
	if o.Address == "" {
		return "on this machine"
	}
	return o.Address
}

// split takes the address apart.
func (o Options) split() (host, instance string) {
	host, instance, _ = strings.Cut(o.Address, `\`)
	if host == "" || host == "." || strings.EqualFold(host, "(local)") {
		host = "localhost"
	}
	return host, instance
}

// config is the driver's. It is made from a URL because that is where the driver
// keeps its defaults; the password is put in afterwards, so that no error of the
// URL's can quote it.
func (o Options) config() (msdsn.Config, error) {
	host, instance := o.split()
	query := url.Values{"database": {"master"}, "app name": {"holdfast"}, "encrypt": {"true"}, "dial timeout": {"15"}}
	query.Set("TrustServerCertificate", fmt.Sprint(!o.Verify))
	u := url.URL{Scheme: "sqlserver", Host: host, Path: instance, RawQuery: query.Encode()}
	config, err := msdsn.Parse(u.String())
	if err != nil {
		return msdsn.Config{}, fmt.Errorf("read address %q: %w", o.Address, err)
	}
	config.User, config.Password = o.User, o.Password
	if o.Verify && config.TLSConfig != nil {
		config.TLSConfig.RootCAs = o.Roots
	}
	return config, nil
}

// IsHere tells whether the server is on this machine, by its name, or by an address of
// its own: only then it and this process can share virtual devices.
func (o Options) IsHere() bool {
	host, _ := o.split()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback() || isOwn(ip)
	}
	name, err := os.Hostname()
	return strings.EqualFold(host, "localhost") || err == nil && strings.EqualFold(host, name)
}

// Host says what this machine can do.
func (s *Server) Host(context.Context) (*server.Host, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("ask for this machine's name: %w", err)
	}
	h := &server.Host{System: runtime.GOOS, Architecture: runtime.GOARCH, Name: name, Elevated: elevated(), Others: s.others}
	if s.opt.IsHere() {
		h.SystemDrive = systemDrive()
	}
	err = s.canVDI()
	if h.HasVDI = err == nil; err != nil {
		h.WhyNoVDI = err.Error()
	}
	return h, nil
}

// ErrElsewhere: the server is on another machine than this program.
var ErrElsewhere = errors.New("SQL Server is on another machine")

func (s *Server) canVDI() error {
	if !s.opt.IsHere() {
		return fmt.Errorf("%w: %w", server.ErrNoVDI, ErrElsewhere)
	}
	if s.opt.OpenSet != nil {
		return nil
	}
	return vdi.Available()
}

// instance is the instance's name for virtual devices.
func (s *Server) instance() string {
	if s.opt.Instance != "" {
		return s.opt.Instance
	}
	_, name := s.opt.split()
	return name
}
