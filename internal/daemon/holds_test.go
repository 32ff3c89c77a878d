package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOrdersToStayDownAreReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tund.sock.held")
	h, err := openHolds(path)
	if err != nil {
		t.Fatal(err)
	}
	for peer, reason := range map[string]string{"a": "by order", "b": "by the other side"} {
		if err := h.set(peer, reason); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.set("b", ""); err != nil {
		t.Fatal(err)
	}
	again, err := openHolds(path)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := again.get("a"), again.get("b"); a != "by order" || b != "" {
		t.Errorf("a %q, b %q", a, b)
	}
}

func TestTheFileOfOrdersGoesWithTheLastOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "held")
	h, _ := openHolds(path)
	_ = h.set("a", "by order")
	_ = h.set("a", "")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestADamagedFileOfOrdersIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "held")
	if err := os.WriteFile(path, []byte(`{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openHolds(path); err == nil {
		t.Error("a peer that was ordered down could come up by accident")
	}
}

func TestAnOrderThatCannotBeWrittenIsAnErrorUntilItCan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	h, _ := openHolds(filepath.Join(dir, "held"))
	for range 2 { // the second time it is no news, and still not kept
		if err := h.set("a", "by order"); err == nil {
			t.Error("no error")
		}
	}
	if h.keepLate() {
		t.Error("kept in a directory that is not there")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if !h.keepLate() || h.keepLate() {
		t.Error("not kept once when it can be")
	}
	if again, err := openHolds(h.path); err != nil || again.get("a") != "by order" {
		t.Errorf("read back: %v", err)
	}
}
