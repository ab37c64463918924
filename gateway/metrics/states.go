package metrics

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kidoban/gateway/policy"
	"kidoban/gateway/view"
)

// Source gives states; *gateway.Gateway is one.
type Source interface {
	Snapshot() *view.Snapshot
	Now() time.Time
}

// states is a prometheus.Collector over the newest Snapshot.
type states struct {
	source  Source
	metrics *Metrics
	device  string
}

var descriptions []*prometheus.Desc // of states, for Describe

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, labels, nil)
	descriptions = append(descriptions, d)
	return d
}

var (
	descDevice        = desc("wireguard_device_info", "Metadata about the gateway's WireGuard device.", "device", "public_key")
	descPeer          = desc("wireguard_peer_info", "Metadata about an engineer's peer. Its endpoint is not shown: it is a value from the network.", "device", "public_key", "name")
	descPeerReceived  = desc("wireguard_peer_receive_bytes_total", "Bytes received from a peer since the gateway started.", "public_key")
	descPeerSent      = desc("wireguard_peer_transmit_bytes_total", "Bytes transmitted to a peer since the gateway started.", "public_key")
	descPeerHandshake = desc("wireguard_peer_last_handshake_seconds", "Unix time of a peer's last handshake; 0: none.", "public_key")

	descReady        = desc("kidoban_ready", "1 if the gateway admits whom the policy admits, 0 if it is shut in doubt.")
	descDoubt        = desc("kidoban_doubt", "1 if the gateway is shut because of this: journal, clock, policy, key, tunnel, ruleset, or a loop that does not turn.", "about")
	descShut         = desc("kidoban_shut", "How much operators closed: all (0 or 1), vendors, engineers.", "scope")
	descSwitch       = desc("kidoban_switch_shut", "1 if the shut file shuts everything.")
	descPolicy       = desc("kidoban_policy_info", "Always 1 while a policy is in force; its digest is in the label.", "digest")
	descPolicyLoaded = desc("kidoban_policy_loaded_timestamp_seconds", "Unix time at which the policy in force was loaded; 0: there is none.")
	descPolicyFile   = desc("kidoban_policy_file_valid", "1 if the policy file on disk would survive a restart.")
	descClock        = desc("kidoban_clock_synchronized", "1 if the kernel says that the clock is synchronized.")

	descJournalSize    = desc("kidoban_journal_size", "Entries in the journal.")
	descJournalTime    = desc("kidoban_journal_checkpoint_timestamp_seconds", "Unix time of the newest signed checkpoint.")
	descJournalRoom    = desc("kidoban_journal_room_entries", "About how many more entries the disk of the state folder takes, by its free bytes and inodes.")
	descJournalWaiting = desc("kidoban_journal_waiting_seconds", "How long the append under way has waited for the disk; 0: none is under way.")

	descWitness        = desc("kidoban_witness_timestamp_seconds", "Unix time of the newest cosignature of the witness; 0: it never cosigned the journal. Absent: there is no witness.", "witness")
	descWitnessRefuses = desc("kidoban_witness_refuses", "1 if the witness's last answer was no cosignature.", "witness")
	descCopied         = desc("kidoban_copy_timestamp_seconds", "Unix time of the newest copy of the journal by `kidoban journal copy`, as the journal has it; 0: none.")

	descProbe       = desc("kidoban_probe_last_run_timestamp_seconds", "Unix time of the last `kidoban probe` that told the gateway, as the journal has it; absent: there was none.")
	descProbeKept   = desc("kidoban_probe_last_success_timestamp_seconds", "Unix time of the last `kidoban probe` that found every promise kept; 0: none did. Absent: there was no probe.")
	descProbeBroken = desc("kidoban_probe_failed_checks", "Trials of the last `kidoban probe` that found a promise broken; absent: there was none.")

	descRulesetWaiting = desc("kidoban_ruleset_waiting_seconds", "How long setting the ruleset or reading it back, which is under way, has waited for the kernel; 0: neither is under way.")

	descConntrack     = desc("kidoban_conntrack_entries", "Connections that the kernel tracks where the gateway runs.")
	descConntrackMost = desc("kidoban_conntrack_limit", "How many the kernel can track; beyond it new flows fail.")

	descNotices    = desc("kidoban_notifications_total", "Notices that a sink's receiver took (delivered), attempts that failed (failed), and notices that were too old and are in a summary (skipped), as the office reports them since its start.", "sink", "result")
	descNoticesLag = desc("kidoban_notification_lag_entries", "Entries of the journal that the office has not looked at for a sink, as of its last report; while none comes, up to now.", "sink")

	descEngineers   = desc("kidoban_engineers", "Engineers whom the policy lists, by vendor; of a vendor behind a plain line its hosts.", "vendor")
	descVendor      = desc("kidoban_vendor_info", "Always 1 for each vendor; its name for people is in the label, or the short one where the policy gives none.", "vendor", "name")
	descContract    = desc("kidoban_vendor_contract_end_timestamp_seconds", "Unix time at which the vendor's contract is over; absent: the policy names no end.", "vendor")
	descVendorShut  = desc("kidoban_vendor_shut", "1 if an operator closed this vendor, or everything.", "vendor")
	descActive      = desc("kidoban_session_active", "Open sessions, by vendor.", "vendor")
	descSessionEnds = desc("kidoban_session_next_end_timestamp_seconds", "Unix time at which the first of the vendor's open sessions must end; 0: nobody is inside.", "vendor")
	descGrants      = desc("kidoban_grant_active", "Open grants, by vendor: one for each engineer and open window or request.", "vendor")

	descFrozen = desc("kidoban_grants_frozen", "Grants that ended a short while ago, and whose connections the kernel keeps until their grace is over.")

	descInTurn = desc("kidoban_engineers_in_turn", "Engineers whose key was used from two places in turn in the last ten minutes, by vendor.", "vendor")

	descOpen      = desc("kidoban_window_open", "1 if the window is open.", "vendor", "window")
	descNextOpen  = desc("kidoban_window_next_open_timestamp_seconds", "Unix time at which the window opens next; absent: not within 400 days.", "vendor", "window")
	descNextClose = desc("kidoban_window_next_close_timestamp_seconds", "Unix time at which the window closes next; absent: not within 400 days.", "vendor", "window")
	descNextUntil = desc("kidoban_window_next_open_until_timestamp_seconds", "Unix time until which the next opening lasts; absent: not within 400 days.", "vendor", "window")

	descEngineer     = desc("kidoban_engineer_info", "Always 1 for each engineer; the names for people are in the labels, or the short ones where the policy gives none.", "vendor", "engineer", "vendor_name", "engineer_name")
	descSession      = desc("kidoban_session_info", "1 for each engineer or host that is inside; the session's id is the journal's.", "vendor", "engineer", "session")
	descSessionSince = desc("kidoban_session_start_timestamp_seconds", "Unix time at which the engineer's open session began; absent: not inside.", "vendor", "engineer")
	descSessionUntil = desc("kidoban_session_until_timestamp_seconds", "Unix time at which the engineer's open session must end; absent: not inside.", "vendor", "engineer")
	descSeen         = desc("kidoban_engineer_last_seen_timestamp_seconds", "Unix time at which the engineer was last admitted or heard, as far as the journal goes back; 0: never. Of a host behind a plain line the last packet in a session.", "vendor", "engineer")
	descListed       = desc("kidoban_engineer_listed_timestamp_seconds", "Unix time since which policies have listed the engineer's key, or the host, as far as the journal goes back.", "vendor", "engineer")
	descRefused      = desc("kidoban_engineer_last_refusal_timestamp_seconds", "Unix time at which the engineer, the key being proven, was last refused for this reason; absent: not since the gateway started.", "vendor", "engineer", "reason")
)

func (*states) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		ch <- d
	}
}

func (c *states) Collect(ch chan<- prometheus.Metric) {
	s, now := c.source.Snapshot(), c.source.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s.Key != (policy.Key{}) {
		gauge(descDevice, 1, c.device, s.Key.String())
	}
	gauge(descReady, number(s.Ready()))
	for _, about := range []string{view.Journal, view.Clock, view.Policy, view.Key, view.Tunnel, view.Ruleset} {
		gauge(descDoubt, number(s.InDoubt(about)), about)
	}
	gauge(descDoubt, number(s.InDoubt(view.Loop) || s.InDoubt(view.Starting)), view.Loop)
	gauge(descClock, number(s.Synchronized))
	gauge(descJournalSize, float64(s.Journal.Size))
	gauge(descJournalTime, unixSeconds(s.Journal.Checkpoint))
	if name, cosigned, refuses := c.metrics.Witness(); name != "" {
		gauge(descWitness, unixSeconds(cosigned), name)
		gauge(descWitnessRefuses, number(refuses), name)
	}
	gauge(descCopied, unixSeconds(c.metrics.Copied()))
	if last, kept, broken, ok := c.metrics.Probed(); ok {
		gauge(descProbe, unixSeconds(last))
		gauge(descProbeKept, unixSeconds(kept))
		gauge(descProbeBroken, float64(broken))
	}
	for _, sink := range c.metrics.Sinks() {
		gauge(descNoticesLag, float64(sink.Lag), sink.Name)
		for result, n := range map[string]int64{"delivered": sink.Delivered, "failed": sink.Failed, "skipped": sink.Skipped} {
			ch <- prometheus.MustNewConstMetric(descNotices, prometheus.CounterValue, float64(n), sink.Name, result)
		}
	}
	if room, known := c.metrics.Room(); known {
		gauge(descJournalRoom, float64(room))
	}
	gauge(descJournalWaiting, s.Journal.Waiting.Seconds())
	gauge(descRulesetWaiting, s.Ruleset.Seconds())
	shut := s.Shut()
	gauge(descShut, number(shut.All), "all")
	gauge(descShut, float64(len(shut.Vendors)), "vendors")
	gauge(descShut, float64(len(shut.Engineers)), "engineers")
	_, switched := s.Base.Switched()
	gauge(descSwitch, number(switched))
	gauge(descPolicyFile, number(s.File.Error == ""))
	gauge(descPolicyLoaded, unixSeconds(s.File.LoadedAt))
	// Of this network namespace (Documentation/networking/nf_conntrack-sysctl.rst).
	for name, d := range map[string]*prometheus.Desc{"count": descConntrack, "max": descConntrackMost} {
		if text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_" + name); err == nil {
			if n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err == nil {
				gauge(d, n)
			}
		}
	}
	c.metrics.requests.collect(ch)
	c.metrics.evidence(ch)
	if s.Plan.Policy == nil {
		return
	}
	gauge(descPolicy, 1, s.Plan.Policy.Digest)
	gauge(descFrozen, float64(len(s.Plan.Frozen)))
	c.vendors(s, now, gauge)
	c.windows(s, now, gauge)
	c.requests(s, now, gauge)
	engineers := 0
	for _, v := range s.Plan.Policy.Vendors {
		engineers += len(v.Engineers)
	}
	if engineers <= c.metrics.MostEngineers {
		c.engineers(s, ch, gauge)
	}
	// Few have sessions, even if many are listed.
	if len(s.Sessions) <= c.metrics.MostEngineers {
		for _, sess := range s.Sessions {
			if engineers > c.metrics.MostEngineers {
				info(gauge, sess.Vendor, sess.Engineer, sess.Names)
			}
			gauge(descSession, 1, sess.Vendor, sess.Engineer, sess.ID)
			gauge(descSessionSince, unixSeconds(sess.OpenedAt), sess.Vendor, sess.Engineer)
			gauge(descSessionUntil, unixSeconds(sess.Until), sess.Vendor, sess.Engineer)
		}
	}
}

type toGauge func(d *prometheus.Desc, v float64, labels ...string)

// info shows an engineer's names, which others join to series of engineers.
func info(gauge toGauge, vendor, engineer string, n view.Names) {
	gauge(descEngineer, 1, vendor, engineer, cmp.Or(n.VendorName, vendor), cmp.Or(n.EngineerName, engineer))
}

func (c *states) vendors(s *view.Snapshot, now time.Time, gauge toGauge) {
	active, grants, ends := map[string]int{}, map[string]int{}, map[string]time.Time{}
	inTurn := map[string]int{}
	for name, h := range s.Handshakes {
		if vendor, _, _ := strings.Cut(name, "/"); h.InTurn != nil {
			inTurn[vendor]++
		}
	}
	for _, sess := range s.Sessions {
		active[sess.Vendor]++
		if end := ends[sess.Vendor]; end.IsZero() || sess.Until.Before(end) {
			ends[sess.Vendor] = sess.Until
		}
	}
	for _, g := range s.Plan.Grants {
		if g.Contains(now) {
			grants[g.Engineer.Vendor.Name]++
		}
	}
	for _, v := range s.Plan.Policy.Vendors {
		gauge(descVendor, 1, v.Name, cmp.Or(v.DisplayName, v.Name))
		gauge(descActive, float64(active[v.Name]), v.Name)
		gauge(descGrants, float64(grants[v.Name]), v.Name)
		gauge(descSessionEnds, unixSeconds(ends[v.Name]), v.Name)
		gauge(descEngineers, float64(len(v.Engineers)), v.Name)
		if !v.Plain() { // hosts have no keys that could be copied
			gauge(descInTurn, float64(inTurn[v.Name]), v.Name)
		}
		gauge(descVendorShut, number(vendorShut(s.Plan, v)), v.Name)
		if d := v.ContractUntil; !d.IsZero() {
			gauge(descContract, unixSeconds(time.Date(d.Year, d.Month, d.Day+1, 0, 0, 0, 0, s.Plan.Policy.Zone)), v.Name)
		}
	}
}

// vendorShut reports whether the vendor or one it works under was closed, or everything, or each of
// its engineers under the name that another vendor had.
func vendorShut(p *policy.Plan, v *policy.Vendor) bool {
	_, all := p.Shut(policy.All)
	named := slices.ContainsFunc(append(v.Primes(), v.Name), func(name string) bool { _, shut := p.Shut(policy.Scope(name)); return shut })
	return all || named || len(v.Engineers) > 0 && !slices.ContainsFunc(v.Engineers, func(e *policy.Engineer) bool {
		_, reason := p.ShutBy(e)
		return reason != policy.VendorShut
	})
}

func (c *states) windows(s *view.Snapshot, now time.Time, gauge toGauge) {
	open := map[string]bool{}
	for _, g := range s.Plan.Grants {
		if g.Contains(now) {
			open[g.Window.String()] = true
		}
	}
	for _, w := range s.Plan.Windows {
		if w.Window.IsRequest() { // there would be more series with each request
			continue
		}
		vendor, window := w.Window.Vendor.Name, w.Window.Name
		gauge(descOpen, number(open[w.Window.String()]), vendor, window)
		if !w.Next.IsZero() {
			gauge(descNextOpen, unixSeconds(w.Next.From), vendor, window)
			gauge(descNextUntil, unixSeconds(w.Next.Until), vendor, window)
		}
		if first := cmp.Or(w.Current, w.Next); !first.IsZero() {
			gauge(descNextClose, unixSeconds(first.Until), vendor, window)
		}
	}
}

func (c *states) engineers(s *view.Snapshot, ch chan<- prometheus.Metric, gauge toGauge) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	listed, seen, refused := c.metrics.copy()
	for _, v := range s.Plan.Policy.Vendors {
		for _, e := range v.Engineers {
			info(gauge, v.Name, e.Name, view.NamesOf(e))
			gauge(descSeen, unixSeconds(seen[e.Key]), v.Name, e.Name)
			gauge(descListed, unixSeconds(listed[e.Key]), v.Name, e.Name)
			if !e.Plain() { // a host is no peer
				key, t := e.Key.String(), s.Traffic[e.Key]
				gauge(descPeer, 1, c.device, key, e.String())
				counter(descPeerReceived, t.Received, key)
				counter(descPeerSent, t.Transmitted, key)
				gauge(descPeerHandshake, unixSeconds(t.LastHandshake), key)
			}
		}
	}
	for r, at := range refused {
		if e := s.Plan.ByKey(r.key); e != nil {
			gauge(descRefused, unixSeconds(at), e.Vendor.Name, e.Name, r.reason.String())
		}
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
