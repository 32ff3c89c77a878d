package sandbox_test

import (
	"strings"
	"testing"

	"tund/internal/sandbox"
)

const cleanStatus = "Name:\ttund: alpha\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n" +
	"CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n"

func TestThreadStatusIsRefusedForAnyPrivilege(t *testing.T) {
	if err := sandbox.CheckStatus(cleanStatus); err != nil {
		t.Fatalf("a clean status: %v", err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		status := strings.Replace(cleanStatus, set+":\t0000000000000000", set+":\t0000000000001000", 1)
		if sandbox.CheckStatus(status) == nil {
			t.Errorf("%s with a capability was accepted", set)
		}
	}
	for what, status := range map[string]string{
		"without no_new_privs": strings.Replace(cleanStatus, "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1),
		"without a set":        strings.Replace(cleanStatus, "CapEff", "CapXyz", 1),
		"empty":                "",
	} {
		if sandbox.CheckStatus(status) == nil {
			t.Errorf("a status %s was accepted", what)
		}
	}
}
