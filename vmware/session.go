package vmware

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // vSphere names certificates by SHA-1; SHA-256 is accepted as well
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	// ErrUnreachable means that no server answered there, or that the network broke.
	ErrUnreachable = errors.New("vcenter is not reachable")
	// ErrLogin means that the server refused user or password.
	ErrLogin = errors.New("vcenter refused the login")
	// ErrCertificate means that the server's certificate is neither trusted nor the pinned one.
	ErrCertificate = errors.New("certificate of the server is not trusted")
)

// idlePause is how often an idle session is touched. vSphere ends sessions
// after 30 minutes.
const idlePause = 5 * time.Minute

// answerLimit is how long a server may think before it begins to answer. All long
// work is done in tasks and leases.
const answerLimit = 5 * time.Minute

// Options say how to reach a vCenter or an ESXi host.
type Options struct {
	URL  string // https://host[:port][/sdk]; scheme and path may be left out
	User string // if empty: the user in URL
	// Password is used for each login and never printed. If empty: the password in URL.
	Password []byte
	// Thumbprint pins the server's certificate: SHA-1 or SHA-256 of it, in hex,
	// with or without colons. Nothing else is trusted then.
	Thumbprint string
	Insecure   bool   // trust any certificate, if none is pinned
	CAFile     string // PEM bundle to trust instead of the system's
	UserAgent  string
	Log        *slog.Logger
	// KeepAlive is how often an idle session is touched; 0 means 5 minutes.
	KeepAlive time.Duration
}

// Session is one login at a vCenter or host, shared by everything a run does.
// It is safe for concurrent use. When the server forgets it, it logs in again.
type Session struct {
	client   *vim25.Client
	user     string
	password []byte
	pin      []byte // hash of the only certificate to trust for server
	server   string // host:port
	insecure bool
	log      *slog.Logger

	loginMu sync.Mutex
	logins  int // number of logins so far

	stop context.CancelFunc
	done sync.WaitGroup
}

// Connect logs in. Errors wrap ErrUnreachable, ErrLogin or ErrCertificate.
// The caller must Close the session: vSphere bounds their number.
func Connect(ctx context.Context, opt Options) (*Session, error) {
	u, s, err := newSession(opt)
	if err != nil {
		return nil, err
	}
	// The URL may be printed: it holds no secret any more.
	where := u.Host
	web := soap.NewClient(u, opt.Insecure)
	if opt.CAFile != "" {
		if err := web.SetRootCAs(opt.CAFile); err != nil {
			return nil, fmt.Errorf("read certificates %s: %w", opt.CAFile, err)
		}
	}
	transport := web.DefaultTransport()
	transport.MaxIdleConnsPerHost = 16 // several ranges of a disk travel at once
	transport.ResponseHeaderTimeout = answerLimit
	transport.DialTLSContext = s.dial(web)
	if opt.UserAgent != "" {
		web.UserAgent = opt.UserAgent
	}
	s.client, err = vim25.NewClient(ctx, web)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", where, classify(ctx, err))
	}
	if err := s.login(ctx, 0); err != nil {
		return nil, fmt.Errorf("log in to %s as %s: %w", where, s.user, err)
	}
	s.client.RoundTripper = &relogin{inner: s.client.Client, session: s}
	s.keepAlive(opt.KeepAlive)
	return s, nil
}

func newSession(opt Options) (*url.URL, *Session, error) {
	u, err := soap.ParseURL(opt.URL)
	if err != nil || u == nil || u.Host == "" {
		// The URL itself may hold a password, so it is not repeated.
		return nil, nil, fmt.Errorf("parse vcenter url: %w", errURL)
	}
	s := &Session{user: opt.User, password: bytes.Clone(opt.Password), log: opt.Log, insecure: opt.Insecure}
	if s.user == "" {
		s.user = u.User.Username()
	}
	if len(s.password) == 0 {
		secret, _ := u.User.Password()
		s.password = []byte(secret)
	}
	u.User = nil
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.server = u.Host
	if u.Port() == "" {
		s.server = net.JoinHostPort(u.Hostname(), "443")
	}
	s.pin, err = parseThumbprint(opt.Thumbprint)
	return u, s, err
}

var errURL = errors.New("not of the form https://host[:port][/sdk]")

func parseThumbprint(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	pin, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(text))
	if err != nil || (len(pin) != sha1.Size && len(pin) != sha256.Size) {
		return nil, errors.New("parse thumbprint: want SHA-1 or SHA-256 of the certificate in hex")
	}
	return pin, nil
}

// Client is the raw client: calls through it log in again when needed.
func (s *Session) Client() *vim25.Client { return s.client }

// IsVCenter reports whether the server is a vCenter, not a single host.
func (s *Session) IsVCenter() bool { return s.client.IsVC() }

// Close logs out and ends the session's goroutine.
func (s *Session) Close() error {
	s.stop()
	s.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	_, err := methods.Logout(ctx, s.client.Client, &types.Logout{This: *s.client.ServiceContent.SessionManager})
	s.client.CloseIdleConnections()
	clear(s.password)
	if err != nil && !fault.Is(err, &types.NotAuthenticated{}) {
		return fmt.Errorf("log out: %w", err)
	}
	return nil
}

func (s *Session) keepAlive(pause time.Duration) {
	if pause <= 0 {
		pause = idlePause
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := methods.GetCurrentTime(ctx, s.client); err != nil && ctx.Err() == nil {
				s.log.Warn("keep session alive", "error", err)
			}
		}
	})
}

// Relogin logs in again, once for all who found the session gone at the same
// time: seen is what Logins said before their call.
func (s *Session) Relogin(ctx context.Context, seen int) error { return s.login(ctx, seen) }

// Logins is the number of logins so far.
func (s *Session) Logins() int {
	s.loginMu.Lock()
	defer s.loginMu.Unlock()
	return s.logins
}

func (s *Session) login(ctx context.Context, seen int) error {
	s.loginMu.Lock()
	defer s.loginMu.Unlock()
	if s.logins != seen {
		return nil
	}
	req := types.Login{This: *s.client.ServiceContent.SessionManager, UserName: s.user, Password: string(s.password), Locale: "en_US"}
	if _, err := methods.Login(ctx, s.client.Client, &req); err != nil {
		return classify(ctx, err)
	}
	if s.logins++; s.logins > 1 {
		s.log.Info("session had expired, logged in again", "server", s.server)
	}
	return nil
}

// relogin repeats a call that found the session gone.
type relogin struct {
	inner   soap.RoundTripper
	session *Session
}

// RoundTrip implements soap.RoundTripper. The server did nothing when it says
// NotAuthenticated, so a repeated call cannot act twice.
func (r *relogin) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	seen := r.session.Logins()
	err := r.inner.RoundTrip(ctx, req, res)
	if err == nil || !fault.Is(err, &types.NotAuthenticated{}) {
		return classify(ctx, err)
	}
	if err := r.session.login(ctx, seen); err != nil {
		return fmt.Errorf("log in again: %w", err)
	}
	clearFault(res)
	return classify(ctx, r.inner.RoundTrip(ctx, req, res))
}

// dial makes TLS connections: to the pinned certificate, to what the server
// itself vouched for (hosts of a lease), or by the rules of the platform.
func (s *Session) dial(web *soap.Client) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		pin := s.pin
		if addr != s.server || pin == nil {
			// SetThumbprint came from an answer over a connection that was checked.
			pin, _ = parseThumbprint(web.Thumbprint(addr))
		}
		config := web.DefaultTransport().TLSClientConfig.Clone()
		if pin != nil {
			config.InsecureSkipVerify = true
			config.VerifyConnection = func(state tls.ConnectionState) error { return matchPin(pin, state.PeerCertificates) }
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}, Config: config}
		return d.DialContext(ctx, network, addr)
	}
}

func matchPin(pin []byte, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return ErrCertificate
	}
	long := sha256.Sum256(chain[0].Raw)
	got := long[:]
	if len(pin) == sha1.Size {
		short := sha1.Sum(chain[0].Raw) //nolint:gosec // see the import
		got = short[:]
	}
	if subtle.ConstantTimeCompare(pin, got) != 1 {
		return fmt.Errorf("thumbprint is %s: %w", soap.ThumbprintSHA256(chain[0]), ErrCertificate)
	}
	return nil
}

// classify gives transport errors and refused logins the package's sentinels. What a
// cancelled call says of the network is no such thing: its error is why it was cancelled.
func classify(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	var network net.Error
	var op *net.OpError
	var bad *tls.CertificateVerificationError
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrLogin):
		return err
	case fault.Is(err, &types.InvalidLogin{}) || fault.Is(err, &types.NoPermission{}) && isLogin(err):
		return fmt.Errorf("%w: %w", ErrLogin, err)
	case errors.Is(err, ErrCertificate):
		return err
	case errors.As(err, &bad) || soap.IsCertificateUntrusted(err):
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	case errors.As(err, &op) || errors.As(err, &network) || soapless(err):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// isLogin is true for an account without any right, to whom Login itself says NoPermission.
func isLogin(err error) bool {
	return strings.Contains(err.Error(), "Permission to perform this operation")
}

// soapless reports whether what answered was no SOAP server.
func soapless(err error) bool {
	var u *url.Error
	return errors.As(err, &u)
}

// clearFault makes a response body ready to be decoded into once more. Every
// generated body has the field; there is no other way to it.
func clearFault(res soap.HasFault) {
	if v := reflect.ValueOf(res); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		if f := v.Elem().FieldByName("Fault_"); f.IsValid() && f.CanSet() {
			f.SetZero()
		}
	}
}
