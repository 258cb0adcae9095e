package mirror

import "maps"

// Intercept returns a State that holds what s does, and of which each operation
// goes through do.
func Intercept(s *State, do func(op func() error) error) *State { return &State{intercepted{s.kv, do}} }

// CopyState returns a State in memory with what s, which is one too, holds now.
func CopyState(s *State) *State {
	c := &memory{values: map[bucket]map[string][]byte{}}
	for b, values := range s.kv.(*memory).values {
		c.values[b] = maps.Clone(values)
	}
	return &State{c}
}

type intercepted struct {
	kv
	do func(op func() error) error
}

func (i intercepted) get(b bucket, key string) (v []byte, err error) {
	err = i.do(func() (err error) {
		v, err = i.kv.get(b, key)
		return err
	})
	return v, err
}

func (i intercepted) write(c change) error {
	return i.do(func() error { return i.kv.write(c) })
}

func (i intercepted) each(b bucket, visit func(key string, value []byte) error) error {
	if err := i.do(func() error { return nil }); err != nil {
		return err
	}
	return i.kv.each(b, visit)
}
