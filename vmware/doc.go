// Package vmware protects virtual machines of vSphere: it makes a VM a
// backup.Source and a vCenter a restore.Target.
//
// A backup takes one VMware snapshot, reads the frozen disks beside the running
// guest and removes the snapshot again, whatever happened in between. What must
// be read is decided disk by disk: changed-block tracking is used when nothing
// speaks against it (package cbt), and a doubt costs a full read, never data.
// How consistent the guest was is decided in advance where it can be, and read
// from the VSS manifest where there is one (package quiesce). A restore makes a
// new VM out of the saved configuration (package spec), and never touches an old
// one before the new one is verified.
//
//	session      one login, renewed when the server forgets it
//	inventory    find and choose VMs
//	source       Freeze: snapshot, decisions; Release
//	reading      how each disk is read and travels; what consistency was reached
//	capture      the configuration that a restore needs
//	tracking     status, enable and reset of changed-block tracking
//	cleanup      removal of what dead runs left (package leftover)
//	privileges   what an account must be allowed
//
// Package target, above this one, restores. Packages below take a plain govmomi
// client: task (wait), inventory, snapshot (life of one), leftover, disk (transports), cbt
// and quiesce and spec (pure decisions), vmdk (formats), lab (a vCenter to
// practise on). Decisions are in DESIGN.md.
package vmware
