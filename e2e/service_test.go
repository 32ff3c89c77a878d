package e2e

import (
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tund/e2e/lab"
)

// tund under a service manager, which the lab stands in for.

func TestServiceManagerIsToldHowTheDaemonIs(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	manager := p.Alpha.Manage(0)
	p.Alpha.Start()
	within(t, "readiness is told", func() bool { return len(manager.Heard("READY=1")) == 1 })
	within(t, "a peer is told of", func() bool { return manager.Status() == "1 peer, 0 up" })
	p.Beta.Start()
	p.WaitUp()
	within(t, "the peer is told to be up", func() bool { return manager.Status() == "1 peer, 1 up" })
	p.Alpha.Ctl("reload")
	within(t, "readiness is told again", func() bool { return len(manager.Heard("READY=1")) == 2 })
	reloads, ready := manager.Heard("RELOADING=1\nMONOTONIC_USEC="), manager.Heard("READY=1")
	if len(reloads) != 1 || ready[1].At.Before(reloads[0].At) {
		t.Errorf("a reload was told as %v, then %v", reloads, ready)
	}
	p.Alpha.WriteFile("tund.toml", "nonsense\n")
	within(t, "the refused file is told of", func() bool {
		return strings.HasPrefix(manager.Status(), "1 peer, 1 up; the configuration on disk is not in force")
	})
	if code, _ := p.Alpha.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	within(t, "the end is told of", func() bool { return len(manager.Heard("STOPPING=1")) == 1 })
}

// A freshly installed tund has a configuration without peers: it waits for some.
func TestServiceWithoutPeersIsReady(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	manager := p.Alpha.Manage(0)
	p.Alpha.Configure(lab.NewTable())
	p.Alpha.Start()
	within(t, "readiness is told", func() bool { return len(manager.Heard("READY=1")) == 1 })
	within(t, "idleness is told", func() bool { return manager.Status() == "no peers configured" })
	p.Alpha.Configure(p.AlphaTable)
	within(t, "the peer is told of", func() bool { return manager.Status() == "1 peer, 0 up" })
}

func TestRefusedConfigurationHasItsOwnExitStatus(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.Alpha.WriteFile("tund.toml", "nonsense\n")
	p.Alpha.Launch()
	if code, _ := p.Alpha.Wait(lab.Patience); code != 78 {
		t.Errorf("exit %d, want 78: systemd does not try again then", code)
	}
}

// systemd would start it again at once for whoever waits at the socket, for ever.
func TestRefusedConfigurationHoldsBackWhoWaitsAtTheSocket(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.Alpha.Manage(0)
	p.Alpha.Around = []string{"systemd-socket-activate", "--setenv=NOTIFY_SOCKET", "--listen=" + p.Alpha.Socket(), "--fdname=tund.socket"}
	p.Alpha.WriteFile("tund.toml", "nonsense\n")
	p.Alpha.Launch()
	var start time.Time
	within(t, "somebody may wait at the socket", func() bool {
		start = time.Now()
		conn, err := net.Dial("unix", p.Alpha.Socket())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if code, _ := p.Alpha.Wait(lab.Patience); code != 1 || time.Since(start) < 1500*time.Millisecond {
		t.Errorf("exit %d after %v", code, time.Since(start))
	}
}

func TestWatchdogHearsNothingOfAParentThatHangs(t *testing.T) {
	t.Parallel()
	const watchdog = time.Second
	p := newPair(t, lab.PairOptions{})
	manager := p.Alpha.Manage(watchdog)
	p.Up()
	pings := func() int { return len(manager.Heard("WATCHDOG=1")) }
	within(t, "the watchdog is pinged", func() bool { return pings() > 2 })
	p.Alpha.Signal(syscall.SIGSTOP)
	within(t, "it stands still", func() bool { return strings.HasPrefix(lab.ProcStatus(p.Alpha.PID())["State"], "T") })
	hung := len(manager.Settled("WATCHDOG=1"))
	time.Sleep(2 * watchdog)
	if now := len(manager.Settled("WATCHDOG=1")); now != hung {
		t.Errorf("%d pings from a process that stands still", now-hung)
	}
	p.Alpha.Signal(syscall.SIGCONT)
	within(t, "the watchdog is pinged again", func() bool { return pings() > hung })
}

func TestJournalHasFields(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	journal := p.Alpha.KeepJournal()
	p.Up()
	pid := p.Alpha.MustPeer("beta").ChildPID
	within(t, "a child's start is noted", func() bool { return len(journal.Entries("EVENT", "child started")) > 0 })
	started := journal.Entries("EVENT", "child started")
	if len(started) != 1 {
		t.Fatalf("%d entries of a child's start", len(started))
	}
	for field, want := range map[string]string{
		"PEER": "beta", "CHILD": "1", "PID": strconv.Itoa(pid), "PRIORITY": "6", "SYSLOG_IDENTIFIER": "tund",
		"MESSAGE": "child started peer=beta child=1 pid=" + strconv.Itoa(pid),
	} {
		if started[0][field] != want {
			t.Errorf("%s is %q, want %q", field, started[0][field], want)
		}
	}
	p.Alpha.Ctl("rotate-key", "beta")
	within(t, "the caller of a request is noted", func() bool {
		requests := journal.Entries("EVENT", "control request served")
		return len(requests) == 1 && requests[0]["ACTOR_UID"] == "0" && requests[0]["PATH"] == "/v1/peers/beta/rotate-key"
	})
	if log := p.Alpha.Log(); log != "" {
		t.Errorf("on standard error besides: %s", log)
	}
}

// A child has no way to the journal but its standard error, which its parent reads.
func TestLineOfAChildIsAnEntryOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	journal := p.Alpha.KeepJournal()
	p.Up()
	p.Alpha.IP("link", "del", p.AlphaDevice)
	within(t, "the child says why it ends", func() bool {
		all := journal.Entries("EVENT", "child wrote")
		return len(all) > 0 && all[0]["PRIORITY"] == "3" && all[0]["PEER"] == "beta" && strings.HasPrefix(all[0]["TEXT"], "tund: datapath beta: ")
	})
	within(t, "the parent says so in an entry", func() bool {
		all := journal.Entries("EVENT", "child exited")
		return len(all) == 1 && all[0]["PRIORITY"] == "4" && all[0]["PEER"] == "beta"
	})
	p.WaitUp()
}

// systemd holds the control socket and the port of the sessions: tund takes what is
// there, and leaves it there when it ends.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	p := newPair(t, lab.PairOptions{})
	p.Beta.Around = []string{"systemd-socket-activate", "--listen=" + p.Beta.Socket(), "--listen=7900", "--fdname=tund.socket:tund.socket"}
	p.Up() // the first tunctl starts it
	wantPing(t, p.Alpha, lab.BetaInner4)
	if log := p.Beta.Log(); !strings.Contains(log, `msg=listening addr=[::]:7900 from="inherited socket"`) {
		t.Errorf("the port was not taken over:\n%s", log)
	}
	if r := p.Beta.Ctl("restart"); r.Code != 0 { // another program in the same process
		t.Errorf("restart: exit %d: %s", r.Code, r.Stderr)
	}
	wantPing(t, p.Alpha, lab.BetaInner4)
	if n := strings.Count(p.Beta.Log(), `from="inherited socket"`); n != 2 {
		t.Errorf("the port was taken over %d times, want twice:\n%s", n, p.Beta.Log())
	}
	if code, _ := p.Beta.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(p.Beta.Socket()); err != nil {
		t.Errorf("the control socket, which is systemd's, is gone: %v", err)
	}
}
