package lab

// Understands reports whether tund would take the node's configuration with these
// further lines of [node], and what tunctl says of it.
func (n *Node) Understands(t Table, lines ...string) (bool, string) {
	t.Node = append(append([]string{}, t.Node...), lines...)
	n.lab.tb.Helper()
	n.PublicKey()
	n.WriteFile("trial.toml", t.String())
	r := n.Ctl("check", n.Path("trial.toml"))
	return r.Code == 0, r.Stdout + r.Stderr
}
