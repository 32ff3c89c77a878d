// Command tunctl shows what tund does and tells it what to do.
//
// It is a thin client of the control socket (package ctl): everything that changes
// a tunnel is done, and decided, by the daemon. Only check, invite, join, genkey,
// pubkey and genpsk work without one.
//
// Data goes to standard output and messages to standard error. The exit status is
// 0 when it is done, 1 when it failed, 2 for wrong usage, 3 when tund cannot be
// reached, 4 when the caller may not do it, and 5 when a part of it was done.
package main

import "os"

// version is set by the linker (-X main.version=…).
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
