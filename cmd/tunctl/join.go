package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/invite"
	"tund/internal/keys"
)

// The outcomes of join.
const (
	joinChecked   = "checked" // a dry run: it would be done
	joinAdded     = "added"
	joinReplaced  = "replaced"
	joinUnchanged = "unchanged" // the same file was there already
)

// joined is what join prints as JSON.
type joined struct {
	Schema int               `json:"schema"`
	Peer   string            `json:"peer"`
	File   string            `json:"file"`   // where the peer's table is
	Result string            `json:"result"` // "added", "replaced", "unchanged" or "checked"
	Reload *ctl.ReloadResult `json:"reload"` // what tund did about it; null: nothing
	Next   string            `json:"next"`   // the command that brings it into force; "": none is needed
	Tunnel *tunnel           `json:"tunnel"` // what became of it; null: tund does not run, or was not waited for
}

// joining is one run of join.
type joining struct {
	program *program
	config  string // absolute
	psk     string
	replace bool
	dryRun  bool
	yes     bool
	noWait  bool
	allow   []string // keys by which the invitation may reach further
	reaches []invite.Reach

	invite  *invite.Invite
	text    []byte         // the invitation, which becomes the peer's file
	target  string         // where it goes
	keyFile string         // where the pre-shared key goes; "": it stays as it is
	key     []byte         // its content
	then    *config.Config // the configuration with the invitation, without its secrets
}

func newJoin(p *program) *cobra.Command {
	j := &joining{program: p}
	cmd := &cobra.Command{
		Use:   "join FILE",
		Short: "Check an invitation and install it",
		Long: `Check what tunctl invite has printed on the other side, from FILE or with "-"
from standard input, show what it brings, and install it as a file of peers.d. It
asks before that on a terminal; elsewhere it needs --yes. The invitation must be
for this node, and the whole configuration valid with it; else nothing is
changed. Where tund runs, it loads the file, and join waits until the tunnel is
up or says why it is not (exit status 5); otherwise the next command is shown.

An invitation is input from outside. Only what tunctl invite writes is taken.
What reaches further into this host is refused unless it is allowed by its name:
--allow routes,bridge,interface,allowed_ips and other keys, addresses for those
that are in wide networks (more than /24 or /64), not of private ranges or in a
network of this host, and preshared_key_file for another file than NAME.psk.

A pre-shared key comes in a file of its own, which --psk installs beside the
configuration. A peer that is there already is replaced with --replace only.`,
		Example: `  tunctl join invite.toml
  tunctl join --dry-run invite.toml
  tunctl join --yes --allow routes invite.toml
  ssh alpha tunctl invite beta | tunctl join -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("%s needs one file, or - for standard input", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: completeTOML,
		RunE:              func(cmd *cobra.Command, args []string) error { return j.run(cmd.Context(), args[0]) },
	}
	addConfigFlag(cmd, &j.config)
	cmd.Flags().Var((*path)(&j.psk), "psk", "`path` of the pre-shared key to install, - for standard input")
	cmd.Flags().BoolVar(&j.replace, "replace", false, "replace the peer or its pre-shared key if it is there already")
	cmd.Flags().BoolVar(&j.dryRun, "dry-run", false, "check only, change nothing")
	cmd.Flags().BoolVar(&j.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&j.noWait, "no-wait", false, "do not wait until the tunnel is up")
	cmd.Flags().StringSliceVar(&j.allow, "allow", nil, "`keys` by which the invitation may reach further than a tunnel needs")
	return cmd
}

func (j *joining) run(ctx context.Context, file string) error {
	abs, err := filepath.Abs(j.config)
	if err != nil {
		return err
	}
	j.config = abs
	if err := j.read(file); err != nil {
		return err
	}
	defer func() { clear(j.key) }()
	result, err := j.check()
	if err != nil {
		return err
	}
	report := joined{Schema: ctl.Schema, Peer: j.invite.Peer.Name, File: j.target, Result: result}
	j.summarise()
	if j.dryRun {
		report.Result = joinChecked
		return j.show(&report)
	}
	if err := j.ask(file, result); err != nil {
		return err
	}
	if err := j.install(result); err != nil {
		return err
	}
	j.apply(ctx, &report)
	if j.inForce(&report) == nil && report.Reload != nil && !j.noWait {
		t := j.program.awaitUp(ctx, report.Peer)
		report.Tunnel = &t
	}
	return j.show(&report)
}

// ask has the administrator confirm what was shown, unless there is nothing to do.
func (j *joining) ask(file, result string) error {
	if j.yes || result == joinUnchanged && j.keyFile == "" {
		return nil
	}
	return j.program.confirm("Install it?", file == "-" || j.psk == "-")
}

// read reads the invitation, and the pre-shared key if there is one to install.
func (j *joining) read(file string) error {
	if file == "-" && j.psk == "-" {
		return usagef("only one of invitation and pre-shared key can come from standard input")
	}
	text, err := j.program.readAll(file, config.MaxFileSize)
	if err != nil {
		return fmt.Errorf("read invitation: %w", err)
	}
	name := file
	if file == "-" {
		name = "standard input"
	}
	dir := filepath.Dir(config.PeerFile(j.config, "any"))
	if j.invite, err = invite.Parse(name, dir, text); err != nil {
		return fmt.Errorf("invitation refused:\n%w", err)
	}
	j.text = text
	j.target = config.PeerFile(j.config, j.invite.Peer.Name)
	return j.readKey()
}

// readKey reads the pre-shared key. It goes to one place only: whoever wrote the
// invitation must not choose which file is written.
func (j *joining) readKey() error {
	wanted := j.invite.Peer.PresharedKeyFile
	if j.psk == "" {
		if _, err := os.Stat(wanted); wanted != "" && errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is missing: get the pre-shared key from the other side, and: tunctl join FILE --psk KEYFILE", wanted)
		}
		return nil
	}
	place := filepath.Join(filepath.Dir(j.config), j.invite.Peer.Name+".psk")
	switch {
	case wanted == "":
		return usagef("--psk: the invitation is for a tunnel without a pre-shared key")
	case wanted != place:
		return fmt.Errorf("the pre-shared key belongs to %s, and --psk writes to %s only: put it there yourself", wanted, place)
	}
	text, err := j.program.readAll(j.psk, maxKeyText)
	defer clear(text)
	if err != nil {
		return fmt.Errorf("read pre-shared key: %w", err)
	}
	secret, err := keys.ParseSecret(text)
	if err != nil {
		return fmt.Errorf("pre-shared key: %w", err)
	}
	defer secret.Wipe()
	j.keyFile, j.key = place, secret.Encode()
	return nil
}

// readAll reads a file, or standard input, that is not larger than most bytes.
func (p *program) readAll(file string, most int64) ([]byte, error) {
	from := p.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", file, most)
	}
	return data, err
}

// check says what installing would do, or why it must not be done.
func (j *joining) check() (result string, err error) {
	as, err := runsAs(j.config, "")
	if err != nil {
		return "", err
	}
	own, err := config.ReadPublicKey(j.config, as.uid)
	if err != nil {
		return "", fmt.Errorf("configuration refused:\n%w", err)
	}
	if f := j.invite.For; !f.IsZero() && f != own {
		return "", fmt.Errorf("this invitation is for the node with the public key %s, not for this one, %s", f, own)
	}
	if err := j.allowed(); err != nil {
		return "", err
	}
	if result, err = j.compare(); err != nil {
		return "", err
	}
	proposed := map[string][]byte{j.target: j.text}
	if j.keyFile != "" {
		proposed[j.keyFile] = j.key
	}
	if j.then, err = config.LoadWith(j.config, config.Options{User: as.uid, Files: proposed}); err != nil {
		return "", fmt.Errorf("the configuration would be refused with this invitation:\n%w", err)
	}
	j.then.Wipe()
	return result, nil
}

// compare looks at what is there already: another peer's file is never replaced, this
// one's only when told to.
func (j *joining) compare() (result string, err error) {
	if err := j.compareKey(); err != nil {
		return "", err
	}
	there, err := os.ReadFile(j.target)
	name := j.invite.Peer.Name
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return joinAdded, nil
	case err != nil:
		return "", err
	case bytes.Equal(there, j.text):
		return joinUnchanged, nil
	case !j.replace:
		return "", fmt.Errorf("peer %s is there already, in %s (--replace replaces it)", name, j.target)
	}
	peers, _ := config.ParsePeers(j.target, filepath.Dir(j.target), there) // a broken file may be replaced
	if i := slices.IndexFunc(peers, func(p config.Peer) bool { return p.Name != name }); i >= 0 {
		return "", fmt.Errorf("%s also holds peer %s, which would be lost: edit it", j.target, peers[i].Name)
	}
	return joinReplaced, nil
}

// compareKey refuses to replace a pre-shared key unless told to. One that is there
// already stays.
func (j *joining) compareKey() error {
	if j.keyFile == "" {
		return nil
	}
	there, err := os.ReadFile(j.keyFile)
	defer clear(there)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case bytes.Equal(bytes.TrimSpace(there), bytes.TrimSpace(j.key)):
		j.keyFile = ""
	case !j.replace:
		return fmt.Errorf("%s is there already and holds another key (--replace replaces it)", j.keyFile)
	}
	return nil
}

// show prints what was done, and what to do next. It fails if tund did not take it up.
func (j *joining) show(report *joined) error {
	p := j.program
	if p.json {
		p.writeJSON(report)
		if report.Tunnel != nil && report.Tunnel.Why != "" {
			return &reported{exitPartly}
		}
		return j.inForce(report)
	}
	p.printf("%s: %s: %s\n", report.Peer, report.Result, report.File)
	switch err := j.inForce(report); {
	case err != nil:
		j.explain(report)
		return err
	case report.Tunnel != nil:
		return p.showTunnel(report.Peer, *report.Tunnel)
	case report.Reload != nil:
		p.printf("tund has taken it up: tunctl status %s\n", report.Peer)
	case report.Next != "":
		p.printf("next: %s\n", report.Next)
	}
	return nil
}

// inForce fails if tund runs and has refused the peer, or can't have all of it now, though its file
// is there.
func (j *joining) inForce(report *joined) error {
	if report.Reload == nil {
		return nil
	}
	refused := report.Reload.Result == ctl.ReloadRefused
	for _, peer := range report.Reload.Peers {
		refused = refused || peer.Name == report.Peer && (peer.Action == ctl.ActionRefused || len(peer.Missing) > 0)
	}
	if refused {
		return &reported{exitPartly}
	}
	return nil
}

// explain says why tund has refused the peer.
func (j *joining) explain(report *joined) {
	for _, e := range report.Reload.Errors {
		_, _ = fmt.Fprintln(j.program.stderr, located(e))
	}
	for _, peer := range report.Reload.Peers {
		if peer.Name != report.Peer {
			continue
		}
		j.program.showReloadPeer(peer)
		if peer.Action != ctl.ActionRefused {
			j.program.complain("tund has taken the file up, and tries again what is not there yet")
			return
		}
	}
	j.program.complain("the file is there, but tund has not taken it up")
}

// summarise shows what the invitation brings: whoever takes it should know its addresses
// and, above all, its routes and the bridge that it joins.
func (j *joining) summarise() {
	if j.program.json {
		return
	}
	peer := &j.invite.Peer
	j.program.printf("an invitation to a tunnel with %s:\n", peer.Name)
	for _, line := range []struct {
		key    string
		values []string
	}{
		{"public key", []string{peer.PublicKey.String()}},
		{"endpoints", texts(peer.Endpoints)},
		{"mode", []string{peer.Mode}},
		{"interface", []string{peer.Interface}},
		{"bridge", []string{peer.Bridge}},
		{"addresses", texts(peer.Addresses)},
		{"peer address", peerAddress(peer)},
		{"routes", texts(peer.Routes)},
		{"key file", []string{peer.PresharedKeyFile}},
	} {
		if len(line.values) > 0 && cmp.Or(line.values...) != "" {
			j.program.printf("  %-10s", line.key)
			for _, value := range line.values {
				j.program.printf(" %s", value)
			}
			j.program.printf("\n")
		}
	}
	for _, reach := range j.reaches {
		j.program.printf("  allowed:   %s: %s\n", reach.Key, reach.Effect)
	}
}

func peerAddress(p *config.Peer) []string {
	if !p.PeerAddress.IsValid() {
		return nil
	}
	return []string{p.PeerAddress.String()}
}
