package watch

import (
	"testing"

	"golang.org/x/sys/unix"
)

// NFS and CIFS refuse a lease with EAGAIN where the server has promised nothing, writer or not: taken
// for a writer's, no change there would ever be loaded.
func TestLeasesOfTheNetworkTellNothing(t *testing.T) {
	for name, c := range map[string]struct {
		magic int64
		tells bool
	}{
		"ext4":    {unix.EXT4_SUPER_MAGIC, true},
		"tmpfs":   {unix.TMPFS_MAGIC, true},
		"overlay": {unix.OVERLAYFS_SUPER_MAGIC, true},
		"nfs":     {unix.NFS_SUPER_MAGIC, false},
		"cifs":    {unix.CIFS_SUPER_MAGIC, false},
		"smb3":    {unix.SMB2_SUPER_MAGIC, false},
	} {
		if got := leasesTell(c.magic); got != c.tells {
			t.Errorf("%s: %v", name, got)
		}
	}
}
