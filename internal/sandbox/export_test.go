package sandbox

import (
	"runtime"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// CheckStatus is what Enter asks of each thread.
var CheckStatus = checkStatus

// Calls returns the names of what is allowed on an architecture.
var Calls = calls

// Programs returns the filters of a process with the given id.
func Programs(pid int) ([][]bpf.Instruction, error) {
	var all [][]bpf.Instruction
	for _, p := range policies(runtime.GOARCH, pid) {
		program, err := p.Assemble()
		if err != nil {
			return nil, err
		}
		all = append(all, program)
	}
	return all, nil
}

// Refuse lets a system call fail from now on, as a kernel that lacks it does.
func Refuse(call string, errno unix.Errno) error {
	p := refuse(seccomp.ActionErrno|seccomp.Action(errno), false, seccomp.SyscallGroup{Names: []string{call}})
	return seccomp.LoadFilter(seccomp.Filter{Flag: seccomp.FilterFlagTSync, Policy: p.Policy})
}
