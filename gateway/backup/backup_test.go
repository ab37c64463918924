package backup

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"kidoban/gateway/durable"
	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
	"kidoban/gateway/store"
	"kidoban/gateway/view"
)

// TestMain runs the tests where they may mount a small disk.
func TestMain(m *testing.M) { lab.Main(m) }

var someTime = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)

// site is a machine in a test.
type site struct {
	*testing.T
	Machine
}

// newSite is a machine without anything.
func newSite(t *testing.T) site {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	return site{t, Machine{State: at("state"), PrivateKey: at("state/private.key"), Policy: at("etc/policy.yaml"), Passing: at("run/shut.json"), Office: at("office")}}
}

// workingSite is a machine with some state.
func workingSite(t *testing.T, entries int) site {
	s := newSite(t)
	for _, file := range []string{s.PrivateKey, s.Policy, s.Passing, s.Office + "/cursor-siem.json", filepath.Dir(s.Policy) + "/keys/sato.psk", s.State + "/journal.broken-20260101/checkpoint"} {
		s.put(file, filepath.Base(file)+" of a site\n")
	}
	outside := filepath.Join(t.TempDir(), "siem.secret")
	s.put(outside, "secret\n")
	s.Names = []string{outside, filepath.Dir(s.Policy) + "/keys/sato.psk", "/nowhere/ca.pem"}
	s.put(s.Passing, "[]")
	s.append(entries)
	s.closed("medisys")
	return s
}

func (s site) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s site) put(file, text string) {
	s.Helper()
	s.check(os.MkdirAll(filepath.Dir(file), 0o700))
	s.check(os.WriteFile(file, []byte(text), 0o600))
}

func (s site) append(entries int) {
	s.Helper()
	s.check(os.MkdirAll(s.State, 0o700))
	j, err := journal.Open(s.journal())
	s.check(err)
	s.check(j.Append(slices.Repeat([]journal.Entry{{Kind: journal.Drift, Actor: "gateway"}}, entries)...))
	s.check(j.Close())
}

func (s site) closed(scope policy.Scope) {
	s.Helper()
	s.check(s.latch().Save([]policy.ShutRecord{{Scope: scope, At: someTime, Actor: "ito", Reason: "test"}}))
}

// shut lists the scopes that the latch has.
func (s site) shut() string {
	s.Helper()
	records, _, err := store.ShutFile{Lasting: s.latch().Lasting}.Load()
	s.check(err)
	var scopes []string
	for _, r := range records {
		scopes = append(scopes, string(r.Scope))
	}
	slices.Sort(scopes)
	return strings.Join(slices.Compact(scopes), " ")
}

// files gives all files of a machine by their path from its root, without the folders of restores.
func (s site) files() map[string]string {
	s.Helper()
	all := map[string]string{}
	root := filepath.Dir(s.State)
	s.check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), "restore-") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			s.check(err)
			name, _ := filepath.Rel(root, path)
			all[name] = string(text)
		}
		return nil
	}))
	return all
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	k, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// backup makes a backup, and gives its bytes.
func (s site) backup(to *age.X25519Identity) []byte {
	s.Helper()
	file := filepath.Join(s.TempDir(), "backup")
	made, err := Create(file, s.Machine, About{"v1.2.3", "gate", someTime}, []age.Recipient{to.Recipient()})
	s.check(err)
	if fmt.Sprint(made.Missing) != "[/nowhere/ca.pem]" {
		s.Errorf("missing: %q", made.Missing)
	}
	text, err := os.ReadFile(file)
	s.check(err)
	return text
}

// begin begins a restore that must be taken.
func (s site) begin(text []byte, by age.Identity) *Plan {
	s.Helper()
	p, err := Begin(s.Machine, bytes.NewReader(text), []age.Identity{by}, someTime)
	s.check(err)
	return p
}

// changes are the items of a plan by their last two names.
func changes(p *Plan) string {
	var all []string
	for _, i := range p.Items {
		all = append(all, filepath.Base(filepath.Dir(i.Path))+"/"+filepath.Base(i.Path)+" "+string(i.Change))
	}
	return strings.Join(all, "\n")
}

// TestRestoreOntoItself: what is the same stays, and nothing is shut that was not.
func TestRestoreOntoItself(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 300)
	text := s.backup(key)
	p := s.begin(text, key)
	want := "state/journal replaced\nstate/journal.broken-20260101 kept\nstate/journal.key same\nstate/private.key same\netc/policy.yaml same\nkeys/sato.psk same"
	if got := changes(p); !strings.HasPrefix(got, want) || !strings.Contains(got, "siem.secret same") || !strings.Contains(got, "office/cursor-siem.json same") {
		t.Errorf("items:\n%s\nwant\n%s", got, want)
	}
	if p.All || !p.Compared.Whole() || p.Compared.Common != 300 {
		t.Errorf("everything shut: %t, %+v", p.All, p.Compared)
	}
	kept, err := p.Apply(journal.Entry{Actor: "ito", Reason: "test"})
	s.check(errors.Join(err, p.Drop()))
	if got := s.shut(); got != "medisys" {
		t.Errorf("shut: %s", got)
	}
	if _, err := os.Stat(filepath.Join(kept, before, "journal", "checkpoint")); err != nil {
		t.Error(err)
	}
	s.append(1)
	// Another one in the same second.
	second := s.begin(s.backup(key), key)
	again, err := second.Apply(journal.Entry{Actor: "ito"})
	s.check(errors.Join(err, second.Drop()))
	if again == kept {
		t.Errorf("both keep what they replaced in %s", kept)
	}
}

// TestFault127ForgedBackup: a backup that was cut, changed, is of a newer version, for others, or has what no
// backup has, is refused by name, and nothing changes.
func TestFault127ForgedBackup(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 300)
	text := s.backup(key)
	before := s.files()
	refused := func(name string, text []byte, by age.Identity, code view.Code, says string) {
		t.Helper()
		p, err := Begin(s.Machine, bytes.NewReader(text), []age.Identity{by}, someTime)
		if err == nil {
			s.check(p.Drop())
			t.Errorf("%s: it is taken", name)
			return
		}
		var why *view.Error
		if !errors.As(err, &why) || why.Code != code || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s with %q", name, err, code, says)
		}
		if after := s.files(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Fatalf("%s: the machine has changed", name)
		}
	}
	before["state/journal.lock"] = "" // it is there from the first restore on
	refused("another key", text, newIdentity(t), "backup_identity", "")
	refused("nothing", nil, key, "backup_broken", "")
	refused("text", []byte("not a backup\n"), key, "backup_broken", "")
	for _, part := range []int{3, 50, 100, 150, len(text) / 3, len(text) / 2, len(text) - 100_000, len(text) - 1} {
		refused(fmt.Sprintf("cut after %d bytes of %d", part, len(text)), text[:part], key, "backup_broken", "")
		flipped := bytes.Clone(text)
		flipped[part] ^= 4
		if part > 100 { // before it a change may turn the recipient into an unknown one
			refused(fmt.Sprintf("byte %d changed", part), flipped, key, "backup_broken", "")
		}
	}
	refused("more behind it", append(bytes.Clone(text), 0), key, "backup_broken", "")

	header := `{"format":"kidoban-backup","version":1,"program":"v1"}`
	newer := `{"format":"kidoban-backup","version":2,"program":"v9.9","of":{"tomorrow":[]}}`
	file := func(name, text string) *entry { return &entry{tar.Header{Typeflag: tar.TypeReg, Name: name}, text} }
	link := &entry{tar.Header{Typeflag: tar.TypeSymlink, Name: "state/shut.json", Linkname: "/etc/shadow"}, ""}
	hard := &entry{tar.Header{Typeflag: tar.TypeLink, Name: "state/x", Linkname: "state/journal.key"}, ""}
	folder := &entry{tar.Header{Typeflag: tar.TypeDir, Name: "state/x/"}, ""}
	for name, c := range map[string]struct {
		entries []*entry
		code    view.Code
		says    string
	}{
		"another archive":     {[]*entry{file("readme", "hello")}, "backup_none", headerName},
		"another format":      {[]*entry{file(headerName, `{"format":"x","version":1}`)}, "backup_none", ""},
		"a newer version":     {[]*entry{file(headerName, newer), link}, "backup_newer", `version 2 of the format, written by kidoban "v9.9": this one knows versions up to 1`},
		"a link":              {[]*entry{file(headerName, header), link}, "backup_broken", "no regular file"},
		"a hard link":         {[]*entry{file(headerName, header), hard}, "backup_broken", "no regular file"},
		"a folder":            {[]*entry{file(headerName, header), folder}, "backup_broken", "no regular file"},
		"above":               {[]*entry{file(headerName, header), file("state/../../etc/passwd", "x")}, "backup_broken", "no path inside"},
		"far above":           {[]*entry{file(headerName, header), file("../../../../etc/passwd", "x")}, "backup_broken", "no path inside"},
		"absolute":            {[]*entry{file(headerName, header), file("/etc/passwd", "x")}, "backup_broken", "no path inside"},
		"a stranger's file":   {[]*entry{file(headerName, header), file("bin/sh", "x")}, "backup_broken", "no file of a backup"},
		"a control character": {[]*entry{file(headerName, header), file("state/\x1b[2J", "x")}, "backup_broken", "no path inside"},
		"a file twice":        {[]*entry{file(headerName, header), file("state/x", "x"), file("state/x", "y")}, "backup_broken", "twice"},
		"a file as a folder":  {[]*entry{file(headerName, header), file("state/x", "x"), file(manifestName, `{"files":[{"name":"state/x","size":1,"mode":0,"sha256":"00"}]}`)}, "backup_broken", "lists other files"},
		"a restore under way": {[]*entry{file(headerName, header), file("state/restore.unfinished/steps.json", "{}")}, "backup_broken", "name of a restore"},
		"no manifest":         {[]*entry{file(headerName, header), file("state/x", "x")}, "backup_broken", "ends without manifest.json"},
		"more behind":         {[]*entry{file(headerName, header), file(manifestName, `{}`), file("state/x", "x")}, "backup_broken", "more behind manifest.json"},
		"no journal":          {[]*entry{file(headerName, header), file(manifestName, `{}`)}, "backup_broken", "journal.key"},
	} {
		refused(name, forge(t, key, c.entries), key, c.code, c.says)
	}
	// package tar reads sparse files, and writes none.
	sparse := &tar.Header{Typeflag: tar.TypeReg, Name: "state/x", Size: maxFile, PAXRecords: map[string]string{"GNU.sparse.map": "67108864,0"}}
	if err := checkName(sparse); err == nil || !strings.Contains(err.Error(), "is sparse") {
		t.Errorf("64 MiB in 1 KiB: %v", err)
	}
}

// entry is a file of a forged archive.
type entry struct {
	tar.Header
	text string
}

// forge makes what whoever knows the recipient can make.
func forge(t *testing.T, to *age.X25519Identity, entries []*entry) []byte {
	t.Helper()
	var b bytes.Buffer
	sealed, err := age.Encrypt(&b, to.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(sealed)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.text))
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = w.Write([]byte(e.text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), sealed.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestForgedJournal: a whole backup whose journal was changed does not verify.
func TestForgedJournal(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 10)
	opened, err := age.Decrypt(bytes.NewReader(s.backup(key)), key)
	s.check(err)
	var entries []*entry
	var m Manifest
	for r := tar.NewReader(opened); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		text, err := contents(r, h)
		s.check(err)
		if h.Name == "state/journal/tile/entries/000.p/10" {
			text = bytes.Replace(text, []byte("drift"), []byte("draft"), 1)
		}
		if h.Name == manifestName {
			s.check(json.Unmarshal(text, &m))
			for i := range m.Files {
				m.Files[i].SHA256 = digest([]byte(entries[i+1].text))
			}
			text, _ = json.Marshal(m)
		}
		entries = append(entries, &entry{tar.Header{Typeflag: tar.TypeReg, Name: h.Name, Mode: h.Mode}, string(text)})
	}
	_, err = Begin(s.Machine, bytes.NewReader(forge(t, key, entries)), []age.Identity{key}, someTime)
	if err == nil || !strings.Contains(err.Error(), "the entry is not the one that was signed") {
		t.Errorf("a changed entry: %v", err)
	}
}

// TestFault128RestoreIsWhole: a restore that dies anywhere leaves what was there, or is finished by Continue.
func TestFault128RestoreIsWhole(t *testing.T) {
	key := newIdentity(t)
	old := workingSite(t, 20)
	text := old.backup(key)
	var want map[string]string
	for dies := 0; ; dies += 3 {
		s := newSite(t)
		s.put(s.Policy, "another policy\n")
		s.append(5)
		s.closed("radiology")
		p := s.begin(text, key)
		s.check(p.record(journal.Entry{Actor: "ito"}))
		s.check(p.writeLatch("ito"))
		all, err := p.steps()
		s.check(err)
		if err := Unfinished(s.State); err != nil || s.shut() != "radiology" {
			t.Fatalf("before the decision: %v, shut %q", err, s.shut())
		}
		s.check(p.commit(all))
		folder := filepath.Join(s.State, pending)
		for _, step := range all[:min(dies/2, len(all))] {
			s.check(step.do(folder))
		}
		if half := dies / 2; dies%2 == 1 && half < len(all) && all[half].Before != "" && durable.Exists(all[half].To) {
			s.check(os.Rename(all[half].To, filepath.Join(folder, all[half].Before))) // within a step
		}
		s.check(p.Drop())
		if err := Unfinished(s.State); err == nil || !strings.Contains(err.Error(), "kidoban restore --continue") {
			t.Errorf("dies at %d: a gateway may start: %v", dies, err)
		}
		if _, err := Begin(s.Machine, bytes.NewReader(text), []age.Identity{key}, someTime); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("dies at %d: another restore begins: %v", dies, err)
		}
		if _, err := Create(filepath.Join(t.TempDir(), "backup"), s.Machine, About{Made: someTime}, []age.Recipient{key.Recipient()}); err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("dies at %d: a backup is made: %v", dies, err)
		}
		if dies == 0 { // it says what it cannot do
			s.check(errors.Join(os.Remove(s.Policy), os.MkdirAll(s.Policy+"/full", 0o700)))
			if _, err := Continue(s.Machine); err == nil || !strings.Contains(err.Error(), "file exists") || !strings.Contains(err.Error(), "--continue") {
				t.Errorf("over a folder: %v", err)
			}
			s.check(os.RemoveAll(s.Policy))
			s.put(s.Policy, "another policy\n")
		}
		kept, err := Continue(s.Machine)
		s.check(err)
		got := s.files()
		delete(got, "state/journal/checkpoint") // each journal has the same entries, but for their times
		for name := range got {
			if strings.HasPrefix(name, "state/journal/") {
				got[name] = ""
			}
		}
		if want == nil {
			want = got
		} else if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("dies at %d: %q, want %q", dies, got, want)
		}
		if s.shut() != "all medisys radiology" {
			t.Errorf("dies at %d: shut %s", dies, s.shut())
		}
		for _, name := range []string{"journal/checkpoint", "policy.yaml"} {
			if _, err := os.Stat(filepath.Join(kept, before, name)); err != nil {
				t.Errorf("dies at %d: not kept: %v", dies, err)
			}
		}
		if _, err := Continue(s.Machine); err == nil {
			t.Errorf("dies at %d: it continues twice", dies)
		}
		if dies/2 > len(all) {
			break
		}
	}
}

// TestFault128FullDisk: neither a backup nor a restore leaves anything on a full disk.
func TestFault128FullDisk(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 3000)
	text := s.backup(key)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=512k,mode=0700"); err != nil {
		lab.Require(t) // where hosts can be made, a disk can be mounted
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	empty := func(what string, but ...string) {
		t.Helper()
		left, err := os.ReadDir(small)
		s.check(err)
		for _, e := range left {
			if !slices.Contains(but, e.Name()) {
				t.Errorf("%s leaves %s", what, e.Name())
			}
		}
	}
	if _, err := Create(filepath.Join(small, "backup"), s.Machine, About{Made: someTime}, []age.Recipient{key.Recipient()}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a backup: %v", err)
	}
	empty("a backup")
	full := newSite(t)
	full.State = small
	if _, err := Begin(full.Machine, bytes.NewReader(text), []age.Identity{key}, someTime); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a restore: %v", err)
	}
	empty("a restore", "journal.lock")
}

// TestRestoreBesideAGateway: while somebody has the journal open, a restore does not begin.
func TestRestoreBesideAGateway(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 3)
	text := s.backup(key)
	j, err := journal.Open(s.journal())
	s.check(err)
	defer j.Close()
	if _, err := Begin(s.Machine, bytes.NewReader(text), []age.Identity{key}, someTime); !errors.Is(err, ErrRuns) {
		t.Errorf("beside a gateway: %v", err)
	}
	if _, err := Continue(s.Machine); !errors.Is(err, ErrRuns) {
		t.Errorf("beside a gateway: %v", err)
	}
}

// TestBackupUnderLoad: backups that are taken while the journal is written to all verify.
func TestBackupUnderLoad(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 250)
	j, err := journal.Open(s.journal())
	s.check(err)
	stop, stopped, wrote := make(chan struct{}), make(chan error), make(chan struct{})
	go func() {
		for {
			if err := j.Append(slices.Repeat([]journal.Entry{{Kind: journal.Drift}}, 3)...); err != nil {
				stopped <- err
				return
			}
			select {
			case <-stop:
				stopped <- j.Close()
				return
			case wrote <- struct{}{}:
			default:
			}
		}
	}()
	var before int64
	for range 4 {
		<-wrote
		<-wrote // after an entry at least
		text := s.backup(key)
		p := newSite(t).begin(text, key)
		if p.Compared.Backup <= before {
			t.Errorf("%d entries, after %d", p.Compared.Backup, before)
		}
		before = p.Compared.Backup
		s.check(p.Drop())
	}
	close(stop)
	s.check(<-stopped)
}

// TestDamagedMachine: a machine whose journal or latch cannot be read is shut, and the word is needed.
func TestDamagedMachine(t *testing.T) {
	key := newIdentity(t)
	s := workingSite(t, 30)
	text := s.backup(key)
	checkpoint := filepath.Join(s.State, "journal", "checkpoint")
	s.put(checkpoint, "nonsense")
	p := s.begin(text, key)
	if p.Compared.Fault == "" || !p.Compared.RollsBack() || !p.All {
		t.Errorf("a damaged journal: %+v, everything shut: %t", p.Compared, p.All)
	}
	s.check(p.Drop())
	s = workingSite(t, 30)
	text = s.backup(key)
	s.put(s.latch().Lasting, "nonsense")
	if p = s.begin(text, key); p.Compared.RollsBack() || !p.All {
		t.Errorf("a damaged latch: %+v, everything shut: %t", p.Compared, p.All)
	}
	s.check(p.Drop())
	// A backup with an entry that this version does not know.
	s = workingSite(t, 3)
	j, err := journal.Open(s.journal())
	s.check(err)
	s.check(errors.Join(j.Append(journal.Entry{Kind: "quarantined"}), j.Close()))
	if _, err := Begin(newSite(t).Machine, bytes.NewReader(s.backup(key)), []age.Identity{key}, someTime); err == nil || !strings.Contains(err.Error(), `the kind "quarantined" is not known`) {
		t.Errorf("a newer journal: %v", err)
	}
	// Another journal on the machine: nothing of it is in the backup.
	other := newSite(t)
	other.append(4)
	if p = other.begin(text, key); p.Compared.Lost != 4 || p.Compared.First.IsZero() {
		t.Errorf("another journal: %+v", p.Compared)
	}
	s.check(p.Drop())
}

// TestRestoreForTheService: root restores where the package has made the folders, and the service can
// read all of it: the state is the service's, and its group reads beside the policy.
func TestRestoreForTheService(t *testing.T) {
	if err := lab.OtherUsers(); err != nil {
		t.Skip(err)
	}
	defer unix.Umask(unix.Umask(0o077))
	const service, office = 65001, 65002
	key := newIdentity(t)
	text := workingSite(t, 20).backup(key)
	s := newSite(t)
	for _, f := range []struct {
		path        string
		user, group int
	}{{s.State, service, service}, {filepath.Dir(s.Policy), 0, service}, {s.Office, office, office}} {
		s.check(errors.Join(os.Mkdir(f.path, 0o750), os.Chown(f.path, f.user, f.group)))
	}
	p := s.begin(text, key)
	kept, err := p.Apply(journal.Entry{Actor: "ito"})
	s.check(errors.Join(err, p.Drop()))
	for path, want := range map[string]owner{
		s.State + "/journal/checkpoint":  {service, service},
		s.State + "/journal.key":         {service, service},
		s.State + "/journal.lock":        {service, service},
		s.State + "/shut.json":           {service, service},
		s.PrivateKey:                     {service, service},
		kept:                             {service, service},
		s.Policy:                         {0, service},
		filepath.Dir(s.Policy) + "/keys": {0, service},
		filepath.Dir(s.Policy) + "/keys/sato.psk": {0, service},
		s.Office + "/cursor-siem.json":            {office, office},
	} {
		got, mode, err := ownerOf(path)
		if s.check(err); got != want {
			t.Errorf("%s belongs to %v, want %v", path, got, want)
		}
		if filepath.Base(path) == "keys" && mode != 0o750 {
			t.Errorf("%s has mode %v", path, mode)
		}
	}
}
