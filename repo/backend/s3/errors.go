package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/minio/minio-go/v7"

	"holdfast/repo/backend"
)

// ErrName: the name cannot name an object: it breaks backend.ValidName.
var ErrName = errors.New("bad object name")

// These are kinds of backend.ErrUnreachable: the place is there, and refuses.
var (
	// ErrAccess: the credentials are wrong, or may not do this.
	ErrAccess = fmt.Errorf("%w: access denied: %w", backend.ErrUnreachable, backend.ErrRefused)
	// ErrRegion: the bucket lies in another region than the request was signed for.
	ErrRegion = fmt.Errorf("%w: wrong region", backend.ErrUnreachable)
	// ErrClock: this machine's clock is too far from the server's for signatures to hold.
	ErrClock = fmt.Errorf("%w: clocks differ: %w", backend.ErrUnreachable, backend.ErrRefused)
	// ErrCertificate: the server's certificate is not trusted (--tls-ca names whom to trust).
	ErrCertificate = fmt.Errorf("%w: certificate not trusted: %w", backend.ErrUnreachable, backend.ErrRefused)
	// ErrChecksum: the bytes that came do not have the checksum that the server stores.
	ErrChecksum = fmt.Errorf("%w: object differs from its checksum", backend.ErrUnreachable)
)

// ErrNoBucket: the server has no such bucket, so nothing is there and nothing can
// be made. It is a kind of backend.ErrNotFound.
var ErrNoBucket error = noBucket{}

type noBucket struct{}

func (noBucket) Error() string { return "the bucket does not exist" }
func (noBucket) Unwrap() error { return backend.ErrNotFound }

// ErrLocked: the object may not be deleted before a time that its lock names.
var ErrLocked = fmt.Errorf("object is locked: %w", backend.ErrRefused)

// permission is what an operator has to allow for each verb.
var permission = map[string]string{
	"put":                    "s3:PutObject, with object lock also s3:PutObjectRetention",
	"put new":                "s3:PutObject, with object lock also s3:PutObjectRetention",
	"get":                    "s3:GetObject and s3:ListBucket",
	"stat":                   "s3:GetObject and s3:ListBucket",
	"get version":            "s3:GetObjectVersion",
	"list":                   "s3:ListBucket",
	"list versions":          "s3:ListBucketVersions",
	"delete":                 "s3:DeleteObject",
	"delete version":         "s3:DeleteObjectVersion",
	"ask for object lock of": "s3:GetBucketObjectLockConfiguration",
	"extend retention":       "s3:GetObjectRetention and s3:PutObjectRetention",
}

// fullCodes are how servers say that the place is full, besides status 507.
var fullCodes = map[string]bool{
	"XMinioStorageFull": true, "XMinioAdminBucketQuotaExceeded": true, "QuotaExceeded": true,
	"QuotaExceededException": true, "InsufficientStorage": true, "StorageFull": true, "InsufficientCapacity": true,
}

// keyCodes are 400s and 403s about who asks, not about what for.
var keyCodes = map[string]bool{
	"InvalidAccessKeyId": true, "SignatureDoesNotMatch": true, "ExpiredToken": true, "ExpiredTokenException": true,
	"InvalidToken": true, "TokenRefreshRequired": true, "NotSignedUp": true, "AccountProblem": true,
}

// explain turns the client's error into one of the contract. Only the caller's
// own context is wrapped: a timeout inside the HTTP client also says that it is
// context.DeadlineExceeded, which nobody would ever try again.
func (b *Backend) explain(ctx context.Context, verb, name string, err error) error {
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%s %s: %w", verb, name, ended)
	}
	if answer := minio.ToErrorResponse(err); answer.StatusCode != 0 || answer.Code != "" {
		return b.refused(verb, name, answer)
	}
	if own, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%s %s: %w: %s", verb, name, ErrCertificate, b.clean(own.Err.Error()))
	}
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // without the URL, which says nothing new
	}
	text := err.Error()
	if strings.HasPrefix(text, "Connection closed by foreign host") {
		text = "connection closed by the server"
	}
	return fmt.Errorf("%s %s: %w: %s", verb, name, backend.ErrUnreachable, b.clean(text))
}

// refused explains an answer of the server.
func (b *Backend) refused(verb, name string, a minio.ErrorResponse) error {
	say := fmt.Sprintf("%s (%d %s)", b.clean(a.Message), a.StatusCode, b.clean(a.Code))
	switch {
	case a.Code == "NoSuchBucket":
		return fmt.Errorf("%s %s: bucket %s: %w", verb, name, b.where.Bucket, ErrNoBucket)
	case a.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", verb, name, backend.ErrNotFound)
	case a.Code == "RequestTimeTooSkewed":
		return fmt.Errorf("%s %s: %w: %s; set this machine's clock", verb, name, ErrClock, b.skew())
	case fullCodes[a.Code] || a.StatusCode == http.StatusInsufficientStorage:
		return fmt.Errorf("%s %s: %w: %s", verb, name, backend.ErrNoSpace, say)
	case a.Code == "AuthorizationHeaderMalformed" || a.StatusCode/100 == 3:
		return fmt.Errorf("%s %s: %w", verb, name, b.elsewhere(a, say))
	case keyCodes[a.Code]:
		return fmt.Errorf("%s %s: %w: the credentials were not accepted: %s", verb, name, ErrAccess, say)
	case a.StatusCode == http.StatusForbidden || a.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s %s: %w: %s; it needs %s", verb, name, ErrAccess, say, permission[verb])
	case a.StatusCode == http.StatusServiceUnavailable || a.StatusCode == http.StatusTooManyRequests || a.Code == "SlowDown":
		return fmt.Errorf("%s %s: %w: %s", verb, name, backend.ErrBusy, say)
	}
	return fmt.Errorf("%s %s: %w: %s", verb, name, backend.ErrUnreachable, say)
}

// elsewhere: the bucket is not where the request went.
func (b *Backend) elsewhere(a minio.ErrorResponse, say string) error {
	if a.Region != "" && a.Region != b.region {
		return fmt.Errorf("%w: bucket %s is in %s; set AWS_REGION", ErrRegion, b.where.Bucket, b.clean(a.Region))
	}
	if a.StatusCode/100 == 3 {
		return fmt.Errorf("%w: the server redirects, which is not followed; name the right server: %s", backend.ErrUnreachable, say)
	}
	return fmt.Errorf("%w: %s", ErrRegion, say)
}

// skew says how far the clocks are apart, where that is known.
func (b *Backend) skew() string {
	ahead, err := b.wire.Ahead()
	if err != nil {
		return "by more than the server allows"
	}
	return fmt.Sprintf("the server is %v ahead", ahead.Round(time.Second))
}

// clean makes a foreign text fit for one line of an error, without secrets.
func (b *Backend) clean(text string) string {
	text = b.redact(text)
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	const most = 200
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

// noSuchFeature: the server does not know what was asked of it, or a header
// with it. Which of them is the caller's to find out.
func noSuchFeature(a minio.ErrorResponse) bool {
	if a.StatusCode == http.StatusNotImplemented || a.Code == "NotImplemented" {
		return true
	}
	text := strings.ToLower(a.Message)
	return a.StatusCode == http.StatusBadRequest && (a.Code == "InvalidArgument" || a.Code == "InvalidRequest") &&
		(strings.Contains(text, "unsupported") || strings.Contains(text, "not supported") || strings.Contains(text, "not implemented"))
}
