package clock

import "time"

const (
	// StepBack is how far the wall clock may be set back without doubt.
	StepBack = 5 * time.Second
	// stepSeen is the smallest step that counts as setting the clock. Two
	// readings are never of quite the same moment, and slewing (adjtime(3))
	// moves both clocks alike.
	stepSeen = 10 * time.Millisecond
)

// Watch reads the wall clock and the boot clock together, and notices when the
// wall clock was set. Its fields hold for the last Tick.
type Watch struct {
	source Source

	Now          time.Time     // the wall clock
	Boot         time.Duration // the boot clock
	BootEpoch    time.Time     // the wall time of boot; changes only when the wall clock is set
	HighWater    time.Time     // the newest wall time seen or recorded; a wall clock far behind it is in doubt
	SetForward   time.Time     // the wall time after the last step forward; zero: there was none
	Synchronized bool          // at the last Synchronize
}

// NewWatch makes the first reading.
func NewWatch(source Source) *Watch {
	w := &Watch{source: source}
	w.read()
	w.BootEpoch, w.HighWater = w.Now.Add(-w.Boot), w.Now
	w.Synchronize()
	return w
}

// Synchronize asks the kernel whether the clock is synchronized.
func (w *Watch) Synchronize() { w.Synchronized = w.source.Synchronized() }

// Set receives when the wall clock was set.
func (w *Watch) Set() <-chan struct{} { return w.source.Set }

// Tick reads both clocks. It returns by how much the wall clock was set since
// the last Tick; 0: it was not.
func (w *Watch) Tick() (step time.Duration) {
	w.read()
	epoch := w.Now.Add(-w.Boot)
	if step = epoch.Sub(w.BootEpoch); step.Abs() < stepSeen {
		step = 0
	} else {
		w.Record(w.BootEpoch.Add(w.Boot)) // the reading just before the step
		w.BootEpoch = epoch
		if step > 0 {
			w.SetForward = w.Now
		}
	}
	w.Record(w.Now)
	return step
}

// Record raises the high water to a time that was seen or recorded.
func (w *Watch) Record(t time.Time) {
	if t.After(w.HighWater) {
		w.HighWater = t
	}
}

// Accept takes the wall clock as it is, though it may be behind the high water.
func (w *Watch) Accept() {
	w.HighWater = w.Now
	if w.SetForward.After(w.Now) {
		w.SetForward = time.Time{} // it has been set back since
	}
}

// Behind reports whether the wall clock went back further than StepBack.
func (w *Watch) Behind() bool { return w.HighWater.Sub(w.Now) > StepBack }

func (w *Watch) read() {
	w.Now, w.Boot = w.source.Read()
	w.Now = w.Now.Round(0) // without the monotonic reading: wall times are compared
}
