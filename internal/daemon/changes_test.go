package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tund/internal/keys"
)

// logged returns what a reload logs of what has changed, without times and levels.
func (r *rig) logged(t *testing.T, by asker) string {
	t.Helper()
	var text bytes.Buffer
	r.log = slog.New(slog.NewTextHandler(&text, nil))
	r.reload(context.WithoutCancel(t.Context()), by)
	r.log = slog.New(slog.DiscardHandler)
	var lines []string
	for line := range strings.Lines(text.String()) {
		if _, line, ok := strings.Cut(strings.ReplaceAll(line, r.dir, "DIR"), " level=INFO "); ok {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func (r *rig) psk(t *testing.T) string {
	t.Helper()
	secret := keys.GenerateSecret()
	encoded := secret.Encode()
	if err := os.WriteFile(filepath.Join(r.dir, "a.psk"), encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(encoded))
}

func TestReloadLogsEachChangedKeyWithOldAndNewValue(t *testing.T) {
	r := newRig(t, newKernel("eth0"), "[peer.a]\nmtu = 1400\n[peer.b]\n[peer.c]\n[peer.d]\n")
	r.write(t, "reload = \"manual\"\n[peer.a]\nroutes = [\"10.1.0.0/16\"]\n[peer.c]\n[peer.d]\ninterface = \"eth0\"\n[peer.e]\n")
	want := `msg="configuration applied" uid=1000 path=DIR/tund.toml to=partly reason=command
msg="setting changed" setting=reload from="\"auto\"" to="\"manual\""
msg="setting changed" peer=a setting=routes from=[] to="[\"10.1.0.0/16\"]"
msg="setting changed" peer=a setting=mtu from=1400 to="\"auto\""
msg="peer removed" peer=b
msg="peer added" peer=e
`
	got := r.logged(t, asker{reason: "command", asked: true, uid: 1000})
	if strings.Contains(got, "peer=d") || !containsLines(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// containsLines tells whether all lines of want are in got.
func containsLines(got, want string) bool {
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			return false
		}
	}
	return true
}

func TestReloadLogsNothingOfASecretButThatItHasChanged(t *testing.T) {
	r := newRig(t, newKernel(), "[peer.a]\n")
	first := r.psk(t)
	r.write(t, "[peer.a]\npreshared_key_file = \"a.psk\"\n")
	got := r.logged(t, byFile())
	if !strings.Contains(got, `peer=a setting=preshared_key_file from="" to="\"DIR/a.psk\""`) || !strings.Contains(got, `reason="a file has changed"`) {
		t.Error(got)
	}
	second := r.psk(t)
	next := r.logged(t, bySignal())
	if !strings.Contains(next, `peer=a setting=preshared_key_file path=DIR/a.psk reason="the content of the file is another one"`) || !strings.Contains(next, "reason=SIGHUP") {
		t.Error(next)
	}
	for _, secret := range []string{first, second} {
		if strings.Contains(got+next, secret) {
			t.Error("a secret is in the log")
		}
	}
	if again := r.logged(t, bySignal()); again != "" {
		t.Errorf("nothing has changed, and the log has\n%s", again)
	}
}

func TestCommandWithoutCallerHasNoUser(t *testing.T) {
	if by := byCommand(t.Context()); by.uid != -1 || !by.asked {
		t.Errorf("%+v", by)
	}
}
