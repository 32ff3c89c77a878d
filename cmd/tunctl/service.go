package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/unit"
	"github.com/spf13/cobra"
)

// unitName is the unit of the service.
const unitName = "tund.service"

// unitDirs are where systemd looks for units, the first one first.
var unitDirs = [...]string{"etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// account is a user as which tund runs.
type account struct {
	name     string
	uid, gid int
	groups   []uint32
}

// addUserFlag gives a command the option that says as whom tund runs.
func addUserFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "user", "", "`name` of the user that tund runs as (default: that of "+unitName+" for files in "+
		filepath.Dir(defaultConfig)+", else you)")
}

// service is as whom systemd runs tund.
type service struct {
	user  string // "": root
	group string // "": that of the user
	more  []string
}

// runsAs returns the user as which a tund reads the file: the named one, or for root's files
// of the service that of its unit. Everybody else can only mean a tund of his own.
func runsAs(file, name string) (account, error) {
	unit := serviceOf("/")
	if name == "" && os.Geteuid() == 0 && inServiceDir(file) {
		name = unit.user
	}
	if name == "" {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	a, err := lookUp(name)
	if err == nil && name == unit.user && inServiceDir(file) {
		err = a.join(unit)
	}
	return a, err
}

// join gives the account the groups that the unit has for it.
func (a *account) join(unit service) error {
	for _, name := range unit.more {
		gid, err := lookUpGroup(name)
		if err != nil {
			return err
		}
		a.groups = append(a.groups, uint32(gid))
	}
	if unit.group == "" {
		return nil
	}
	gid, err := lookUpGroup(unit.group)
	a.gid = gid
	return err
}

func lookUpGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		if g, err = user.LookupGroupId(name); err != nil {
			return 0, fmt.Errorf("group %s of %s: no such group", name, unitName)
		}
	}
	return strconv.Atoi(g.Gid)
}

// inServiceDir says whether a file is in the directory of the service's configuration.
func inServiceDir(file string) bool {
	abs, err := filepath.Abs(file)
	dir := filepath.Dir(defaultConfig)
	return err == nil && strings.HasPrefix(abs, dir+"/")
}

func lookUp(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return account{}, fmt.Errorf("user %s: no such user", name)
		}
	}
	a := account{name: u.Username}
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	for _, text := range ids {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(id))
		}
	}
	var errUID, errGID error
	a.uid, errUID = strconv.Atoi(u.Uid)
	a.gid, errGID = strconv.Atoi(u.Gid)
	return a, errors.Join(errUID, errGID)
}

// serviceOf returns what the unit of the service, its drop-ins included, says below a root directory. Without
// a unit that is root.
func serviceOf(root string) (s service) {
	for _, dir := range unitDirs {
		text, err := os.ReadFile(filepath.Join(root, dir, unitName))
		if err == nil {
			s.read(text)
			break
		}
	}
	dropIns := make(map[string]string) // name to path; the first directory wins
	for _, dir := range unitDirs {
		paths, _ := filepath.Glob(filepath.Join(root, dir, unitName+".d", "*.conf"))
		for _, p := range paths {
			if _, there := dropIns[filepath.Base(p)]; !there {
				dropIns[filepath.Base(p)] = p
			}
		}
	}
	for _, file := range slices.Sorted(maps.Keys(dropIns)) {
		if text, err := os.ReadFile(dropIns[file]); err == nil {
			s.read(text)
		}
	}
	return s
}

// read adds what a unit file says.
func (s *service) read(text []byte) {
	options, err := systemd.DeserializeOptions(strings.NewReader(string(text)))
	if err != nil {
		return
	}
	for _, o := range options {
		switch {
		case o.Section != "Service":
		case o.Name == "User":
			s.user = o.Value
		case o.Name == "Group":
			s.group = o.Value
		case o.Name == "SupplementaryGroups" && o.Value == "":
			s.more = nil
		case o.Name == "SupplementaryGroups":
			s.more = append(s.more, strings.Fields(o.Value)...)
		}
	}
}

// keyOwner is who owns a new key file: the user of the service, where the caller can give it away.
func (a account) keyOwner() owner { return owner{uid: a.uid, gid: a.gid, mode: 0o600} }

// owner is what a new file gets.
type owner struct {
	uid, gid int
	mode     fs.FileMode
}
