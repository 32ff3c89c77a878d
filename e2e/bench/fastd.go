package main

import (
	"fmt"
	"os/exec"
	"strings"
)

// fastd returns fastd with its fastest usual method.
func fastd() system {
	return system{
		name: "fastd", about: "aes128-ctr+umac, mode tun, MTU 1400",
		version: printed("fastd", "--version"),
		start:   startFastd,
	}
}

func startFastd(b *bed) error {
	secrets, publics := map[string]string{}, map[string]string{}
	for _, s := range b.sides() {
		out, err := exec.Command("fastd", "--generate-key").CombinedOutput()
		if err != nil {
			return fmt.Errorf("fastd --generate-key: %w: %s", err, out)
		}
		secrets[s.name], publics[s.name] = labelled(string(out), "Secret:"), labelled(string(out), "Public:")
	}
	for _, s := range b.sides() {
		s.node.WriteFile("fastd.conf", fmt.Sprintf(`log level warn;
mode tun;
interface %q;
mtu 1400;
bind %v:10000;
method "aes128-ctr+umac";
secret %q;
peer %q {
	key %q;
	remote %v:10000;
}
`, s.device, s.outer, secrets[s.name], s.peerName, publics[s.peerName], s.peerOuter))
	}
	if err := b.runBoth("fastd", func(s side) []string { return []string{"--config", s.node.Path("fastd.conf")} }); err != nil {
		return err
	}
	return b.addresses()
}

// labelled returns the word that follows a label.
func labelled(text, label string) string {
	_, rest, _ := strings.Cut(text, label)
	if words := strings.Fields(rest); len(words) > 0 {
		return words[0]
	}
	return ""
}
