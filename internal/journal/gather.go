package journal

import (
	"log/slog"
	"slices"
)

// gathered is what a handler was given before the record.
type gathered struct {
	attrs  []slog.Attr
	groups []string // that are open
}

func (g gathered) withAttrs(attrs []slog.Attr) gathered {
	return gathered{attrs: append(slices.Clone(g.attrs), g.grouped(attrs)...), groups: g.groups}
}

func (g gathered) withGroup(name string) gathered {
	return gathered{attrs: g.attrs, groups: append(slices.Clone(g.groups), name)}
}

// all returns what was gathered, and what the record has.
func (g gathered) all(r slog.Record) []slog.Attr {
	own := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool { own = append(own, a); return true })
	return slices.Concat(g.attrs, g.grouped(own))
}

// grouped puts attributes into the groups that are open.
func (g gathered) grouped(attrs []slog.Attr) []slog.Attr {
	for _, name := range slices.Backward(g.groups) {
		attrs = []slog.Attr{{Key: name, Value: slog.GroupValue(attrs...)}}
	}
	return attrs
}
