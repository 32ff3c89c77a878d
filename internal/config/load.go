package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"

	"tund/internal/keys"
)

// peersDir is the directory beside the main file that may hold further peers.
const peersDir = "peers.d"

// PeerFile returns where a peer of this name has a file of its own, for the
// configuration whose main file is at path.
func PeerFile(path, name string) string {
	return filepath.Join(filepath.Dir(path), peersDir, name+".toml")
}

// maxKeyFileMode is all that others than the owner may do with a secret: the group of
// the file may read it.
const maxKeyFileMode fs.FileMode = 0o640

// Load reads the configuration whose main file is at path, with the files of peers.d
// and all key files, for a tund of this process's user. The error is an *Errors; it holds
// everything that is wrong.
func Load(path string) (*Config, error) {
	return LoadWith(path, Options{User: os.Geteuid(), tund: true})
}

// Options of [LoadWith].
type Options struct {
	// User is whose key files are trusted, beside root's: the user that tund runs as.
	User int
	// Files are taken as if they were there already, with these contents, in place of what
	// is there. They stand under their absolute paths; of a key file it is assumed that
	// its mode and place are right.
	Files map[string][]byte

	tund bool // this process is of tund's user: it must be able to read the key files
}

// LoadWith is Load with options.
func LoadWith(path string, o Options) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &Errors{Problems: []Problem{{File: path, Message: err.Error()}}}
	}
	l := &loader{digest: sha256.New(), user: o.User, tund: o.tund, proposed: o.Files}
	l.readMain(abs)
	l.readPeers(filepath.Join(filepath.Dir(abs), peersDir))
	cfg := l.build()
	l.readKeys(cfg)
	if err := l.errs.err(l.docs, l.files); err != nil {
		cfg.Wipe()
		return nil, err
	}
	cfg.Files = l.files
	l.digest.Sum(cfg.Digest[:0])
	return cfg, nil
}

// ReadPublicKey returns the public key of the node whose main file is at path. What is
// wrong with the rest of the configuration does not matter. The user is that of [Options].
func ReadPublicKey(path string, user int) (keys.PublicKey, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return keys.PublicKey{}, &Errors{Problems: []Problem{{File: path, Message: err.Error()}}}
	}
	l := &loader{digest: sha256.New(), user: user}
	l.readMain(abs)
	cfg := l.build()
	if cfg.Node.PrivateKeyFile == "" {
		return keys.PublicKey{}, l.errs.err(l.docs, l.files)
	}
	l.errs = collector{}
	secret := l.readPrivateKey(cfg)
	defer secret.Wipe()
	if err := l.errs.err(l.docs, l.files); err != nil {
		return keys.PublicKey{}, err
	}
	return keys.NewIdentity(&secret).Public(), nil
}

// loader is a builder that takes its documents from files.
type loader struct {
	builder
	files    []string
	digest   hash.Hash
	user     int // whose key files are trusted
	tund     bool
	proposed map[string][]byte // in place of what is at these paths
}

func (l *loader) readMain(path string) {
	l.readFile(filepath.Base(path), path)
}

// readPeers reads dir/*.toml in the order of their names; dir may be missing.
func (l *loader) readPeers(dir string) {
	l.files = append(l.files, filepath.Join(dir, "*.toml"))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.errs.addError(&document{name: peersDir}, nil, err)
	}
	names := make(map[string]bool)
	for _, e := range entries {
		names[e.Name()] = true
	}
	for path := range l.proposed {
		if filepath.Dir(path) == dir {
			names[filepath.Base(path)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			l.readFile(filepath.Join(peersDir, name), filepath.Join(dir, name))
		}
	}
}

func (l *loader) readFile(name, path string) {
	l.files = append(l.files, path)
	data, _, err := l.content(path)
	if err != nil {
		l.unreadable(name, path, err)
		return
	}
	l.note(name, data)
	l.read(name, path, data)
}

// content returns a file's content, which the caller may overwrite, and its mode.
func (l *loader) content(path string) ([]byte, fs.FileMode, error) {
	if data, ok := l.proposed[path]; ok {
		return bytes.Clone(data), maxKeyFileMode, nil
	}
	return readLimited(path)
}

// unreadable reports a file that stays out; it takes its place among the documents.
func (l *loader) unreadable(name, path string, err error) {
	d := &document{name: name, path: path, peers: len(l.docs) > 0}
	l.docs = append(l.docs, d)
	l.errs.addError(d, nil, err)
}

// note adds a file to the digest.
func (l *loader) note(name string, data []byte) {
	for _, part := range [][]byte{[]byte(name), data} {
		_ = binary.Write(l.digest, binary.BigEndian, uint64(len(part)))
		l.digest.Write(part)
	}
}

// readKeys reads the private key and the pre-shared keys.
func (l *loader) readKeys(cfg *Config) {
	if cfg.Node.PrivateKeyFile != "" {
		cfg.Node.PrivateKey = l.readPrivateKey(cfg)
		l.refuseOwnKey(cfg)
	}
	defer l.refuseSharedKey(cfg)
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		if p.PresharedKeyFile == "" {
			continue
		}
		key := toml.Key{tablePeer, p.Name, "preshared_key_file"}
		secret := l.readKey(l.origin[p.Name], key, p.PresharedKeyFile, "genpsk")
		p.PresharedKey = &secret
	}
}

func (l *loader) readPrivateKey(cfg *Config) keys.Secret {
	return l.readKey(l.docs[0], toml.Key{tableNode, "private_key_file"}, cfg.Node.PrivateKeyFile, "genkey")
}

// readKey reads one secret; verb is the command that makes such a file.
func (l *loader) readKey(d *document, key toml.Key, path, verb string) keys.Secret {
	l.files = append(l.files, path)
	data, mode, err := l.content(path)
	defer clear(data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.errs.add(d, 0, key, "%s is missing: make it with tunctl %s --write %s", path, verb, path)
		return keys.Secret{}
	case l.tund && errors.Is(err, fs.ErrPermission):
		l.errs.addError(d, key, explainNoAccess(path, err))
		return keys.Secret{}
	case err != nil:
		l.errs.addError(d, key, err)
		return keys.Secret{}
	case mode.Perm()&^maxKeyFileMode != 0:
		l.errs.add(d, 0, key, "%s has mode %#o, which makes it accessible to other users: chmod 0600 %s (or 0640, for its group)",
			path, mode.Perm(), path)
		return keys.Secret{}
	}
	if err := l.checkPlace(path); err != nil {
		l.errs.add(d, 0, key, "%s is not safe: %v", path, err)
		return keys.Secret{}
	}
	l.note(path, data)
	secret, err := keys.ParseSecret(data)
	if err != nil {
		l.errs.add(d, 0, key, "%s does not hold a key as tunctl %s prints it: %v", path, verb, err)
	}
	return secret
}

// explainNoAccess says what this process's user would need to read a file.
func explainNoAccess(path string, err error) error {
	name := userName(uint32(os.Geteuid()))
	if _, deeper := filepath.EvalSymlinks(path); deeper != nil {
		if at, ok := errors.AsType[*fs.PathError](deeper); ok {
			return fmt.Errorf("%w; the directory %s does not let %s in", err, filepath.Dir(at.Path), name)
		}
	}
	return fmt.Errorf("%w; %s needs to read it: chown %s %s", err, name, strings.TrimPrefix(name, "user "), path)
}

// checkPlace is [CheckPlace] of a file that is really there.
func (l *loader) checkPlace(path string) error {
	if _, ok := l.proposed[path]; ok {
		return nil
	}
	return CheckPlace(path, l.user)
}

// refuseSharedKey refuses the private key as a pre-shared key: the other node would have it.
func (l *loader) refuseSharedKey(cfg *Config) {
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		if p.PresharedKey != nil && !p.PresharedKey.IsZero() && p.PresharedKey.Equal(&cfg.Node.PrivateKey) {
			l.errs.add(l.origin[p.Name], 0, toml.Key{tablePeer, p.Name, "preshared_key_file"},
				"%s holds this node's private key, which no other node may have: make another one with tunctl genpsk --write FILE",
				p.PresharedKeyFile)
		}
	}
}

func (l *loader) refuseOwnKey(cfg *Config) {
	if cfg.Node.PrivateKey.IsZero() {
		return
	}
	own := keys.NewIdentity(&cfg.Node.PrivateKey).Public()
	for i := range cfg.Peers {
		if cfg.Peers[i].PublicKey == own {
			l.errs.add(l.origin[cfg.Peers[i].Name], 0, toml.Key{tablePeer, cfg.Peers[i].Name, "public_key"},
				"is this node's own key")
		}
	}
}

// readLimited reads a regular file of at most MaxFileSize bytes. Opening does not wait
// for the other end of a FIFO.
func readLimited(path string) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > MaxFileSize:
		return nil, 0, fmt.Errorf("%s is larger than %d bytes", path, MaxFileSize)
	}
	data := make([]byte, info.Size()+1) // a file that grows meanwhile is changed again
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return data[:n], info.Mode(), nil
}
