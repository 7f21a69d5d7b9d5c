package repo_test

import (
	"context"
	"strings"
	"sync"

	"holdfast/repo/backend"
	"holdfast/repo/seal"
)

type secretOf = seal.Secret

// meter counts the calls and bytes that reach a backend.
type meter struct {
	backend.Backend
	mu     sync.Mutex
	gets   []string       // names, one a call
	bytes  int64          // read
	whole  map[string]int // reads from first byte to last, by name
	writes []string
}

func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets, m.bytes, m.writes, m.whole = nil, 0, nil, map[string]int{}
}

func (m *meter) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := m.Backend.Get(ctx, name, offset, length)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets = append(m.gets, name)
	m.bytes += int64(len(data))
	if offset == 0 && length < 0 {
		if m.whole == nil {
			m.whole = map[string]int{}
		}
		m.whole[name]++
	}
	return data, err
}

func (m *meter) note(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, name)
}

func (m *meter) Put(ctx context.Context, name string, data []byte) error {
	m.note(name)
	return m.Backend.Put(ctx, name, data)
}

func (m *meter) PutIfAbsent(ctx context.Context, name string, data []byte) error {
	m.note(name)
	return m.Backend.PutIfAbsent(ctx, name, data)
}

// written counts writes below prefix.
func (m *meter) written(prefix string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, name := range m.writes {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}
