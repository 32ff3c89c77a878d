package supervisor_test

import (
	"os"
	"slices"
	"syscall"
	"time"

	"tund/internal/keys"
	"tund/internal/pipe"
	"tund/internal/supervisor"
)

// wrongHandOvers are what an actor of that name does instead of handing over.
var wrongHandOvers = []string{
	"hangs", "dies first", "dies half", "dies last", "lingers", "fails", "says too many", "says too few", "talks on",
	"says it twice", "only exits", "floods", "is cut", "gives up",
}

func behaviourOf(name string) behaviour {
	if slices.Contains(wrongHandOvers, name) {
		return behaviour{handOver: name}
	}
	return behaviours[name]
}

// sampleKey is a key of which every byte tells where it came from.
func sampleKey(id keys.KeyID) *pipe.KeyState {
	m := &pipe.KeyState{
		KeyID: id, Epoch: 5, AEAD: keys.AES256GCM, Installed: time.Second, Next: 1000 * 1000,
		Slots: []pipe.SlotState{{Generation: 3, SendIndex: 7, ReceiveIndex: 8, Heard: true}},
	}
	for i := range m.Send.Key {
		m.Send.Key[i], m.Receive.Key[i] = byte(id)<<4|1, byte(id)<<4|2
	}
	return m
}

// sampleState is what an actor hands over that was told nothing else.
func sampleState() supervisor.State {
	return supervisor.State{
		Keys: []*pipe.KeyState{sampleKey(1), sampleKey(2)},
		End:  pipe.HandedOver{Keys: 2, SendKey: 2, SendGeneration: 3, FloorKey: 2, FloorGeneration: 3, NewestKey: 2},
	}
}

// die is kill -9 at a certain moment.
func die(now bool) {
	if now {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		forever()
	}
}

// resumed answers Resume.
func (a *actor) resumed(b behaviour, m pipe.Resume) error {
	answer := pipe.Resumed{Seq: m.Seq + b.resume, Err: b.refuse}
	if int(m.End.Keys) != len(a.keys) {
		answer.Err = "keys are missing"
	}
	return a.conn.Send(answer)
}

// handOver plays what a child does when it is told to hand over, and what it should not.
func (a *actor) handOver(b behaviour) error {
	end := sampleState().End
	end.Keys = uint8(len(a.keys))
	switch b.handOver {
	case "hangs":
		forever()
	case "only exits":
		return nil
	case "floods":
		a.keys = slices.Repeat(a.keys, pipe.MaxStates)
		end.Keys = pipe.MaxStates
	case "says too many":
		end.Keys++
	case "says too few":
		end.Keys--
	}
	for i, k := range a.keys {
		die(b.handOver == "dies first" || b.handOver == "dies half" && i == 1)
		if err := a.conn.Send(k); err != nil {
			return err
		}
	}
	return a.endHandOver(b, end)
}

func (a *actor) endHandOver(b behaviour, end pipe.HandedOver) error {
	switch b.handOver {
	case "is cut":
		_, err := a.out.Write([]byte{0, 0, 0, 207, byte(pipe.TypeHandedOver), 2})
		return err
	case "gives up":
		return a.conn.Send(pipe.Fatal{Reason: "device is gone"})
	}
	if err := a.conn.Send(end); err != nil {
		return err
	}
	switch b.handOver {
	case "dies last":
		die(true)
	case "lingers":
		forever()
	case "fails":
		syscall.Exit(7)
	case "talks on":
		return a.conn.Send(pipe.Stats{})
	case "says it twice":
		return a.conn.Send(end)
	}
	return nil
}
