package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
)

// maxKeyText is more than any key with the space around it that is taken.
const maxKeyText = 1024

// generating is one run of genkey or genpsk.
type generating struct {
	program *program
	field   string // of JSON
	file    string // where the key goes; "": standard output
	user    string
	replace bool
	given   bool // the key is on standard input
}

func newGenkey(p *program) *cobra.Command {
	return newGenerate(&generating{program: p, field: "private_key"}, &cobra.Command{
		Use:   "genkey",
		Short: "Make a private key for a node",
		Long: `Make a new private key, and print it, or with --write put it into a file that
tund can read and nobody else, and print its public key.

` + writeText,
		Example: "  tunctl genkey --write /etc/tund/private.key",
	})
}

func newGenpsk(p *program) *cobra.Command {
	return newGenerate(&generating{program: p, field: "preshared_key"}, &cobra.Command{
		Use:   "genpsk",
		Short: "Make a pre-shared key for a tunnel",
		Long: `Make a new pre-shared key, and print it, or with --write put it into a file that
tund can read and nobody else. Both nodes need the same one.

` + writeText,
		Example: "  tunctl genpsk --write /etc/tund/beta.psk\n  ssh alpha cat /etc/tund/beta.psk | tunctl genpsk --write /etc/tund/alpha.psk --stdin",
	})
}

// writeText explains --write.
const writeText = `The file belongs to the user that tund runs as, has mode 0600 and appears at once
and complete. It must not be in a directory that others may write to.`

func newGenerate(g *generating, cmd *cobra.Command) *cobra.Command {
	cmd.Args = noArguments
	cmd.RunE = func(*cobra.Command, []string) error { return g.run() }
	cmd.Flags().Var((*path)(&g.file), "write", "write the key to this `file`, with the right owner and mode")
	cmd.Flags().BoolVar(&g.replace, "replace", false, "replace the file if it is there already; the key in it is lost")
	cmd.Flags().BoolVar(&g.given, "stdin", false, "write the key on standard input, not a new one")
	addUserFlag(cmd, &g.user)
	return cmd
}

func newPubkey(p *program) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "pubkey",
		Short: "Print the public key of this node, or of a private key",
		Long: `Read a private key from standard input and print its public key. Where standard
input is a terminal or has nothing in it, or with --config, print this node's: the
one of the private key that the configuration names. A file without anything in it
is an error: it was meant to have a key.`,
		Example: "  tunctl pubkey\n  tunctl pubkey < private.key",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("config") || !isInput(p.stdin) {
				return p.ownPubkey(file)
			}
			return p.pubkey(file)
		},
	}
	addConfigFlag(cmd, &file)
	return cmd
}

// isInput says whether there may be something to read that was put there for it. Of a
// pipe only its end can tell.
func isInput(stdin any) bool {
	f, ok := stdin.(*os.File)
	if !ok {
		return true
	}
	info, err := f.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return !isTerminal(f) && (err != nil || nullErr != nil || !os.SameFile(info, null))
}

func isRegular(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

func (g *generating) run() error {
	if g.file == "" && (g.replace || g.given || g.user != "") {
		return usagef("--replace, --stdin and --user belong to --write FILE")
	}
	secret := keys.GenerateSecret()
	defer secret.Wipe()
	if g.given {
		given, err := g.program.readSecret()
		if err != nil {
			return err
		}
		secret = given
		defer given.Wipe()
	}
	text := secret.Encode()
	defer clear(text)
	if g.file == "" {
		return g.program.printSecret(g.field, text)
	}
	if err := g.write(text); err != nil {
		return err
	}
	g.show(&secret)
	return nil
}

// readSecret reads a key from standard input.
func (p *program) readSecret() (keys.Secret, error) {
	text, err := p.readAll("-", maxKeyText)
	defer clear(text)
	if err != nil {
		return keys.Secret{}, fmt.Errorf("read key: %w", err)
	}
	return keys.ParseSecret(text)
}

// write makes the key file.
func (g *generating) write(text []byte) error {
	as, err := runsAs(g.file, g.user)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(g.file)
	if err != nil {
		return err
	}
	if err := config.CheckPlace(filepath.Join(filepath.Dir(abs), ".new"), as.uid); err != nil {
		return fmt.Errorf("%s is no place for a key: %w", g.file, err)
	}
	err = writeFile(abs, text, as.keyOwner(), g.replace)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already (--replace replaces it; the key in it is lost then)", g.file)
	}
	return err
}

// show prints the public key of a private one that was written.
func (g *generating) show(secret *keys.Secret) {
	private := g.field == "private_key"
	switch {
	case private && g.program.json:
		g.program.writeJSON(map[string]any{"schema": ctl.Schema, "file": g.file, "public_key": keys.NewIdentity(secret).Public()})
	case private:
		g.program.printf("%s\n", keys.NewIdentity(secret).Public())
	case g.program.json:
		g.program.writeJSON(map[string]any{"schema": ctl.Schema, "file": g.file})
	}
}

// printSecret prints a new secret, alone, and warns if others can see it there.
func (p *program) printSecret(field string, text []byte) error {
	if warning := exposed(p.stdout); warning != "" {
		p.complain("warning: %s", warning)
	}
	if p.json {
		p.writeJSON(map[string]any{"schema": ctl.Schema, field: string(bytes.TrimSpace(text))})
		return nil
	}
	if _, err := p.stdout.Write(text); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// exposed says who else can read what is written to a stream.
func exposed(stream io.Writer) string {
	if isTerminal(stream) {
		return "the key is shown on the terminal; --write FILE puts it into a file"
	}
	f, ok := stream.(*os.File)
	if !ok {
		return ""
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return fmt.Sprintf("the file has mode %04o, others can read it: chmod 0600, or use --write FILE", info.Mode().Perm())
	}
	return ""
}

// pubkey reads one private key, to the end of the input, and prints the public one. Where
// nothing comes, as in a script that has no input to give, it is this node's: said aloud,
// since a key may have been lost on its way here.
func (p *program) pubkey(file string) error {
	text, err := io.ReadAll(io.LimitReader(p.stdin, maxKeyText+1))
	defer clear(text)
	if err != nil {
		return fmt.Errorf("read private key: %w", err)
	}
	if len(text) == 0 {
		if isRegular(p.stdin) {
			return errors.New("private key: the file on standard input is empty")
		}
		p.complain("nothing on standard input: the key is this node's")
		return p.ownPubkey(file)
	}
	if len(text) > maxKeyText {
		return errors.New("private key: more than one key on standard input")
	}
	seed, err := keys.ParseSecret(text)
	if err != nil {
		return fmt.Errorf("private key: %w", err)
	}
	defer seed.Wipe()
	p.showPublic(keys.NewIdentity(&seed).Public())
	return nil
}

// ownPubkey prints the public key of the node with this configuration.
func (p *program) ownPubkey(file string) error {
	as, err := runsAs(file, "")
	if err != nil {
		return err
	}
	public, err := config.ReadPublicKey(file, as.uid)
	if err != nil {
		return fmt.Errorf("private key:\n%w", err)
	}
	p.showPublic(public)
	return nil
}

func (p *program) showPublic(key keys.PublicKey) {
	if p.json {
		p.writeJSON(map[string]any{"schema": ctl.Schema, "public_key": key})
		return
	}
	p.printf("%s\n", key)
}
