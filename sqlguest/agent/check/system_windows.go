package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/mgr"
)

func elevated() bool { return windows.GetCurrentProcessToken().IsElevated() }

// system looks at the services that a backup leans on, and at the event log.
func system(ctx context.Context) []Line {
	var f found
	f.askServices()
	f.providers, f.providersErr = askProviders()
	f.events, f.eventsErr = askEvents(ctx)
	return f.lines()
}

func (f *found) askServices() {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		f.listing = err
		return
	}
	defer func() { _ = windows.CloseServiceHandle(manager) }()
	vss, writer := look(manager, "VSS"), look(manager, "SQLWriter")
	f.vss, f.writer = &vss, &writer
	names, err := (&mgr.Mgr{Handle: manager}).ListServices()
	f.listing = err
	for _, name := range names {
		if isEngine(name) {
			f.engines = append(f.engines, look(manager, name))
		}
	}
}

// look asks for no more rights than it needs, which the manager's own Open does.
func look(manager windows.Handle, name string) service {
	s := service{name: name}
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		s.err = err
		return s
	}
	handle, err := windows.OpenService(manager, text, windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	if err != nil {
		s.missing = errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST)
		s.err = err
		return s
	}
	defer func() { _ = windows.CloseServiceHandle(handle) }()
	var status windows.SERVICE_STATUS
	if s.err = windows.QueryServiceStatus(handle, &status); s.err != nil {
		return s
	}
	s.running = status.CurrentState == windows.SERVICE_RUNNING
	s.disabled, s.account, s.err = config(handle)
	return s
}

// config asks for a service's basic configuration alone. Service.Config of package mgr
// asks for what came later, too, and fails where that is not known.
func config(handle windows.Handle) (disabled bool, account string, err error) {
	size := uint32(1024)
	for {
		buffer := make([]byte, size)
		c := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&buffer[0]))
		err := windows.QueryServiceConfig(handle, c, size, &size)
		if errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) && size > uint32(len(buffer)) {
			continue
		}
		if err != nil {
			return false, "", fmt.Errorf("ask for the service's configuration: %w", err)
		}
		return c.StartType == windows.SERVICE_DISABLED, windows.UTF16PtrToString(c.ServiceStartName), nil
	}
}

// askProviders reads the registered providers of shadow copies; no key at all is none.
func askProviders() (map[string]string, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Services\VSS\Providers`, registry.READ)
	if errors.Is(err, registry.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the list of providers: %w", err)
	}
	defer func() { _ = key.Close() }()
	ids, err := key.ReadSubKeyNames(-1)
	if err != nil {
		return nil, fmt.Errorf("list providers: %w", err)
	}
	names := map[string]string{}
	for _, id := range ids {
		names[id] = providerName(key, id)
	}
	return names, nil
}

// providerName is what a provider calls itself, "" if nobody says.
func providerName(key registry.Key, id string) string {
	sub, err := registry.OpenKey(key, id, registry.READ)
	if err != nil {
		return ""
	}
	defer func() { _ = sub.Close() }()
	name, _, err := sub.GetStringValue("")
	if err != nil {
		return ""
	}
	return name
}

// askEvents asks the System log, by the program of this Windows and no other of its name.
func askEvents(ctx context.Context) ([]byte, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return nil, fmt.Errorf("find wevtutil: %w", err)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "wevtutil.exe"), eventsArgs()...).Output()
	if err != nil {
		return nil, fmt.Errorf("run wevtutil: %w", err)
	}
	return out, nil
}
