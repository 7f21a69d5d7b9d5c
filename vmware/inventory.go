package vmware

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"

	"holdfast/vmware/inventory"
)

var (
	// ErrNotFound means that no VM answers to that name, path, UUID or reference.
	ErrNotFound = inventory.ErrNotFound
	// ErrAmbiguous means that several do; the message lists their paths.
	ErrAmbiguous = inventory.ErrAmbiguous
)

// VM is what the inventory says about a virtual machine.
type VM = inventory.VM

// Selection says which VMs a run is about.
type Selection = inventory.Selection

// VMs lists all virtual machines, sorted by path.
func (s *Session) VMs(ctx context.Context) ([]VM, error) { return inventory.List(ctx, s.client) }

// FindVM finds one VM by name, inventory path (or the end of one), instance
// UUID or managed object reference. Errors wrap ErrNotFound, whose message
// names what is near, or ErrAmbiguous.
func (s *Session) FindVM(ctx context.Context, name string) (VM, error) {
	vms, err := s.VMs(ctx)
	if err != nil {
		return VM{}, err
	}
	return inventory.Pick(vms, name)
}

// Select lists the chosen VMs, each once. A name that finds nothing is an error;
// so is a bad pattern. An empty answer is not.
func (s *Session) Select(ctx context.Context, sel Selection) ([]VM, error) {
	vms, err := s.VMs(ctx)
	if err != nil {
		return nil, err
	}
	tagged, err := s.tagged(ctx, sel.Tags)
	if err != nil {
		return nil, err
	}
	return inventory.Choose(vms, sel, tagged)
}

// tagged finds the VMs that carry any of the tags, by reference.
func (s *Session) tagged(ctx context.Context, names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out := map[string]bool{}
	err := s.withTags(ctx, func(m *tags.Manager) error {
		for _, name := range names {
			tag, err := findTag(ctx, m, name)
			if err != nil {
				return err
			}
			refs, err := m.ListAttachedObjects(ctx, tag)
			if err != nil {
				return fmt.Errorf("list objects with tag %q: %w", name, err)
			}
			for _, r := range refs {
				out[r.Reference().Value] = true
			}
		}
		return nil
	})
	return out, err
}

func findTag(ctx context.Context, m *tags.Manager, name string) (string, error) {
	var tag *tags.Tag
	var err error
	if category, base, ok := strings.Cut(name, ":"); ok && !strings.HasPrefix(name, "urn:") {
		tag, err = m.GetTagForCategory(ctx, base, category)
	} else {
		tag, err = m.GetTag(ctx, name)
	}
	if err != nil {
		return "", fmt.Errorf("find tag %q: %w", name, err)
	}
	return tag.ID, nil
}

// withTags opens a session of the tagging service, which has its own login.
func (s *Session) withTags(ctx context.Context, fn func(*tags.Manager) error) error {
	c := rest.NewClient(s.client)
	if err := c.Login(ctx, url.UserPassword(s.user, string(s.password))); err != nil {
		return fmt.Errorf("log in to the tagging service: %w", classify(ctx, err))
	}
	defer func() { _ = c.Logout(context.WithoutCancel(ctx)) }()
	return fn(tags.NewManager(c))
}
