package journal

import (
	"sync"
	"testing"
)

// One caller: the latency of a commit.
func BenchmarkAppend(b *testing.B) {
	j := newPlace(b).open(b)
	for b.Loop() {
		if err := j.Append(Entry{Kind: Admission, Engineer: "medisys/sato", Source: "203.0.113.10"}); err != nil {
			b.Fatal(err)
		}
	}
}

// Many callers: how many entries a second share the commits.
func BenchmarkAppendTogether(b *testing.B) {
	j := newPlace(b).open(b)
	const callers = 256
	b.ResetTimer()
	var wait sync.WaitGroup
	for caller := range callers {
		wait.Go(func() {
			for i := caller; i < b.N; i += callers {
				if err := j.Append(Entry{Kind: Admission, Engineer: "medisys/sato", Source: "203.0.113.10"}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// What a restart costs with years of entries.
func BenchmarkOpen100000(b *testing.B) {
	p := newPlace(b)
	j := p.open(b)
	for range 100 {
		fillAtOnce(b, j, 1000)
	}
	j.Close()
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			j, err := Open(p.dir, p.keyFile)
			if err != nil {
				b.Fatal(err)
			}
			j.Close()
		}
	})
	b.Run("Replay", func(b *testing.B) {
		j := p.open(b)
		defer j.Close()
		for b.Loop() {
			for _, err := range j.Replay() {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("VerifyDir", func(b *testing.B) {
		for b.Loop() {
			if _, err := VerifyDir(p.dir, p.verifierKey(b), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
