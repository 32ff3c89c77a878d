// Package vm tests what only a machine of its own can show: Debian with Debian's kernel,
// whose clock can be set and whose control groups limit memory. It runs in qemu, which
// emulates the processor, so it is ten to twenty times slower than the machine it runs on.
//
//	the test ── shell on a virtio port ── VM: Debian 12, systemd
//	                                      ┌ alpha: tund.service, as the package installs it
//	                                      │   10.77.0.1 ══════ tunnel ══════ 10.77.0.2
//	                                      │   10.9.1.1 ─────── veth ──────── 10.9.1.2
//	                                      └ beta: a second service, in a network namespace; it dials
//
// Its disk is the root file system that package system boots, with the package installed
// into it and the files of guest/. Nothing of the machine that the test runs on is touched: a
// VM is one process, two files, and what it prints. When the test is gone, so is
// its shell, and with that the VM.
package vm
