package supervisor_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"tund/internal/pipe"
	"tund/internal/sandbox"
	"tund/internal/supervisor"
)

// parentRole is the test binary as a supervisor that can be killed.
const parentRole = "parent"

// TestMain lets the test binary play children and parents. The peer's name says how a child behaves.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 {
		os.Exit(m.Run())
	}
	name := os.Args[2]
	switch os.Args[1] {
	case sandbox.RoleStart:
		exit(sandbox.Drop(pipe.FDSocket, []string{"tund", sandbox.Role, name}, os.Environ()))
	case sandbox.Role:
		if err := sandbox.Enter(name, pipe.FDSocket); err != nil {
			exit(err)
		}
		exit(newActor().play(behaviourOf(name)))
	case "actor":
		exit(newActor().play(behaviourOf(name)))
	case parentRole:
		exit(playParent())
	default:
		os.Exit(m.Run())
	}
}

// exit ends the process as it is: os.Exit would wait a second for the race detector.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(3)
	}
	syscall.Exit(0)
}

// An actor is a child without a data path.
type actor struct {
	in, out *os.File
	conn    *pipe.Conn
	keys    []*pipe.KeyState // that it hands over
}

// A behaviour says where an actor departs from a good child's ways.
type behaviour struct {
	garbage   bool   // writes what is no message
	mute      bool   // never says hello
	version   uint16 // says another version
	deaf      bool   // does not read after Configured
	silent    bool   // does not answer heartbeats
	stubborn  bool   // ignores Stop
	immortal  bool   // and SIGTERM as well
	crash     bool   // exits when it is configured
	fatal     string // and says why before
	closes    bool   // closes its pipes when it is configured, but lives on
	configure uint64 // is added to the Seq of Configured
	handOver  string // what it does instead of handing over
	refuse    string // what it says instead of resuming
	resume    uint64 // is added to the Seq of Resumed
	floods    bool   // says the same 30,000 times
	offers    bool   // hands a key over without being asked
	perish    string // at which message it is killed: key or resume
	writes    string // to its standard error, when it is configured
	urgent    bool   // asks for the priority of the thread whose id a probe has
	threads   int    // it makes when it is configured
}

var behaviours = map[string]behaviour{
	"good":         {},
	"garbage":      {garbage: true},
	"mute":         {mute: true},
	"old":          {version: pipe.Version + 1},
	"deaf":         {deaf: true},
	"silent":       {silent: true},
	"stubborn":     {stubborn: true},
	"immortal":     {stubborn: true, immortal: true},
	"crash":        {crash: true},
	"fatal":        {crash: true, fatal: "device is gone"},
	"closes":       {closes: true},
	"misconfigure": {configure: 1},
	"refuses":      {refuse: "no clock"},
	"misresume":    {resume: 1},
	"key":          {perish: "key"},
	"resume":       {perish: "resume"},
	"repeats":      {floods: true},
	"offers":       {offers: true},
	"urgent":       {urgent: true},
	"threads":      {threads: 80},
	"few threads":  {threads: 30},
	"writes":       {crash: true, writes: "<4>engine not used\npanic: \x1b[2J\n\ngoroutine 1"},
}

func newActor() *actor {
	in, out := os.NewFile(pipe.FDIn, "in"), os.NewFile(pipe.FDOut, "out")
	return &actor{in: in, out: out, conn: pipe.NewConn(in, out, pipe.Child), keys: sampleState().Keys}
}

// forever blocks without a timer, which would make descriptors.
func forever() {
	for {
		_ = syscall.Pause()
	}
}

// play returns when the pipe ends or when it is told to stop.
func (a *actor) play(b behaviour) error {
	if b.immortal {
		signal.Ignore(syscall.SIGTERM)
	}
	if b.mute {
		forever()
	}
	if b.garbage {
		if _, err := a.out.WriteString("this is no message at all"); err != nil {
			return err
		}
		forever()
	}
	hello := pipe.Hello{Version: pipe.Version, PID: uint32(os.Getpid())}
	if b.version != 0 {
		hello.Version = b.version
	}
	if err := a.conn.Send(hello); err != nil {
		return err
	}
	for {
		m, err := a.conn.Receive()
		if err != nil {
			return nil // the parent is gone
		}
		if stop, err := a.answer(b, m); stop || err != nil {
			return err
		}
	}
}

func (a *actor) answer(b behaviour, m pipe.Message) (stop bool, err error) {
	switch m := m.(type) {
	case pipe.Configure:
		return false, a.configured(b, m)
	case pipe.GetStats:
		if !b.silent {
			return false, a.conn.Send(pipe.Stats{Seq: m.Seq})
		}
	case pipe.HandOver:
		return true, a.handOver(b)
	case *pipe.KeyState:
		a.keys = append(a.keys, m)
		die(b.perish == "key")
	case pipe.Resume:
		die(b.perish == "resume")
		return false, a.resumed(b, m)
	case pipe.SendProbe:
		for range 30_000 {
			if !b.floods {
				break
			}
			if err := a.conn.Send(pipe.RekeyDue{KeyID: 1, Reason: pipe.RekeyBytes}); err != nil {
				return false, err
			}
		}
		if b.offers {
			return false, a.conn.Send(sampleKey(1))
		}
		if b.urgent {
			if err := a.conn.Send(pipe.Urgent{Thread: uint32(m.ID)}); err != nil {
				return false, err
			}
		}
		return false, a.conn.Send(pipe.ProbeResult{ID: m.ID, OK: true})
	case pipe.Stop:
		return !b.stubborn, nil
	}
	return false, nil
}

func (a *actor) configured(b behaviour, m pipe.Configure) error {
	if m.Await {
		a.keys = nil
	}
	if b.fatal != "" {
		if err := a.conn.Send(pipe.Fatal{Reason: b.fatal}); err != nil {
			return err
		}
	} else if err := a.conn.Send(pipe.Configured{Seq: m.Seq + b.configure}); err != nil {
		return err
	}
	_, _ = os.Stderr.WriteString(b.writes)
	for range b.threads {
		go func() { // ends with the process
			runtime.LockOSThread()
			forever()
		}()
	}
	switch {
	case b.crash:
		syscall.Exit(7)
	case b.closes:
		_, _ = a.in.Close(), a.out.Close()
		forever()
	case b.deaf:
		forever()
	}
	return nil
}

// playParent supervises a good child and prints its process id. It ends by being killed.
func playParent() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	events := make(chan supervisor.Event)
	s := supervisor.New(supervisor.Options{
		Log: slog.New(slog.DiscardHandler), Name: "good", Device: null, Socket: null, Command: actorCommand,
		Configure: func() pipe.Configure { return pipe.Configure{Seq: 1, Mode: pipe.ModeTUN} }, Events: events,
	})
	go func() { _ = s.Run(context.Background()) }() // ends with the process
	fmt.Println((<-events).PID)
	time.Sleep(time.Minute)
	return nil
}

func actorCommand(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"tund", "actor", name}
	return cmd
}
