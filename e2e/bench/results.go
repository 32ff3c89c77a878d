package main

import (
	"time"
)

// results is everything that a run has found.
type results struct {
	plan     *plan
	facts    []fact
	took     time.Duration
	versions map[string]string            // by system
	notes    map[string]string            // how it was configured, by system
	leftOut  map[string]string            // why, by system
	values   map[string]map[string]series // by system and metric
	problems []string
}

func newResults(p *plan, facts []fact) *results {
	return &results{
		plan: p, facts: facts,
		versions: map[string]string{}, notes: map[string]string{}, leftOut: map[string]string{},
		values: map[string]map[string]series{},
	}
}

// add notes the value of a metric.
func (r *results) add(system, key string, round int, value float64) {
	if r.values[system] == nil {
		r.values[system] = map[string]series{}
	}
	if r.values[system][key] == nil {
		r.values[system][key] = series{}
	}
	r.values[system][key][round] = value
}

// note keeps how a system was configured.
func (r *results) note(system, text string) { r.notes[system] = text }

// last returns the value of the latest round that has one, 0 if there is none.
func (r *results) last(system, key string) float64 {
	s := r.values[system][key]
	for round := r.plan.rounds - 1; round >= 0; round-- {
		if value, ok := s[round]; ok {
			return value
		}
	}
	return 0
}
