package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/keys"
)

// maxKeyText is more than any key with the space around it that is taken.
const maxKeyText = 1024

func newGenkey(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "genkey",
		Short:   "Print a new private key",
		Example: "  (umask 077; tunctl genkey > /etc/tund/private.key)",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return p.generate("private_key") },
	}
}

func newGenpsk(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "genpsk",
		Short:   "Print a new pre-shared key",
		Example: "  (umask 077; tunctl genpsk > /etc/tund/beta.psk)",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return p.generate("preshared_key") },
	}
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

// generate prints a new secret, alone, and warns if others can see it there.
func (p *program) generate(field string) error {
	if text := exposed(p.stdout); text != "" {
		p.complain("warning: %s", text)
	}
	secret := keys.GenerateSecret()
	defer secret.Wipe()
	text := secret.Encode()
	defer clear(text)
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
		return "the key is shown on the terminal; send it to a file: (umask 077; tunctl genkey > FILE)"
	}
	f, ok := stream.(*os.File)
	if !ok {
		return ""
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return fmt.Sprintf("the file has mode %04o, others can read it: chmod 600", info.Mode().Perm())
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
	public, err := config.ReadPublicKey(file)
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
