// Package vmgen tells when the machine, if it is a virtual one, was cloned or set back to a
// snapshot.
//
// The hypervisor changes the generation of the machine then, and the driver vmgenid of the
// kernel (Linux 6.8 and later emit it) says so in an event, after it has seeded the kernel's
// random numbers anew. Where the hypervisor has no generation nothing is ever said.
package vmgen
