package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"kidoban/cmd/kidoban/terminal"
	"kidoban/gateway/journal"
	"kidoban/gateway/view"
)

// witnessed is a cosignature of the journal.
type witnessed struct {
	journal.Cosignature
	Size     int64 `json:"size"`     // entries under it
	Verified bool  `json:"verified"` // with a key of --witness; false: it is only named
}

// checkpointMost bounds a checkpoint that is typed or read, in bytes: it may be a whole mail.
const checkpointMost = 1 << 20

// since reads the checkpoint that was kept; nil if none is given.
func (c verifyCommand) since(p *terminal.Program) ([]byte, error) {
	given := string(c.Since)
	switch {
	case given == "":
		return nil, nil
	case given == "-":
		return io.ReadAll(io.LimitReader(p.Input, checkpointMost))
	}
	text, err := os.ReadFile(given)
	if err == nil {
		return text, nil
	}
	// The shortest checkpoint has a root hash and a signature; no name of a file is like that.
	if len(given) > 136 && strings.Contains(given, "=") {
		return []byte(given), nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, terminal.Wrong("since_wrong", view.Args{"given": fmt.Sprintf("%.80q", given)})
	}
	return nil, err
}

func (c verifyCommand) witnesses() (all []*journal.Witness, err error) {
	for _, key := range c.Witness {
		if text, err := os.ReadFile(key); err == nil {
			key = strings.TrimSpace(string(text))
		}
		w, err := journal.NewWitness(key)
		if err != nil {
			return nil, terminal.Wrong("witness_key_wrong", view.Args{"key": fmt.Sprintf("%.80q", key)})
		}
		all = append(all, w)
	}
	return all, nil
}

// Cosigners names those of the witnesses with the given keys, or files that hold them, that cosigned
// the journal in a folder. Each of them must have.
func Cosigners(dir, key string, keys []string) ([]string, error) {
	witnesses, err := verifyCommand{Witness: keys}.witnesses()
	if err != nil {
		return nil, err
	}
	names := []string{}
	all, err := cosignatures(dir, key, witnesses)
	for _, w := range all {
		if w.Verified {
			names = append(names, w.Name)
		}
	}
	if err != nil {
		return nil, &terminal.Exit{Message: view.Say("unwitnessed", view.Args{"journal": dir, "cause": err}), Status: terminal.No}
	}
	return names, nil
}

// cosignatures lists who cosigned the newest witnessed checkpoint that the journal continues. Each
// of the witnesses must have.
func cosignatures(dir, key string, witnesses []*journal.Witness) (all []witnessed, err error) {
	folder, err := journal.OpenFolder(dir, key)
	if err != nil {
		return nil, err
	}
	text, tree, err := folder.Witnessed()
	switch {
	case len(witnesses) == 0 && (err != nil || text == nil):
		return nil, nil
	case err != nil:
		return nil, err
	case text == nil:
		return nil, fmt.Errorf("there is no %s", journal.WitnessedFile)
	}
	if same, err := folder.Continues(tree); err != nil || !same {
		return nil, fmt.Errorf("%s: the journal does not continue its %d entries", journal.WitnessedFile, tree.N)
	}
	verified := map[string]bool{}
	for _, w := range witnesses {
		at, err := w.Cosigned(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", journal.WitnessedFile, err)
		}
		verified[w.Name()] = true
		all = append(all, witnessed{journal.Cosignature{Name: w.Name(), At: at}, tree.N, true})
	}
	for _, s := range journal.CosignaturesOf(text) {
		if !verified[s.Name] {
			all = append(all, witnessed{s, tree.N, false})
		}
	}
	return all, nil
}
