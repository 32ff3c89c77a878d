package system

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/e2e/lab"
)

// childLimit bounds the wait for the end or the beginning of a child; it is no measurement.
const childLimit = 3 * time.Minute

// A service that the kernel kills for want of memory is started again by systemd, and both
// say so. Its device is the same, and new keys are agreed on. (Here all scores are alike, and the parent
// is the largest process: package vm has the children die.)
func TestServiceKilledForWantOfMemoryIsBackWhenThereIsSome(t *testing.T) {
	t.Parallel()
	p := upPair(t)
	identity := identityOf(p.alpha, "tun-beta")
	parent := p.alpha.hostPID()
	group, err := makeMemoryGroup(p.name + "-memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := group.take(parent); err != nil {
		t.Fatal(err)
	}
	const tooLittle = 1 << 20 // for a child that begins now
	if err := group.limit(tooLittle); err != nil {
		t.Fatal(err)
	}
	for _, child := range lab.Children(parent) {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	lab.Until(t, childLimit, "the service is killed and started again", func() bool {
		return p.alpha.Show("NRestarts") == "1" && p.alpha.Active()
	})
	if kills, err := group.kills(); err != nil || kills == 0 {
		t.Errorf("%d processes killed for want of memory: %v", kills, err)
	}
	p.awaitUp()
	p.wantPing()
	p.alpha.Shell("journalctl --quiet -o cat -u tund | grep -F 'Main process exited, code=killed, status=9/KILL'")
	if said := p.alpha.Journal("EVENT=tunnel taken over without keys", "PEER=beta"); len(said) != 1 {
		t.Errorf("said of the tunnel: %v", said)
	}
	if now := identityOf(p.alpha, "tun-beta"); now != identity {
		t.Errorf("the device is now\n%s\nwas\n%s", now, identity)
	}
}

// hostPID returns the id that the service's first process has on this machine.
func (m *Machine) hostPID() int {
	m.fleet.t.Helper()
	path := filepath.Join(groupsWithin(m.full, "payload/system.slice/"+unit)[0], "cgroup.procs")
	content, err := os.ReadFile(path)
	if err != nil {
		m.fleet.t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(content)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			m.fleet.t.Fatalf("%s: %v", path, err)
		}
		if lab.ProcStatus(pid)["PPid"] == strconv.Itoa(m.pid) {
			return pid
		}
	}
	m.fleet.t.Fatalf("%s: no main process: %s", path, content)
	return 0
}
