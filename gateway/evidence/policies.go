package evidence

import (
	"bytes"
	"compress/flate"
	"io"
	"time"

	"kidoban/gateway/journal"
	"kidoban/gateway/policy"
)

// past has the texts of policies. They are kept compressed, and read when somebody asks: a gateway
// keeps its record for years.
type past struct {
	parse  func(text string) (*policy.Policy, error)
	texts  map[string][]byte         // by digest, compressed
	parts  map[string][]string       // of texts that are not complete yet
	parsed map[string]*policy.Policy // nil: the text cannot be read
	order  []string                  // of parsed, the newest use last
}

// parsedMost is how many policies stay in memory as they were read.
const parsedMost = 8

// partsMost is how many entries a text may need. A policy has up to 4 MiB, an entry 64 KiB.
const partsMost = 1000

func newPast(parse func(text string) (*policy.Policy, error)) past {
	return past{parse: parse, texts: map[string][]byte{}, parts: map[string][]string{}, parsed: map[string]*policy.Policy{}}
}

// add takes a policy's text, or a part of it. Parts come in order.
func (p *past) add(e journal.Entry) {
	if _, known := p.texts[e.Digest]; known || e.Digest == "" {
		return
	}
	have := p.parts[e.Digest]
	if e.Part <= 1 {
		have = nil // it begins, perhaps anew
	}
	if e.Part > 1 && e.Part != len(have)+1 || len(have) == partsMost {
		delete(p.parts, e.Digest)
		return
	}
	have = append(have, e.Text)
	if len(have) < e.Parts {
		clear(p.parts) // one text comes at a time
		p.parts[e.Digest] = have
		return
	}
	clear(p.parts)
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // the level is right
	for _, part := range have {
		_, _ = io.WriteString(w, part) // a buffer takes everything
	}
	_ = w.Close()
	p.texts[e.Digest] = bytes.Clone(b.Bytes())
}

// Text is the text of a policy by its digest; empty: the journal does not have it.
func (r *Record) Text(digest string) string {
	compressed, ok := r.past.texts[digest]
	if !ok {
		return ""
	}
	text, _ := io.ReadAll(flate.NewReader(bytes.NewReader(compressed))) // add wrote it
	return string(text)
}

// Policy is a policy by its digest. It is nil if the journal does not have its text, or this version
// cannot read it. Its Digest is empty: preshared keys are in no journal.
func (r *Record) Policy(digest string) *policy.Policy {
	p := &r.past
	if found, done := p.parsed[digest]; done {
		return found
	}
	text := r.Text(digest)
	if text == "" || p.parse == nil {
		return nil
	}
	read, err := p.parse(text)
	if err != nil {
		read = nil
	}
	if len(p.order) == parsedMost {
		delete(p.parsed, p.order[0])
		p.order = p.order[1:]
	}
	p.parsed[digest], p.order = read, append(p.order, digest)
	return read
}

// At is the policy in force at an instant: the newest that can be read, of those loaded not later.
// Before the first it is the first one. It is nil if none can be read.
func (r *Record) At(at time.Time) *policy.Policy {
	for i := len(r.Policies) - 1; i >= 0; i-- {
		if r.Policies[i].From.After(at) {
			continue
		}
		if p := r.Policy(r.Policies[i].Digest); p != nil {
			return p
		}
	}
	for _, known := range r.Policies {
		if p := r.Policy(known.Digest); p != nil {
			return p
		}
	}
	return nil
}
