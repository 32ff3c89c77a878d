// Package system tests tund as its users meet it: the Debian package on whole Debian
// systems, each booted with systemd as its first process.
//
//	alpha                          beta
//	systemd, tund.service          systemd, tund.service
//	10.77.0.1 ══════ tunnel ══════ 10.77.0.2
//	to-beta 10.9.1.1 ──── veth ─── to-alpha 10.9.1.2
//
// A [Machine] is a container made by systemd-nspawn from a root file system that
// scripts/make-rootfs keeps, with an overlay of its own, its own control group, and no
// network but the links that package lab lays. A [Fleet] is a set of machines; when it
// ends, nothing of it is left. Should the process of the test be killed, a guard that
// waits for that moment removes its fleets.
//
// Like package lab it knows the programs only from outside.
package system
