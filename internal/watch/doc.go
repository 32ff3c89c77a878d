// Package watch tells its owner when the configuration should be looked at again: when
// one of the files that it was given has changed, or SIGHUP has come.
//
// It knows nothing of what is in the files. It may report a change where there is
// none, so the owner compares contents; it must not miss one. What it takes for a
// change, and when it reports it:
//
//	fsnotify, of directories ──┐
//	sizes, times, modes ───────┼─► 250 ms of quiet (2 s at most) ─► Event{File, path}
//	SIGHUP ────────────────────────────────────────────────────────► Event{Signal}
//
// Directories are watched, not files: editors replace files, and a watch of a file is
// lost with it. Where a path leads through symbolic links, each link's directory is
// watched as well as the directory of the file; where a part of a path is missing, the
// last directory that is there. Where the kernel refuses watches, and on file systems
// that do not report changes, the files are looked at from time to time.
//
// Whether somebody has one of the files open for writing is a question of its own, which
// [TakeLook] answers at one moment; what to make of it is the owner's.
//
// The parent process runs it. All state belongs to the goroutine of [Watcher.Run] but
// the list of files and the last error, which have a lock.
package watch
