// Package journal keeps the append-only, verifiable record: what the gateway
// did, and what operators decided. It is the only store of the latter.
//
// # On disk
//
// A journal is a folder in the format of C2SP tlog-tiles
// (https://c2sp.org/tlog-tiles), so that any public tool for transparency
// logs can verify a copy of it:
//
//	checkpoint               size and root hash, signed (https://c2sp.org/tlog-checkpoint)
//	tile/<L>/<N>[.p/<W>]     hashes of the Merkle tree of RFC 6962, 256 a tile
//	tile/entries/<N>[.p/<W>] the entries, 256 a bundle, each a JSON object behind its length
//
// Beside the folder, never in it, are the private key that signs the
// checkpoints, and the lock that keeps a second writer out. The verifier key,
// which VerifierKey gives, is all that someone elsewhere needs to verify a copy.
//
// # Writing
//
// Append returns when its entries are on disk: the bundle and the tiles that
// changed, then the checkpoint that vouches for them. A tile is never changed
// once a checkpoint covers it; a longer tile gets another name, and the
// shorter one goes when the next checkpoint is on disk (tlog-tiles would keep it
// until the tile is full, which for one bundle may take gigabytes: other tools
// need a copy that was not written to meanwhile). Callers at the same
// time share one commit. A write or fsync that failed once is fatal: after a
// failed fsync nobody knows what the disk holds, and trying again may report
// success for pages that were dropped (Rebello et al., "Can Applications
// Recover from fsync Failures?", USENIX ATC 2020). Every later Append gives
// the same *FailedError; only opening the journal anew, which reads what is
// there and writes again what no checkpoint covers, leads out.
//
// # Reading
//
// There is one read path, for start, replay, crash recovery and audit: read
// the checkpoint, then every entry below its size, and compute the tree anew.
// What a checkpoint covers must be there to the last bit, or a *DamageError
// names the first entry that is not vouched for. What lies beyond was never
// acknowledged: whole entries are adopted and signed, the rest is cut.
//
// # What it cannot see
//
// Whoever may write the folder and read the key can write another past. An
// old copy of the whole folder, checkpoint and all, verifies as it did when it
// was taken. Both show only against a checkpoint that was kept elsewhere;
// VerifyDir takes one.
//
// A journal that Archive began anew is signed with the same key as its
// predecessor. Against a checkpoint of the predecessor it does not verify: it
// is another record, and its first entry should name that checkpoint.
package journal
