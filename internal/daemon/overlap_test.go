package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestAnAddressInAnotherInterfacesNetworkIsSaidOnceAndShown(t *testing.T) {
	const want = "127.0.0.1 of lo lies in 126.0.0.0/7, the network of tun-a"
	r := newRig(t, newKernel(), "[peer.a]\naddresses = [\"126.0.0.1/7\"]\n[peer.b]\n")
	var log bytes.Buffer
	r.log = slog.New(slog.NewTextHandler(&log, nil))
	for range 2 {
		r.findOverlaps()
	}
	if n := strings.Count(log.String(), want); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
	status, err := (*backend)(r.Daemon).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a, b := status.Peers[0].Warnings, status.Peers[1].Warnings; len(a) != 1 || a[0] != want || len(b) != 0 {
		t.Errorf("warnings %q and %q", a, b)
	}
	r.change(t, "[peer.a]\naddresses = [\"198.51.100.1/32\"]\n[peer.b]\n")
	if left := r.overlaps.of("tun-a"); len(left) != 0 {
		t.Errorf("after the change: %q", left)
	}
}
