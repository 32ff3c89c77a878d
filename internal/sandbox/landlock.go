package sandbox

import (
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

func landlockOffered() error {
	_, err := ll.LandlockGetABIVersion()
	return offered(err)
}

// restrictAccess forbids by Landlock whatever the kernel's version of it knows of:
// opening files for anything, binding and connecting, signalling processes outside. There is
// no exception, but that the list of the own threads can be read: the library finds them
// there, on kernels before the one that restricts all threads in one call.
func restrictAccess() error {
	config := landlock.V11
	if !threadsMaySignal() {
		config.Scoped = 0
	}
	if err := config.BestEffort().Restrict(); err != nil {
		return fmt.Errorf("restrict access: %w", err)
	}
	return nil
}

// threadsMaySignal is false for kernels on which threads that were restricted one by
// one could not signal each other any more, as the Go runtime does.
func threadsMaySignal() bool {
	const (
		togetherABI = 8      // all threads in one call
		fixed       = 1 << 1 // from the kernel's list of errata
	)
	abi, err := ll.LandlockGetABIVersion()
	if err == nil && abi >= togetherABI {
		return true
	}
	errata, err := ll.LandlockGetErrata()
	return err == nil && errata >= 0 && errata&fixed != 0
}
