package lab

import (
	"maps"

	"github.com/vmware/govmomi/vim25/types"

	"holdfast/vmware/lab/guest"
)

// usersKey is the advanced setting by which a VM that is restored has the users of the
// one that was backed up. In a real guest they are files of its disks; the laboratory's
// guests have none, and what their disks hold is bytes to it. The value tells nothing.
const usersKey = "lab.users"

// login is the only one of a guest.
type login struct{ user, password string }

// AddVM creates a VM through vcsim and gives its disks bytes.
func (l *Lab) AddVM(spec VMSpec) (*VM, error) {
	if spec.GuestUser == "" && spec.GuestPassword == "" {
		return l.vms.Add(spec)
	}
	id := randomHex(8)
	l.mu.Lock()
	l.logins[id] = login{spec.GuestUser, spec.GuestPassword}
	l.mu.Unlock()
	extra := maps.Clone(spec.ExtraConfig)
	if extra == nil {
		extra = map[string]string{}
	}
	extra[usersKey] = id
	spec.ExtraConfig = extra
	return l.vms.Add(spec)
}

// moveIn gives the guest of an imported VM the users that its configuration brings.
func (l *Lab) moveIn(ref types.ManagedObjectReference, config []types.BaseOptionValue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range config {
		v := o.GetOptionValue()
		if id, is := v.Value.(string); is && v.Key == usersKey {
			if who, known := l.logins[id]; known {
				l.users[ref.Value] = who
			}
		}
	}
}

// account tells guest operations about a VM.
func (l *Lab) account(ref types.ManagedObjectReference) guest.Account {
	a := l.vms.Guest(ref)
	l.mu.Lock()
	defer l.mu.Unlock()
	if who, known := l.users[ref.Value]; known {
		a.User, a.Password = or(who.user, a.User), or(who.password, a.Password)
	}
	return a
}
