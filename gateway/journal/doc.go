// Package journal keeps the append-only, verifiable record of the gateway's
// actions and of the operators' decisions. It is the only store of the latter.
//
// # On disk
//
// A journal is a folder in the format of C2SP tlog-tiles
// (https://c2sp.org/tlog-tiles). Public tools for transparency logs can verify
// a copy of it:
//
//	checkpoint               size and root hash, signed (https://c2sp.org/tlog-checkpoint)
//	tile/<L>/<N>[.p/<W>]     hashes of the Merkle tree of RFC 6962, 256 a tile
//	tile/entries/<N>[.p/<W>] the entries, 256 a bundle, each a JSON object behind its length
//
// The signing key and the lock of the writer are beside the folder, never in
// it. A copy needs only the verifier key, which VerifierKey gives.
//
// # Writing
//
// Append returns when its entries are on disk: first bundle and tiles, then the
// checkpoint over them. A tile under a checkpoint never changes. A longer tile
// has another name, and the shorter one is removed after the next checkpoint
// (tlog-tiles keeps it until the tile is full, perhaps gigabytes for one bundle;
// so other tools need a copy that was not written to meanwhile). Concurrent
// callers share one commit.
//
// A failed write or fsync is fatal. After a failed fsync the content of the disk
// is unknown, and a second try may succeed without the dropped pages (Rebello et
// al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). Every
// later Append gives the same *FailedError. The way out is to open the journal
// anew, which writes the entries beyond the checkpoint again.
//
// # Reading
//
// Replay, crash recovery and audit read alike: the checkpoint, then every
// entry below its size, with the tree computed anew. Everything under the
// checkpoint must be there to the last bit, or a *DamageError names the first
// bad entry. A start of a long journal reads its end alone, and compares that with
// the root by the hash tiles between them (ReplayFrom): an entry of kind state says
// what was before, and a Replay verifies the rest afterwards. Data beyond it was never acknowledged: whole entries are adopted and
// signed, the rest is cut. A time that goes back is damage too, except at a
// Recovery that states it.
//
// VerifyCopy does without hash tiles that are missing: a copy that is taken during
// a commit may lack the partial ones, and the entries alone prove the root.
//
// # Limits
//
// An attacker who can write the folder and read the key can write another past.
// An old copy of the whole folder verifies. Both show only against a checkpoint
// that was kept elsewhere; VerifyDir takes one.
//
// A journal that Archive began has the key of its predecessor, but does not
// verify against its checkpoints. Its first entry should name the last of them.
package journal
