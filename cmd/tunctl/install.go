package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"tund/internal/config"
	"tund/internal/ctl"
)

const (
	peerFileMode fs.FileMode = 0o640 // the group is that of the directory: it may read
	peersDirMode fs.FileMode = 0o750
)

// install writes the files, the secret first: when the peer's table appears, a tund
// that watches finds all that it names.
func (j *joining) install(result string) error {
	if j.keyFile != "" {
		if err := j.installKey(); err != nil {
			return err
		}
	}
	if result == joinUnchanged {
		return nil
	}
	dir, err := makePeersDir(filepath.Dir(j.target))
	if err != nil {
		return err
	}
	return writeFile(j.target, j.text, ownerOf(dir, peerFileMode), j.replace)
}

// makePeersDir makes the directory if it is missing, with the owner of the one above.
func makePeersDir(dir string) (fs.FileInfo, error) {
	err := os.Mkdir(dir, peersDirMode)
	if errors.Is(err, fs.ErrExist) {
		return os.Stat(dir)
	}
	if err != nil {
		return nil, err
	}
	above, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	if err := give(dir, ownerOf(above, peersDirMode)); err != nil {
		return nil, err
	}
	return os.Stat(dir)
}

// installKey writes the pre-shared key. It gets the owner and the mode of the private
// key, which the same process has to read and nobody else.
func (j *joining) installKey() error {
	like, err := os.Stat(j.then.Node.PrivateKeyFile)
	if err != nil {
		return err
	}
	return writeFile(j.keyFile, j.key, ownerOf(like, like.Mode().Perm()), true)
}

// ownerOf returns the owner of another file.
func ownerOf(like fs.FileInfo, mode fs.FileMode) owner {
	sys := like.Sys().(*syscall.Stat_t)
	return owner{uid: int(sys.Uid), gid: int(sys.Gid), mode: mode}
}

// writeFile makes a file appear at once, complete and with its owner. Without replace a
// file that is there already is left alone, which is an error.
func writeFile(path string, data []byte, o owner, replace bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".*."+filepath.Base(path)) // mode 0600, not looked at by tund
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after a rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := give(f.Name(), o); err != nil {
		return err
	}
	if replace {
		err = os.Rename(f.Name(), path)
	} else {
		err = os.Link(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// give sets owner and mode. The owner comes first: a change of it may clear bits.
func give(path string, o owner) error {
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	if is := ownerOf(now, o.mode); is != o {
		if err := os.Chown(path, o.uid, o.gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, o.mode)
}

// syncDir makes the names in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// apply has a tund that uses this configuration take it up, unless its administrator
// wants to say when. Where none does, it finds the command that comes next.
func (j *joining) apply(ctx context.Context, report *joined) {
	client := j.program.client()
	status, err := client.Status(ctx)
	if err != nil || status.Node.Config.Path != j.config {
		report.Next = j.start()
		return
	}
	if j.then.Node.Reload != config.ReloadAuto {
		report.Next = "tunctl reload"
		return
	}
	reload, err := client.Reload(ctx)
	if err != nil {
		report.Reload = &ctl.ReloadResult{
			Schema: ctl.Schema, Result: ctl.ReloadRefused, Peers: []ctl.ReloadPeer{},
			Errors: []ctl.ConfigError{{File: j.target, Message: err.Error()}},
		}
		return
	}
	report.Reload = &reload
}

// start is the command that starts tund with this configuration.
func (j *joining) start() string {
	if j.config == defaultConfig {
		for _, dir := range []string{"/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"} {
			if _, err := os.Stat(dir + "tund.service"); err == nil {
				return "systemctl start tund"
			}
		}
		return "tund"
	}
	return "tund --config " + j.config
}
