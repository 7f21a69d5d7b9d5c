// Package ledger holds the names and records by which writers and pruners
// agree without locks: sessions, commit slots, tombstones, labels and the
// ledger itself (FORMAT.md §2, §9, §10). It reads and writes nothing: it is
// the grammar, the repository is the speaker.
package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Prefixes of the names, each with its slash.
const (
	Sessions = "sessions/"
	Commits  = "commit/"
	Confirms = "confirm/"
	Forgets  = "forget/"
	Labels   = "label/"
	Ledgers  = "ledger/"
	Indexes  = "index/"
	Data     = "data/"
	Meta     = "meta/"
)

const (
	genDigits  = 8
	srcDigits  = 16
	randDigits = 16
	keyDigits  = 16 // of a key slot's id and of a rotation
	sidLength  = genDigits + 1 + srcDigits + 1 + randDigits
)

// ErrName is returned for a name or sid that does not follow FORMAT.md §2.
var ErrName = errors.New("malformed name")

// SID names one session: one attempt to make one point.
type SID struct {
	Gen  uint32 // the newest ledger when it began
	Src  string // 16 hex: whose point it makes
	Rand string // 16 hex: the point's id
}

// String is gen-src-random.
func (s SID) String() string { return fmt.Sprintf("%08x-%s-%s", s.Gen, s.Src, s.Rand) }

// ParseSID reads what String writes.
func ParseSID(text string) (SID, error) {
	parts := strings.Split(text, "-")
	if len(text) != sidLength || len(parts) != 3 || !isHex(parts[0], genDigits) || !isHex(parts[1], srcDigits) || !isHex(parts[2], randDigits) {
		return SID{}, fmt.Errorf("parse session id %.60q: %w", text, ErrName)
	}
	gen, err := strconv.ParseUint(parts[0], 16, 32)
	if err != nil {
		return SID{}, fmt.Errorf("parse session id %.60q: %w", text, ErrName)
	}
	return SID{Gen: uint32(gen), Src: parts[1], Rand: parts[2]}, nil
}

func isHex(s string, digits int) bool {
	if len(s) != digits || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// RollName is the record of the n-th session to begin. The roll is dense: each
// session takes the next free number, so that nobody needs a listing to find all.
func RollName(n uint32) string { return fmt.Sprintf("%s%08x", Sessions, n) }

// ParseRoll reads the number in the name of a session's record.
func ParseRoll(name string) (uint32, error) {
	hexes, ok := strings.CutPrefix(name, Sessions)
	if !ok || !isHex(hexes, genDigits) {
		return 0, fmt.Errorf("parse session record name %.80q: %w", name, ErrName)
	}
	n, err := strconv.ParseUint(hexes, 16, 32)
	return uint32(n), err
}

// BeatName is the n-th heartbeat of a session, n > 0.
func BeatName(sid SID, n uint32) string { return fmt.Sprintf("%s%s/%08d", Sessions, sid, n) }

// PacksOf is what the names of packs begin with that sessions of one source and
// generation wrote, below Data or Meta.
func PacksOf(prefix string, gen uint32, src string) string {
	return fmt.Sprintf("%s%08x-%s-", prefix, gen, src)
}

// IndexName is the session's n-th index segment.
func IndexName(sid SID, n int) string { return fmt.Sprintf("%s%s/%08d", Indexes, sid, n) }

// PackName is a pack of the session.
func PackName(prefix string, sid SID, id [16]byte) string {
	return prefix + sid.String() + "/" + hex.EncodeToString(id[:])
}

// CommitName is THE slot: the point exists once this object does.
func CommitName(sid SID) string { return Commits + sid.Src + "/" + sid.String() }

// ConfirmName is what only the source can tell after the commit.
func ConfirmName(sid SID) string { return Confirms + sid.Src + "/" + sid.String() }

// ForgetName is the point's tombstone.
func ForgetName(sid SID) string { return Forgets + sid.Src + "/" + sid.String() }

// LabelName is the point's tags and pin as set for the n-th time.
func LabelName(sid SID, n int) string {
	return fmt.Sprintf("%s%s/%s/%08d", Labels, sid.Src, sid, n)
}

// LedgerName is ledger entry g.
func LedgerName(g uint32) string { return fmt.Sprintf("%s%08x", Ledgers, g) }

// ParseLedger reads the number in a ledger's name.
func ParseLedger(name string) (uint32, error) {
	hexes, ok := strings.CutPrefix(name, Ledgers)
	if !ok || !isHex(hexes, genDigits) {
		return 0, fmt.Errorf("parse ledger name %.80q: %w", name, ErrName)
	}
	g, err := strconv.ParseUint(hexes, 16, 32)
	return uint32(g), err
}

// BoxName is the box of a key slot in a rotation to an epoch.
func BoxName(epoch uint32, rotation, slot string) string {
	return fmt.Sprintf("%s%s/%s", EpochPrefix(epoch), rotation, slot)
}

// DecisionName is the object that decides which rotation made an epoch.
func DecisionName(epoch uint32) string { return EpochPrefix(epoch) + "decision" }

// ParseDecision reads the epoch in a decision's name.
func ParseDecision(name string) (epoch uint32, err error) {
	digits, ours := strings.CutPrefix(strings.TrimSuffix(name, "/decision"), Epochs)
	epoch, ok := number(digits)
	if !ours || !ok || name != DecisionName(epoch) {
		return 0, fmt.Errorf("parse decision name %.80q: %w", name, ErrName)
	}
	return epoch, nil
}

// EpochPrefix is the prefix of all that belongs to the making of an epoch.
func EpochPrefix(epoch uint32) string { return fmt.Sprintf("%s%08d/", Epochs, epoch) }

// ParseBox reads the parts of a box's name.
func ParseBox(name string) (epoch uint32, rotation, slot string, err error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0]+"/" != Epochs || !isHex(parts[2], keyDigits) || !isHex(parts[3], keyDigits) {
		return 0, "", "", fmt.Errorf("parse box name %.80q: %w", name, ErrName)
	}
	n, ok := number(parts[1])
	if !ok {
		return 0, "", "", fmt.Errorf("parse box name %.80q: %w", name, ErrName)
	}
	return n, parts[2], parts[3], nil
}

// RemovalName is the n-th claim to remove a key slot.
func RemovalName(n uint32) string { return fmt.Sprintf("%s%08d", Removals, n) }

// ParseRemoval reads the number in a claim's name.
func ParseRemoval(name string) (uint32, error) {
	digits, found := strings.CutPrefix(name, Removals)
	n, ok := number(digits)
	if !found || !ok {
		return 0, fmt.Errorf("parse removal name %.80q: %w", name, ErrName)
	}
	return n, nil
}

// number reads a number of 8 decimal digits.
func number(digits string) (uint32, bool) {
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), err == nil && len(digits) == 8
}

// ParseSlot reads the sid in the name of a slot, tombstone or confirmation
// (prefix/src/sid); the two mentions of the source must agree.
func ParseSlot(name string) (SID, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return SID{}, fmt.Errorf("parse slot name %.80q: %w", name, ErrName)
	}
	sid, err := ParseSID(parts[2])
	if err != nil {
		return SID{}, err
	}
	if sid.Src != parts[1] {
		return SID{}, fmt.Errorf("parse slot name %.80q: source differs: %w", name, ErrName)
	}
	return sid, nil
}

// ParseNumbered reads sid and number of prefix/…/sid/n: a heartbeat, an index
// segment or a label.
func ParseNumbered(name string) (SID, int, error) {
	parts := strings.Split(name, "/")
	if len(parts) < 3 {
		return SID{}, 0, fmt.Errorf("parse name %.80q: %w", name, ErrName)
	}
	sid, err := ParseSID(parts[len(parts)-2])
	if err != nil {
		return SID{}, 0, err
	}
	last := parts[len(parts)-1]
	n, err := strconv.Atoi(last)
	if err != nil || len(last) != 8 || n < 0 {
		return SID{}, 0, fmt.Errorf("parse name %.80q: %w", name, ErrName)
	}
	return sid, n, nil
}

// ParsePack reads the sid and id in a pack's name.
func ParsePack(name string) (SID, [16]byte, error) {
	var id [16]byte
	parts := strings.Split(name, "/")
	if len(parts) != 3 || (parts[0] != "data" && parts[0] != "meta") || !isHex(parts[2], 32) {
		return SID{}, id, fmt.Errorf("parse pack name %.80q: %w", name, ErrName)
	}
	sid, err := ParseSID(parts[1])
	if err != nil {
		return SID{}, id, err
	}
	_, err = hex.Decode(id[:], []byte(parts[2]))
	return sid, id, err
}
