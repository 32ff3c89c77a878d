package journal

import (
	"log/slog"
	"slices"
	"time"
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

// complete returns a record with all that was gathered, without its time, which the journal
// notes itself; and its attributes.
func (g gathered) complete(r slog.Record) (slog.Record, []slog.Attr) {
	own := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool { own = append(own, a); return true })
	all := slices.Concat(g.attrs, g.grouped(own))
	whole := slog.NewRecord(time.Time{}, r.Level, r.Message, 0)
	whole.AddAttrs(all...)
	return whole, all
}

// grouped puts attributes into the groups that are open.
func (g gathered) grouped(attrs []slog.Attr) []slog.Attr {
	for _, name := range slices.Backward(g.groups) {
		attrs = []slog.Attr{{Key: name, Value: slog.GroupValue(attrs...)}}
	}
	return attrs
}
