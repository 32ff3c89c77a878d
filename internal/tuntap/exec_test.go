package tuntap_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tund/internal/tuntap"
)

// childArgument makes the test program play a child: it echoes one packet of the
// device that it inherits at descriptor 3.
const childArgument = "echo-one-packet-as-child"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childArgument {
		if err := echo(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

func echo(word string) error {
	mode, err := tuntap.ParseMode(word)
	if err != nil {
		return err
	}
	p, err := tuntap.FromFD(3, mode)
	if err != nil {
		return err
	}
	if err := p.Wait(-1); err != nil {
		return err
	}
	b := make([]byte, 2000)
	n, err := p.Read(b)
	if err != nil {
		return err
	}
	_, err = p.Write(b[:n])
	return err
}

// What was queued while no child ran must be there for the next one.
func TestChildrenUseTheInheritedDescriptorOneAfterAnother(t *testing.T) {
	for _, mode := range []tuntap.Mode{tuntap.TUN, tuntap.TAP} {
		t.Run(mode.String(), func(t *testing.T) {
			enterNamespace(t)
			d := open(t, tuntap.Options{Name: "dev0", Mode: mode, Queue: 1000})
			ip(t, "link set dev0 up")
			s := newPacketSocket(t, d.Index())
			payload := ipPacket
			if mode == tuntap.TAP {
				payload = frame
			}
			s.send(payload(100))
			s.send(payload(200))
			for _, n := range []int{100, 200} {
				runChild(t, d, mode)
				if got := s.receive(); !bytes.Equal(got, payload(n)) {
					t.Errorf("echoed %x", got)
				}
			}
		})
	}
}

func runChild(t *testing.T, d *tuntap.Device, mode tuntap.Mode) {
	t.Helper()
	var said strings.Builder
	child := exec.CommandContext(t.Context(), "/proc/self/exe", childArgument, mode.String())
	child.ExtraFiles = []*os.File{d.File()}
	child.Stderr = &said
	if err := child.Run(); err != nil {
		t.Fatalf("child: %v: %s", err, said.String())
	}
}
