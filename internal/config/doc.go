// Package config reads tund.toml and the files of peers.d beside it, and gives one
// validated, immutable value with all defaults filled in.
//
// It is strict: whatever it does not know, or knows under another spelling, is an
// error, and all errors are reported at once, each with its file, line and key. A
// configuration that is refused leaves nothing behind; one that is accepted holds
// nothing that has no effect.
//
//	tund.toml, peers.d/*.toml ─► document ─► fill ─► check ─► key files ─► *Config
//	                             (TOML,      (types,  (one against
//	                              lines)      ranges)   the other)
//
// The tables in schema.go are the single source of the keys: their types, defaults,
// reload classes and descriptions. Names are not resolved and no network is touched.
//
// A Config must not be changed by those who read it. [Diff] compares two of them;
// what to do about a difference is the daemon's.
package config
