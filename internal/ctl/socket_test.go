package ctl

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func listenAt(path string) (*Server, error) {
	return Listen(Options{Path: path, Backend: new(fakeBackend), Group: readers, AdminGroup: admins})
}

func TestTheSocketIsForItsGroups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "tund.sock")
	server, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, server)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o660 { // the mask's bits stand in the group's place
		t.Errorf("mode %s", info.Mode())
	}
	if server.socket.denied != nil {
		t.Error(server.socket.denied)
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || dir.Mode().Perm()&^0o755 != 0 {
		t.Errorf("directory: %v %v", dir.Mode(), err)
	}
}

func TestASocketThatIsAnsweredIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock")
	first, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, first)
	second, err := listenAt(path)
	if err == nil {
		closed(t, second)
		t.Fatal("both listen")
	}
	if err.Error() != "another tund is running on "+path {
		t.Errorf("got %v", err)
	}
}

func TestTheSocketOfADeadDaemonIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	closed(t, dead)
	server, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, server)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left behind")
	}
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt(path); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("file: %q %v", text, err)
	}
}

func TestCloseLeavesASocketThatIsNotItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock")
	first, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil { // keeps the inode, so that it is not used again
		t.Fatal(err)
	}
	second, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, second)
	closed(t, first)
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second's socket: %v", err)
	}
}

func TestAPathThatCannotBeOneIsAnErrorThatSaysSo(t *testing.T) {
	for path, want := range map[string]string{
		"": "no path",
		filepath.Join(t.TempDir(), strings.Repeat("long", 30)): "longer than 107 bytes",
	} {
		server, err := listenAt(path)
		if err == nil {
			closed(t, server)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

func TestOfManyDaemonsThatStartAtOnceOneListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	closed(t, dead)
	var group sync.WaitGroup
	servers := make([]*Server, 16)
	for i := range servers {
		group.Go(func() { servers[i], _ = listenAt(path) })
	}
	group.Wait()
	listening := 0
	for _, server := range servers {
		if server != nil {
			listening++
			defer closed(t, server)
		}
	}
	if listening != 1 {
		t.Errorf("%d listen", listening)
	}
}
