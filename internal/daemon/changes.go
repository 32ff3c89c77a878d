package daemon

import (
	"context"
	"log/slog"
	"strings"

	"tund/internal/config"
	"tund/internal/ctl"
)

// asker is who has the configuration loaded.
type asker struct {
	reason string // for the log
	asked  bool   // by somebody: what was refused before is tried again
	uid    int64  // of a command's caller; -1: unknown, or no command
}

func byFile() asker   { return asker{reason: "a file has changed", uid: -1} }
func bySignal() asker { return asker{reason: "SIGHUP", asked: true, uid: -1} }

func byCommand(ctx context.Context) asker {
	a := asker{reason: "command", asked: true, uid: -1}
	if uid, ok := ctl.CallerUID(ctx); ok {
		a.uid = int64(uid)
	}
	return a
}

// actions translates a comparison into what the caller of a reload is told.
func actions(old, next *config.Config, diff config.Difference) []ctl.ReloadPeer {
	peers := make([]ctl.ReloadPeer, len(diff.Peers))
	for i, c := range diff.Peers {
		before, _ := old.Peer(c.Name)
		after, _ := next.Peer(c.Name)
		peers[i] = ctl.ReloadPeer{
			Name: c.Name, Action: ctl.ReloadAction(c.Action), Reason: strings.Join(c.Keys, ", "),
			Changes: changes(config.Settings(&before, &after, c.Keys)),
		}
	}
	return peers
}

func changes(settings []config.Setting) []ctl.ReloadChange {
	all := []ctl.ReloadChange{}
	for _, s := range settings {
		all = append(all, ctl.ReloadChange{Key: s.Key, From: s.From, To: s.To, Content: s.Content})
	}
	return all
}

// logReload logs a reload that has changed something: who asked, then each key of the node and
// of each peer with its old and new value. What was refused has said so by itself.
func (d *Daemon) logReload(by asker, result ctl.ReloadResult) {
	if result.Result == ctl.ReloadUnchanged {
		return
	}
	log := d.log
	if by.uid >= 0 {
		log = log.With("uid", by.uid)
	}
	log.Info("configuration applied", "path", d.o.Config, "to", string(result.Result), "reason", by.reason)
	logChanges(d.log, result.Node)
	for _, p := range result.Peers {
		log := d.log.With("peer", p.Name)
		switch p.Action {
		case ctl.ActionAdded:
			log.Info("peer added")
		case ctl.ActionRemoved:
			log.Info("peer removed")
		case ctl.ActionLive, ctl.ActionChild:
			logChanges(log, p.Changes)
		case ctl.ActionUnchanged, ctl.ActionRefused:
		}
	}
}

func logChanges(log *slog.Logger, all []ctl.ReloadChange) {
	for _, c := range all {
		if c.Content {
			log.Info("setting changed", "setting", c.Key, "path", strings.Trim(c.To, `"`), "reason", "the content of the file is another one")
			continue
		}
		log.Info("setting changed", "setting", c.Key, "from", c.From, "to", c.To)
	}
}
