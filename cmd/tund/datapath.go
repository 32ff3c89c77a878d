package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"tund/internal/aead"
	"tund/internal/datapath"
	"tund/internal/journal"
	"tund/internal/pipe"
	"tund/internal/sandbox"
	"tund/internal/tuntap"
	"tund/internal/udp"
)

// runDatapath is the life of a data child, in both stages of package sandbox. It
// returns the exit status.
func runDatapath(args []string) int {
	if err := child(args); err != nil {
		journal.ChildComplain("tund: " + err.Error())
		return 1
	}
	return 0
}

func child(args []string) error {
	if len(args) != 3 {
		return errors.New("datapath: this role is for tund itself to start")
	}
	role, name := args[1], args[2]
	if role == sandbox.RoleStart {
		return sandbox.Drop(pipe.FDSocket, []string{"tund", sandbox.Role, name}, os.Environ())
	}
	if err := sandbox.Enter(name, pipe.FDSocket); err != nil {
		return fmt.Errorf("datapath %s: %w", name, err)
	}
	handler, err := journal.ChildHandler()
	if err != nil {
		return fmt.Errorf("datapath %s: %w", name, err)
	}
	log := slog.New(handler)
	engine, err := openEngine(log)
	if err != nil {
		return fmt.Errorf("datapath %s: %w", name, err)
	}
	if err := movePackets(log, engine); err != nil {
		return fmt.Errorf("datapath %s: %w", name, err)
	}
	return nil
}

// openEngine opens the configured engine of package aead. Where it can't be used the
// standard library serves; that is worth a warning to who asked for another one.
func openEngine(log *slog.Logger) (aead.Engine, error) {
	choice := os.Getenv(pipe.EngineVariable)
	engine, reason := aead.Open(choice)
	if engine == nil {
		return nil, reason
	}
	if reason != nil && choice == aead.ChooseIPsecMB {
		log.Warn("engine not used", "reason", reason.Error())
	}
	return engine, nil
}

// movePackets serves until the parent says stop, or is gone. It opens no descriptor,
// now or later: see package sandbox.
func movePackets(log *slog.Logger, engine aead.Engine) error {
	device, mode, err := openDevice()
	if err != nil {
		return err
	}
	socket, err := udp.FromFD(pipe.FDSocket)
	if err != nil {
		return err
	}
	stop, err := sandbox.NewHangup(sandbox.FDStop)
	if err != nil {
		return err
	}
	parent := newParent(stop)
	walls, err := confine(log)
	if err != nil {
		return errors.Join(err, parent.Send(pipe.Hello{Version: pipe.Version, PID: uint32(os.Getpid())}),
			parent.Send(pipe.Fatal{Reason: err.Error()}))
	}
	timer := sandbox.NewAlarm()
	go timer.Run() // ends when the datapath stops it
	o := datapath.Options{
		Log:    log,
		Mode:   mode,
		Device: device,
		Socket: socket,
		Pipe:   parent,
		Stop:   stop,
		Now:    newClock().now,
		Engine: engine,
		Timer:  timer,

		Sandbox: walls,
	}
	if runtime.NumCPU() > fewProcessors {
		device.Linger(linger)
		socket.Linger(linger)
	} else {
		o.Both = datapath.NewPair(device, socket, linger)
		var thread datapath.SystemThread
		if runtime.NumCPU() == pipe.UrgentProcessors && thread.Usual() {
			o.Thread = thread
		}
	}
	d, err := datapath.New(o)
	if err != nil {
		return err
	}
	return d.Run(context.Background())
}

// fewProcessors are too few for a goroutine for each direction: the other programs that
// handle the same packets need them, too.
const fewProcessors = 2

// linger is how long the packet loops keep all that they need for the next packet, once
// they wait for it.
const linger = 100 * time.Millisecond

// confine closes the sandbox before the first byte is read from device, socket or pipe.
// A wall that this machine can't provide is worth a warning, or the end where it is required.
func confine(log *slog.Logger) (pipe.Walls, error) {
	walls := pipe.WallNoNewPrivs // or Enter had refused
	c, err := sandbox.Confine(pipe.FDSocket)
	if err != nil {
		return walls, err
	}
	required := os.Getenv(pipe.SandboxVariable) == pipe.SandboxRequired
	for _, wall := range []struct {
		of       pipe.Walls
		lacking  error
		demanded bool
	}{
		{pipe.WallLandlock, c.Landlock, required},
		{pipe.WallSeccomp, c.Seccomp, required},
		{pipe.WallUser, c.User, false}, // whether tund may change ids is no matter of the kernel
	} {
		if wall.lacking == nil {
			walls |= wall.of
			continue
		}
		lacking := fmt.Errorf("%s: %w", wall.of.Names()[0], wall.lacking)
		if wall.demanded {
			return walls, fmt.Errorf(`sandbox lacks %w (node.sandbox = "best-effort" goes on without)`, lacking)
		}
		log.Warn("sandbox is not whole", "reason", lacking.Error())
	}
	return walls, nil
}

// openDevice finds out by trying which mode the inherited device has.
func openDevice() (*tuntap.Port, pipe.Mode, error) {
	if device, err := tuntap.FromFD(pipe.FDDevice, tuntap.TAP); err == nil {
		return device, pipe.ModeTAP, nil
	}
	device, err := tuntap.FromFD(pipe.FDDevice, tuntap.TUN)
	return device, pipe.ModeTUN, err
}

// parent is the conversation with the parent.
type parent struct{ *pipe.Conn }

func newParent(stop *sandbox.Hangup) parent {
	out := os.NewFile(pipe.FDOut, "pipe to parent")
	return parent{pipe.NewConn(stop.Reader(pipe.FDIn), out, pipe.Child)}
}

// Close does nothing: the Hangup has ended what was read already.
func (parent) Close() error { return nil }
