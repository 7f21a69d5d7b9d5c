package spec

import (
	"fmt"
	"os"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// FlatSize is the length of the flat file beside a descriptor.
func FlatSize(descriptor string) (int64, error) {
	if _, err := os.Stat(descriptor); err != nil {
		return 0, err
	}
	fi, err := os.Stat(strings.TrimSuffix(descriptor, ".vmdk") + "-flat.vmdk")
	if err != nil {
		return 0, err
	}
	if fi.Size()%512 != 0 || fi.Size() == 0 {
		return 0, fmt.Errorf("read flat file: %d bytes are no disk", fi.Size())
	}
	return fi.Size(), nil
}

// DatastoreOf is the datastore's name in "[ds] dir/file".
func DatastoreOf(dsPath string) string {
	ds, _, _ := strings.Cut(strings.TrimPrefix(dsPath, "["), "]")
	return ds
}

// PathOf is the path on the datastore in "[ds] dir/file".
func PathOf(dsPath string) string {
	_, p, _ := strings.Cut(dsPath, "] ")
	return p
}

// Sibling is the datastore path of a file beside another.
func Sibling(dsPath, name string) string {
	if i := strings.LastIndexByte(dsPath, '/'); i >= 0 {
		return dsPath[:i+1] + name
	}
	ds, _, _ := strings.Cut(dsPath, "]")
	return ds + "] " + name
}

// Folder finds or makes the VM folder.
func (s Site) Folder(c *simulator.Context, p string) (*simulator.Folder, error) {
	reg := s.Registry
	at := reg.Get(reg.Get(s.Datacenter).(*simulator.Datacenter).VmFolder).(*simulator.Folder)
	for _, name := range strings.FieldsFunc(p, func(r rune) bool { return r == '/' }) {
		if next, ok := reg.FindByName(name, at.ChildEntity).(*simulator.Folder); ok {
			at = next
			continue
		}
		var res soap.HasFault
		c.WithLock(at, func() { res = at.CreateFolder(c, &types.CreateFolder{This: at.Self, Name: name}) })
		body := res.(*methods.CreateFolderBody)
		if body.Fault_ != nil {
			return nil, fmt.Errorf("create folder %s: %s", name, body.Fault_.String)
		}
		at = reg.Get(body.Res.Returnval).(*simulator.Folder)
	}
	return at, nil
}

// ConfigFiles are the text of a VM's .vmx and .vmxf as far as a reader of a backup would look at
// them; disks are the descriptors' file names.
func ConfigFiles(c *types.VirtualMachineConfigInfo, name string, disks []string) (vmx, vmxf string) {
	var b strings.Builder
	fmt.Fprintf(&b, ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = %q\ndisplayName = \"%s\"\nguestOS = %q\nfirmware = %q\n"+
		"memSize = \"%d\"\nnumvcpus = \"%d\"\nuuid.bios = %q\nnvram = \"%s.nvram\"\n",
		strings.TrimPrefix(c.Version, "vmx-"), name, c.GuestId, c.Firmware, c.Hardware.MemoryMB, c.Hardware.NumCPU, c.Uuid, name)
	for i, file := range disks {
		fmt.Fprintf(&b, "scsi0:%d.present = \"TRUE\"\nscsi0:%d.fileName = \"%s\"\n", i, i, file)
	}
	return b.String(), "<?xml version=\"1.0\"?>\n<Foundry>\n<VM>\n<VMId type=\"string\">" + c.Uuid + "</VMId>\n</VM>\n</Foundry>\n"
}
