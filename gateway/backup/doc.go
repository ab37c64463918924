// Package backup writes the state of a gateway into one encrypted file, and puts it back.
//
//	archive.go   the file: what is in it, and how it is read
//	gather.go    what goes into it
//	restore.go   the plan of a restore, before anything is written
//	apply.go     the steps of a restore, which a crash cannot leave half done
//
// # The file
//
// A backup is a tar archive (POSIX.1-2001, regular files only), encrypted with age
// (https://age-encryption.org/v1). Any age and tar read it. In this order:
//
//	kidoban-backup.json  name and version of this format, and the program that wrote it
//	state/journal/...    the journal, as `kidoban journal copy` writes it
//	state/...            the other files of the state folder; the latch is as new as the journal, or newer
//	run/...              the latch that a boot forgets
//	private.key          the gateway's private key
//	policy.yaml          the policy
//	beside/...           files of the policy's folder: settings, and what the policy names
//	outside/...          what the policy names elsewhere, by its full path
//	office/...           how far each receiver's notices are
//	manifest.json        about: host, time, size and key of the journal; of each file its size, mode and SHA-256
//
// The machine has only the recipients: what it backs up it cannot read again. age does not say who
// made a file: whoever knows a recipient can make a backup. So a restore writes to the places of this
// machine's settings alone, and names the journal's key, to be compared with the one that was kept.
package backup
