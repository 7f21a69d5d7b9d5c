package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// ErrCredentials: none were given, and neither the environment nor the shared
// credentials file holds any that are whole.
var ErrCredentials = errors.New("no usable credentials (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)")

// Secret is a text that prints as "***" in every way. The zero Secret is empty.
type Secret struct {
	held func() string // fmt walks into fields, but prints a func as an address
}

// NewSecret takes a copy of text.
func NewSecret(text []byte) Secret {
	copied := string(text)
	return Secret{held: func() string { return copied }}
}

func (s Secret) reveal() string {
	if s.held == nil {
		return ""
	}
	return s.held()
}

// String is "***".
func (s Secret) String() string { return "***" }

// GoString is "***".
func (s Secret) GoString() string { return "***" }

// MarshalText is "***": JSON and logs use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// LogValue is "***".
func (s Secret) LogValue() slog.Value { return slog.StringValue("***") }

// Keys are credentials for a time.
type Keys struct {
	AccessKey    string
	SecretKey    Secret
	SessionToken Secret
	Expires      time.Time // zero: never
}

// value fits keys to the client. Each secret of it that may come back in a
// server's error page is remembered for redaction.
func (k Keys) value(veil *veil) credentials.Value {
	veil.hide(k.SecretKey.reveal(), k.SessionToken.reveal())
	return credentials.Value{
		AccessKeyID: k.AccessKey, SecretAccessKey: k.SecretKey.reveal(), SessionToken: k.SessionToken.reveal(),
		Expiration: k.Expires, SignerType: credentials.SignatureV4,
	}
}

// credentialsOf goes through the places where the SDKs look, in their order,
// and fails where the client would go on without signing. redact blots out of a
// text every secret that was in use.
func credentialsOf(ctx context.Context, opts Options, amazon bool) (creds *credentials.Credentials, redact func(string) string, err error) {
	hidden := &veil{}
	given := Keys{AccessKey: opts.AccessKey, SecretKey: opts.SecretKey, SessionToken: opts.SessionToken}
	env := opts.Env
	if given.AccessKey == "" && opts.Keys == nil {
		given = Keys{
			AccessKey:    env("AWS_ACCESS_KEY_ID"),
			SecretKey:    NewSecret([]byte(env("AWS_SECRET_ACCESS_KEY"))),
			SessionToken: NewSecret([]byte(env("AWS_SESSION_TOKEN"))),
		}
	}
	var provider credentials.Provider
	switch {
	case given.AccessKey != "" && given.SecretKey.reveal() == "" || given.AccessKey == "" && given.SecretKey.reveal() != "":
		return nil, nil, fmt.Errorf("%w: one of access key and secret key is missing", ErrCredentials)
	case given.AccessKey != "":
		provider = &credentials.Static{Value: given.value(hidden)}
	case opts.Keys != nil:
		provider = &renewed{keys: opts.Keys, now: opts.Now, veil: hidden}
	default:
		if provider, err = fromFile(ctx, env, hidden); err != nil {
			return nil, nil, err
		}
	}
	if provider == nil && amazon {
		provider = &credentials.IAM{} // the machine's role; asked when first needed
	}
	if provider == nil {
		return nil, nil, ErrCredentials
	}
	return credentials.New(provider), hidden.redact, nil
}

// fromFile reads the shared credentials file, or returns nil if there is none
// and nobody asked for a profile.
func fromFile(ctx context.Context, env func(string) string, hidden *veil) (credentials.Provider, error) {
	profile, file := env("AWS_PROFILE"), env("AWS_SHARED_CREDENTIALS_FILE")
	home := env("HOME")
	if home == "" {
		home = env("USERPROFILE")
	}
	wanted := profile != "" || file != ""
	if file == "" && home != "" {
		file = filepath.Join(home, ".aws", "credentials")
	}
	if profile == "" {
		profile = "default"
	}
	if _, err := os.Stat(file); err != nil {
		if errors.Is(err, fs.ErrNotExist) && !wanted || file == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: read shared credentials file: %w", ErrCredentials, err)
	}
	provider := &credentials.FileAWSCredentials{Filename: file, Profile: profile}
	value, err := provider.RetrieveWithCredContext(&credentials.CredContext{Context: ctx})
	hidden.hide(value.SecretAccessKey, value.SessionToken)
	if err == nil && value.AccessKeyID != "" && value.SecretAccessKey != "" {
		return provider, nil
	}
	if !wanted {
		return nil, nil
	}
	return nil, fmt.Errorf("%w: profile %q in %s", ErrCredentials, profile, file)
}

// renewed asks a function for credentials whenever the last ones are about to
// end. The client calls it under a lock.
type renewed struct {
	keys  func(context.Context) (Keys, error)
	now   func() time.Time
	veil  *veil
	asked bool
	ends  time.Time
}

// renewEarly is how long before their end credentials are no longer used.
const renewEarly = time.Minute

// RetrieveWithCredContext implements credentials.Provider.
func (r *renewed) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	ctx := context.Background()
	if cc != nil && cc.Context != nil {
		ctx = cc.Context
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return credentials.Value{}, fmt.Errorf("get credentials: %w", err)
	}
	r.asked, r.ends = true, keys.Expires
	return keys.value(r.veil), nil
}

// Retrieve implements credentials.Provider.
func (r *renewed) Retrieve() (credentials.Value, error) { return r.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider.
func (r *renewed) IsExpired() bool {
	return !r.asked || !r.ends.IsZero() && !r.now().Before(r.ends.Add(-renewEarly))
}

// veil blots secrets out of texts that come from outside: a debugging proxy may
// answer with the request that it got, and with it the session token.
type veil struct {
	mu      sync.Mutex
	secrets []string
}

func (v *veil) hide(secrets ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range secrets {
		if s != "" {
			v.secrets = append(v.secrets, s)
		}
	}
	if n := len(v.secrets); n > 8 { // tokens that ended are worth nothing
		v.secrets = v.secrets[n-8:]
	}
}

func (v *veil) redact(text string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}
