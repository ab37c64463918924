package office

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kidoban/gateway/durable"
)

// TestFault130SinkElsewhere: the office confines itself once, before the first notice. It ends if a
// sink has a file that it cannot read since then, for its restart to take in.
func TestFault130SinkElsewhere(t *testing.T) {
	g, f := place(t, "shut")
	c := quick(g, t.TempDir())
	first := g.sinks[0].SecretFile
	asked := make(chan []string, 10)
	c.Confine = func(files []string) []string {
		if len(f.taken()) > 0 {
			t.Error("it was confined after the first notice")
		}
		asked <- files
		return []string{filepath.Dir(durable.Real(first))}
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(t.Context(), c) }()
	g.add(closes(0, 1)...)
	g.until("the first notice", func() bool { return len(f.taken()) == 1 })
	if files := <-asked; !slices.Equal(files, []string{first}) {
		t.Errorf("confined with the files %q, want %q", files, first)
	}

	added := sinkOf(t, "other", f)
	g.mu.Lock()
	g.sinks = append(g.sinks, added)
	g.mu.Unlock()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), added.SecretFile) || !strings.Contains(err.Error(), "start the office anew") {
			t.Errorf("it ends with %v, want an error with %s and what to do", err, added.SecretFile)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on with a file that it cannot read")
	}
	if len(asked) > 0 {
		t.Error("it was confined twice")
	}
}
