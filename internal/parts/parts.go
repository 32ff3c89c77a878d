// Package parts is the rule for what tund wants of the system and what stands alone: an
// address, a route, the place in a bridge, a listener. Each part is wanted, applied, kept, tried again
// and shown by itself; what can't be had now is a state, and never the end of what can.
//
// It is bookkeeping: packages netcfg and daemon apply the parts, and watch the system.
package parts

import (
	"slices"
	"strings"
)

// Missing is a part that is wanted and not there.
type Missing struct {
	Part string // as in "route 10.20.0.0/16"
	Err  error  // why
}

// String is the part and the reason.
func (m Missing) String() string { return m.Part + ": " + m.Err.Error() }

// List is all that is missing of one thing. The zero value misses nothing.
type List []Missing

// Add notes a part, unless err is nil.
func (l *List) Add(part string, err error) {
	if err != nil {
		*l = append(*l, Missing{Part: part, Err: err})
	}
}

// Has reports whether a part of the kind is in the list: the first word of its name.
func (l List) Has(kind string) bool {
	return slices.ContainsFunc(l, func(m Missing) bool { return m.Part == kind || strings.HasPrefix(m.Part, kind+" ") })
}

// Includes reports whether the part is missing for the same reason.
func (l List) Includes(m Missing) bool { return slices.Contains(l.Strings(), m.String()) }

// Strings has a text for each part; it is not nil.
func (l List) Strings() []string {
	texts := make([]string, len(l))
	for i, m := range l {
		texts[i] = m.String()
	}
	return texts
}

// String is all of it in one line; "" for nothing.
func (l List) String() string { return strings.Join(l.Strings(), "; ") }

// Same reports whether both miss the same for the same reasons.
func (l List) Same(other List) bool { return slices.Equal(l.Strings(), other.Strings()) }
