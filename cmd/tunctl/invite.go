package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tund/internal/config"
	"tund/internal/ctl"
	"tund/internal/invite"
	"tund/internal/keys"
	"tund/internal/netcfg"
)

// inviteFlags are what the configuration does not say.
type inviteFlags struct {
	config, name         string
	endpoints, addresses []string
}

// invitation is what invite prints as JSON.
type invitation struct {
	Schema       int      `json:"schema"`
	Name         string   `json:"name"` // of this node, as the other side will call it
	For          string   `json:"for"`  // the other side's public key
	Endpoints    []string `json:"endpoints"`
	Addresses    []string `json:"addresses"`
	PresharedKey bool     `json:"preshared_key"` // the other side needs the file too
	Notes        []string `json:"notes"`
	TOML         string   `json:"toml"`
}

func newInvite(p *program) *cobra.Command {
	o := inviteFlags{}
	cmd := &cobra.Command{
		Use:   "invite PEER",
		Short: "Print the peer file that the other side needs",
		Long: `Print the file that makes this node a peer of the other side, for its tunctl
join: this node's public key and endpoints, and all that both sides must have
alike or mirrored. It is made of the configuration and needs no daemon. It holds
no secret: a pre-shared key has to be given to the other side by itself.

Where node.listen names no address, the endpoints are those of this machine.
The other side's addresses follow from peer_address, and in a network for two
from ours; elsewhere they have to be given.`,
		Example: `  tunctl invite beta > invite.toml
  tunctl invite beta --endpoint alpha.example.org --address 10.77.0.2/24`,
		Args:              onePeer,
		ValidArgsFunction: p.completePeers(1),
		RunE:              func(_ *cobra.Command, args []string) error { return p.invite(args[0], o) },
	}
	addConfigFlag(cmd, &o.config)
	cmd.Flags().StringVar(&o.name, "name", "", "what the other side calls this node; else this host's `name`")
	cmd.Flags().StringArrayVar(&o.endpoints, "endpoint", nil, "where the other side can dial this node, `HOST[:PORT]`; may be repeated")
	cmd.Flags().StringArrayVar(&o.addresses, "address", nil, "an `ADDRESS/LENGTH` of the other side in the tunnel; may be repeated")
	return cmd
}

// addConfigFlag gives a command the option that says which configuration is meant.
func addConfigFlag(cmd *cobra.Command, value *string) {
	*value = defaultConfig
	cmd.Flags().Var((*path)(value), "config", "`path` of the configuration")
}

// invite prints an invitation, and messages about what it lacks.
func (p *program) invite(name string, o inviteFlags) error {
	as, err := runsAs(o.config, "")
	if err != nil {
		return err
	}
	cfg, err := config.LoadWith(o.config, config.Options{User: as.uid})
	if err != nil {
		return err
	}
	defer cfg.Wipe()
	peer, ok := cfg.Peer(name)
	if !ok {
		return ctl.UnknownPeer(name, peerNames(cfg))
	}
	options, err := inviteOptions(cfg, &peer, o)
	if err != nil {
		return err
	}
	i, err := invite.New(keys.NewIdentity(&cfg.Node.PrivateKey).Public(), &peer, options)
	if err != nil {
		return usagef("%v", err)
	}
	p.showInvite(i, &peer, len(o.endpoints) == 0)
	return nil
}

func peerNames(cfg *config.Config) []string {
	var names []string
	for i := range cfg.Peers {
		names = append(names, cfg.Peers[i].Name)
	}
	return names
}

// inviteOptions reads the flags, and fills in what was not given.
func inviteOptions(cfg *config.Config, peer *config.Peer, o inviteFlags) (invite.Options, error) {
	options := invite.Options{Name: cmp.Or(o.name, hostName())}
	if !config.ValidName(options.Name) {
		return options, usagef("%q cannot be the name of a peer: 1 to 32 letters, digits, dots, hyphens or underscores (--name)", options.Name)
	}
	for _, text := range o.addresses {
		address, err := config.ParseAddress(text)
		if err != nil {
			return options, usagef("--address: %v", err)
		}
		options.Addresses = append(options.Addresses, address)
	}
	var err error
	if options.Endpoints, err = endpoints(cfg, o.endpoints); err != nil {
		return options, err
	}
	if len(options.Endpoints) == 0 && len(peer.Endpoints) == 0 {
		return options, errors.New("this machine has no address that others could reach: say one with --endpoint HOST:PORT")
	}
	return options, nil
}

// hostName is this host's name as that of a peer, or "".
func hostName() string {
	name, _ := os.Hostname() // without one, --name is asked for
	name, _, _ = strings.Cut(name, ".")
	name = regexp.MustCompile(`[^A-Za-z0-9_-]+`).ReplaceAllString(name, "-")
	name = strings.TrimLeft(name, "-_")
	return name[:min(len(name), 32)]
}

// endpoints returns the given endpoints, or those where this node listens.
func endpoints(cfg *config.Config, given []string) ([]config.Endpoint, error) {
	if len(given) == 0 {
		return ownEndpoints(cfg)
	}
	if len(cfg.Node.Listen) == 0 {
		return nil, usagef("--endpoint: this node listens nowhere (node.listen is empty)")
	}
	var all []config.Endpoint
	for _, text := range given {
		e, err := config.ParseEndpoint(text)
		if err != nil { // the port may be missing
			port := strconv.Itoa(int(cfg.Node.Listen[0].Port()))
			var again error
			if e, again = config.ParseEndpoint(net.JoinHostPort(text, port)); again != nil {
				return nil, usagef("--endpoint: %v", err)
			}
		}
		all = append(all, e)
	}
	return all, nil
}

// ownEndpoints returns where this node listens, for others.
func ownEndpoints(cfg *config.Config) ([]config.Endpoint, error) {
	var tunnels []string
	for i := range cfg.Peers {
		tunnels = append(tunnels, cfg.Peers[i].Interface)
	}
	m, err := netcfg.New()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	host, err := m.HostAddresses(tunnels)
	if err != nil {
		return nil, err
	}
	return invite.Endpoints(cfg.Node.Listen, host), nil
}

func (p *program) showInvite(i *invite.Invite, peer *config.Peer, guessed bool) {
	if p.json {
		p.writeJSON(invitation{
			Schema: ctl.Schema, Name: i.Peer.Name, For: i.For.String(), Endpoints: texts(i.Peer.Endpoints),
			Addresses: texts(i.Peer.Addresses), PresharedKey: peer.PresharedKeyFile != "",
			Notes: append([]string{}, i.Notes...), TOML: i.Text(),
		})
		return
	}
	p.printf("%s", i.Text())
	if guessed && len(i.Peer.Endpoints) > 0 {
		p.complain("%s will dial %s; if that is not how it reaches this host: --endpoint HOST:PORT",
			peer.Name, strings.Join(texts(i.Peer.Endpoints), ", "))
	}
	for _, own := range i.Unanswered {
		p.complain("warning: %s's address beside %s is not known: --address ADDRESS/LENGTH", peer.Name, own)
	}
	if peer.PresharedKeyFile != "" {
		p.complain("%s needs the pre-shared key too: take it there by a safe way (%s)", peer.Name, peer.PresharedKeyFile)
	}
}

// texts returns what each element prints as, never null in JSON.
func texts[E fmt.Stringer](elements []E) []string {
	all := make([]string, len(elements))
	for i, e := range elements {
		all[i] = e.String()
	}
	return all
}
