package listing

import (
	"context"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Known is what an Item takes from its file, but for the Preview: who has it need not
// open the file.
type Known struct {
	Info store.Info // Size, Seekable, ModTime and Meta; the rest a List tells
	Head codec.Head
	// Tokens is as in Item, Tail whether it was looked for.
	Tokens *int64
	Tail   bool
}

// known returns what the place knows of f in the version that was listed, and has
// f.info complete.
func (f *file) known(ctx context.Context) (*Known, bool) {
	if f.read == nil && f.place.Known != nil && !f.looked && f.info.Version != "" {
		if k, ok := f.place.Known(ctx, f.path, f.name, f.info.Version); ok {
			f.info.Size, f.info.ModTime, f.info.Meta, f.info.Seekable = k.Info.Size, k.Info.ModTime, k.Info.Meta, k.Info.Seekable
			f.looked, f.read = true, &k
		}
	}
	return f.read, f.read != nil
}
