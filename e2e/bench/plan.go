package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tund/e2e/lab"
)

// plan is what a run measures of whom.
type plan struct {
	settings
	systems      []system
	measurements []measurement
}

// named is a thing that the command line can choose.
type named interface{ id() string }

// names lists the names of things.
func names[T named](things []T) string {
	var ids []string
	for _, thing := range things {
		ids = append(ids, thing.id())
	}
	return strings.Join(ids, ",")
}

// newPlan returns what the settings ask for, or an error that names what is unknown.
func newPlan(s settings) (*plan, error) {
	if s.rounds < 1 || s.seconds < 1 {
		return nil, fmt.Errorf("rounds and seconds: at least 1")
	}
	known := strings.Split(names(systems())+","+names(measurements()), ",")
	for _, name := range append(list(s.only), list(s.skip)...) {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown name %q: one of %s", name, strings.Join(known, ", "))
		}
	}
	p := &plan{settings: s, systems: choose(systems(), s), measurements: choose(measurements(), s)}
	if len(p.systems) == 0 || len(p.measurements) == 0 {
		return nil, fmt.Errorf("nothing is left to measure")
	}
	return p, nil
}

// list splits a list of names, which may be empty.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// choose returns the things that the settings leave. A list of wanted names that has
// none of this kind wants all of the kind.
func choose[T named](things []T, s settings) []T {
	only, skip := list(s.only), list(s.skip)
	wanted := slices.ContainsFunc(things, func(t T) bool { return slices.Contains(only, t.id()) })
	return slices.DeleteFunc(things, func(t T) bool {
		return wanted && !slices.Contains(only, t.id()) || slices.Contains(skip, t.id())
	})
}

// play makes the two hosts and measures every system in every round. It starts each
// round with another system, so that none always follows the same one.
func (p *plan) play(st *stage, programs lab.Binaries) *results {
	b := newBed(st, programs, p.settings)
	r := newResults(p, b.facts())
	p.leaveOut(b, r)
	begin := time.Now()
	for round := range p.rounds {
		for i := range p.systems {
			s := p.systems[(i+round)%len(p.systems)]
			if st.ctx.Err() != nil {
				return r
			}
			p.measure(b, r, s, round)
		}
		if round == 0 {
			st.say("a round takes %v, all of them %v", time.Since(begin).Round(time.Second), (time.Since(begin) * time.Duration(p.rounds)).Round(time.Second))
		}
	}
	r.took = time.Since(begin)
	return r
}

// leaveOut drops the systems that cannot run here, and says why in the results.
func (p *plan) leaveOut(b *bed, r *results) {
	p.systems = slices.DeleteFunc(p.systems, func(s system) bool {
		version, err := s.version(b)
		if err != nil {
			b.stage.say("%s is left out: %v", s.name, err)
			r.leftOut[s.name] = err.Error()
			return true
		}
		r.versions[s.name] = version
		return false
	})
}

// measure runs one system once, takes all its measurements, and ends it.
func (p *plan) measure(b *bed, r *results, s system, round int) {
	t := &take{bed: b, results: r, system: s, round: round, seconds: p.seconds}
	b.stage.say("round %d: %s", round+1, s.name)
	if err := b.stage.attempt(func() error { return b.up(s) }); err != nil {
		t.failed("start", err)
	} else {
		r.note(s.name, s.describe(b))
		for _, m := range p.measurements {
			if err := b.stage.attempt(func() error { return m.take(t) }); err != nil {
				t.failed(m.name, err)
			}
		}
	}
	if err := b.stage.attempt(func() error { return b.down(s) }); err != nil {
		t.failed("stop", err)
	}
}
