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
//	state/...            the other files of the state folder, with the latch: the file of shut scopes
//	run/...              the latch in /run, which a boot removes
//	private.key          the gateway's private key
//	policy.yaml          the policy
//	beside/...           files in the policy's folder: the settings, and files that the policy names
//	outside/...          files that the policy names in other folders, by full path
//	office/...           how far the notices of each receiver were delivered
//	manifest.json        about: host, time, size and key of the journal; of each file its size, mode and SHA-256
//
// The machine knows only the recipients' public keys, so it cannot read its own backups. age does not
// tell who made a file: everyone who knows a recipient can make one. So a restore writes only to the
// places that this machine's settings name, and shows the key of the journal, for the operator to compare.
package backup
