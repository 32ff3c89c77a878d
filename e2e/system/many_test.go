package system

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tund/e2e/lab"
)

// many is a number of peers of which the manager has to keep two descriptors each.
const many = 1000

func TestAThousandPeersSurviveARestart(t *testing.T) {
	f := NewFleet(t)
	m := f.Boot(map[string]string{"hub": "bookworm"})["hub"]
	know(t, m, older)
	m.Run("apt-get", "install", "-y", "tund")
	f.step("configure", func() {
		m.Edit(config, m.Read(config)+strangers(t))
		m.Run("systemctl", "reload", unit)
	})
	awaitAll(t, m)
	before := devices(t, m)
	if len(before) < many {
		t.Fatalf("%d devices", len(before))
	}
	f.step("restart", func() { m.Run("systemctl", "restart", unit) })
	f.step("all are there", func() { awaitAll(t, m) })
	for name, index := range devices(t, m) {
		if before[name] != index {
			t.Fatalf("%s has index %d, had %d", name, index, before[name])
		}
	}
	// None had to be killed because it did not get on, and systemd had no reason to end tund.
	wantOutput(t, m, "0", "systemctl", "show", "--value", "--property=NRestarts", unit)
	if died := len(m.Journal("EVENT=child exited")); died > 0 {
		t.Errorf("%d children died", died)
	}
	f.step("stop", func() { m.Run("systemctl", "stop", unit) })
	wantOutput(t, m, "success", "systemctl", "show", "--value", "--property=Result", unit)
	if left := devices(t, m); len(left) > 5 {
		t.Errorf("%d devices after the stop", len(left))
	}
}

// strangers returns the configuration of many peers, none of which exists.
func strangers(t *testing.T) string {
	t.Helper()
	text := &strings.Builder{}
	for i := range many {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(text, "\n[peer.p%d]\npublic_key = %q\n", i, base64.StdEncoding.EncodeToString(public))
	}
	return text.String()
}

// awaitAll waits until every peer has its child, and the manager their descriptors.
func awaitAll(t *testing.T, m *Machine) {
	t.Helper()
	children, stored := 0, ""
	defer func() { t.Logf("%d peers have a child, %s descriptors are kept", children, stored) }()
	lab.Until(t, 5*time.Minute, "every peer has a child, and all descriptors are kept", func() bool {
		children, stored = 0, m.Show("NFileDescriptorStore")
		status, err := m.TryStatus()
		for _, peer := range status.Peers {
			if peer.ChildPID != 0 {
				children++
			}
		}
		return err == nil && children == many && stored == strconv.Itoa(2*many)
	})
}

// devices returns the numbers of a machine's network devices by their names.
func devices(t *testing.T, m *Machine) map[string]int {
	t.Helper()
	var links []struct {
		Name  string `json:"ifname"`
		Index int    `json:"ifindex"`
	}
	if err := json.Unmarshal([]byte(m.Run("ip", "-json", "link", "show")), &links); err != nil {
		t.Fatal(err)
	}
	indexes := map[string]int{}
	for _, link := range links {
		indexes[link.Name] = link.Index
	}
	return indexes
}
