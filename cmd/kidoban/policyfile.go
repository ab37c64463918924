package main

import (
	"io/fs"
	"os"
	"sync"

	"kidoban/gateway/policy"
)

// policyFile is the policy's file on disk.
type policyFile struct {
	path, tunnel string
	key          policy.Key

	mu     sync.Mutex
	seen   fs.FileInfo // when it was last looked at
	digest string
	err    error
}

func (f *policyFile) load() (*policy.Policy, []string, error) {
	loaded, warnings, err := readPolicy(f.path, &f.key, f.tunnel)
	if err != nil {
		return nil, nil, err
	}
	var texts []string
	for _, w := range warnings {
		texts = append(texts, f.path+":"+w.String())
	}
	return loaded, texts, nil
}

// check reads the file anew only if it looks changed. A preshared-key file
// that changed is seen at the next reload.
func (f *policyFile) check() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		f.seen = nil
		return "", err
	}
	if f.seen != nil && os.SameFile(f.seen, info) && f.seen.ModTime().Equal(info.ModTime()) && f.seen.Size() == info.Size() && f.seen.Mode() == info.Mode() {
		return f.digest, f.err
	}
	loaded, _, err := f.load()
	f.seen, f.digest, f.err = info, "", err
	if err == nil {
		f.digest = loaded.Digest
	}
	return f.digest, f.err
}
