package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"kidoban/gateway/journal"
	"kidoban/gateway/lab"
	"kidoban/gateway/policy"
)

// TestPromise6DoubtIsClosed: in every doubt nobody enters and nobody stays,
// the reason is shown, status and metrics stay up, and a command leads out.
func TestPromise6DoubtIsClosed(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name     string
		scenario func(*ground)
		breaks   []string // of which each scenario without the layer is found
	}{
		{"no policy", noPolicy, []string{"doubt", "entered"}},
		{"a bad policy at start", badPolicy, []string{"doubt", "entered"}},
		{"a bad policy on reload", badReload, []string{"reload"}},
		{"a journal that does not verify", damagedJournal, []string{"doubt", "entered"}},
		{"a clock that went back", clockBack, []string{"doubt", "entered", "stayed"}},
		{"a foreign flowtable", foreignFlowtable, []string{"doubt"}},
		{"a ruleset that was changed", changedRuleset, []string{"changed"}},
		{"a table that somebody else took", takenTable, []string{"doubt"}},
		{"a private key that is gone", lostKey, []string{"doubt"}},
		{"another private key", otherKey, []string{"doubt"}},
		{"a TUN that is gone", lostTUN, []string{"doubt"}},
		{"a TUN that was renamed", renamedTUN, []string{"doubt"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			// Without a policy or a tunnel nobody enters whatever is heeded.
			hold(t, x.scenario, trial{without: []string{doubtLayer}, breaks: x.breaks, may: []string{"entered", "stayed", "out"}})
		})
	}
}

// good is a policy that lets sato in, also kept where a gateway that heeds no
// doubt finds it.
func (g *ground) good() string {
	g.t.Helper()
	text := g.policyText([]string{hour("work", "ehr, ehr6")}, []string{nextYear("later", "pacs")})
	g.write(g.policyFile()+".good", text)
	return text
}

// doubtful holds that the gateway is shut, says why, and lets nobody in.
func (g *ground) doubtful(why string, c *lab.Client) {
	g.t.Helper()
	g.holds(g.shutInDoubt(why), "doubt")
	if len(g.without) > 0 {
		// It is to be found that both happen.
		if g.enter(c, g.eventually()) == nil {
			g.breaks("entered: sato, in doubt about %q", why)
		}
		if g.works() == nil {
			g.breaks("stayed: sato reaches the hospital, in doubt about %q", why)
		}
		return
	}
	if g.enter(c, 1500*time.Millisecond) == nil {
		g.breaks("entered: sato, in doubt about %q", why)
	}
	if _, err := g.medisys.Ping(g.within(patience), ehr4); err == nil {
		g.breaks("stayed: sato reaches the hospital, in doubt about %q", why)
	}
}

// leadsOut holds that a command ends the doubt: sato enters and works.
func (g *ground) leadsOut(c *lab.Client, command ...string) {
	g.t.Helper()
	out, complaint, exit := g.operator(command...)
	if exit != exitYes {
		g.breaks("out: kidoban %s: exit %d: %s%s", strings.Join(command, " "), exit, out, complaint)
	}
	g.expect("out", g.eventually(), func() error {
		if s := g.status(); !s.Ready {
			return fmt.Errorf("still not ready: %s", s.NotReadyReason)
		}
		return nil
	})
	g.holds(g.enter(c, g.eventually()), "out: sato cannot enter after kidoban %s", strings.Join(command, " "))
	g.holds(g.works(), "out: sato cannot work after kidoban %s", strings.Join(command, " "))
	if code, _, err := g.get("/readyz"); err != nil || code != 200 {
		g.breaks("out: /readyz says %d, %v", code, err)
	}
}

// works tells whether sato reaches the hospital.
func (g *ground) works() error {
	return lab.Wait(g.within(g.eventually()), func() error {
		_, err := g.medisys.Ping(g.within(300*time.Millisecond), ehr4)
		return err
	})
}

// inside has sato in, at work.
func (g *ground) inside() *lab.Client {
	g.t.Helper()
	c := g.client(g.medisys, sato, 4)
	g.mustEnter(c)
	g.check(g.works())
	return c
}

func noPolicy(g *ground) {
	text := g.good()
	g.start()
	c := g.client(g.medisys, sato, 4)
	g.doubtful("no policy in force", c)
	g.write(g.policyFile(), text)
	g.leadsOut(c, "reload")
}

func badPolicy(g *ground) {
	text := g.good()
	g.write(g.policyFile(), strings.Replace(text, "tcp/22", "tcp/70000", 1))
	g.start()
	c := g.client(g.medisys, sato, 4)
	g.doubtful("tcp/70000", c)
	g.write(g.policyFile(), text)
	g.leadsOut(c, "reload")
}

func badReload(g *ground) {
	text := g.good()
	g.write(g.policyFile(), text)
	g.startReady()
	g.inside()
	before := g.status().Policy.Digest
	g.write(g.policyFile(), strings.Replace(text, "tcp/22", "tcp/70000", 1))
	_, complaint, exit := g.operator("reload")
	if exit != exitFailed || !strings.Contains(complaint, "tcp/70000") {
		g.breaks("reload: of a bad policy: exit %d, %q", exit, complaint)
	}
	s := g.status()
	if !s.Ready || s.Policy.FileOK || !strings.Contains(s.Policy.Error, "tcp/70000") {
		g.breaks("reload: status after a bad policy: ready %v, the file would survive a restart: %v, its error %q", s.Ready, s.Policy.FileOK, s.Policy.Error)
	}
	if s.Policy.Digest != before {
		g.breaks("reload: a bad policy is in force: %s", s.Policy.Digest)
	}
	if out, _, _ := g.operator("status"); !strings.Contains(out, "THE FILE ON DISK WOULD NOT SURVIVE A RESTART") {
		g.breaks("reload: status for people does not tell of the bad file:\n%s", out)
	}
	if _, metrics, err := g.get("/metrics"); err != nil || !strings.Contains(metrics, "\nkidoban_policy_reload_successful 0\n") {
		g.breaks("reload: the metrics do not tell of the bad file: %v", err)
	}
	g.holds(g.works(), "inside: sato was cut by a bad policy")
	g.write(g.policyFile(), text)
	g.must("reload")
	if s := g.status(); !s.Ready || !s.Policy.FileOK {
		g.breaks("out: status after the mended policy: ready %v, the file would survive a restart: %v", s.Ready, s.Policy.FileOK)
	}
	g.holds(g.works(), "inside: sato was cut by the same policy once more")
}

func damagedJournal(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.stop()
	changed := 0
	err := filepath.WalkDir(filepath.Join(g.stateDir(), "journal", "tile", "entries"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// Tracks are covered: the handshake came from another address.
		covered := bytes.ReplaceAll(text, []byte("203.0.113.10"), []byte("203.0.113.14"))
		if bytes.Equal(covered, text) {
			return nil
		}
		changed++
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(path, covered, info.Mode())
	})
	if err != nil || changed == 0 {
		g.t.Fatalf("%d files of the journal changed: %v", changed, err)
	}
	g.start()
	g.doubtful("the journal does not open", c)
	if _, _, exit := g.operator("journal", "verify"); exit != exitNo {
		g.breaks("out: kidoban journal verify: exit %d of a damaged journal, want %d", exit, exitNo)
	}
	g.leadsOut(c, "recover", "--reason", "a disk was exchanged")
	if _, complaint, exit := g.operator("journal", "verify"); exit != exitYes {
		g.breaks("out: kidoban journal verify: exit %d of the new journal: %s", exit, complaint)
	}
}

func lostKey(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.stop()
	g.check(os.Remove(g.keyFile()))
	g.startAsItIs()
	g.doubtful(g.keyFile(), c)
	g.writeKey(g.privateKey)
	g.leadsOut(c, "reload")
}

func otherKey(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.stop()
	other, public := lab.NewKey()
	g.writeKey(other)
	g.startAsItIs()
	g.doubtful("its public key is "+policy.Key(public).String(), c)
	c.Close()
	g.publicKey = public
	g.leadsOut(g.client(g.medisys, sato, 4), "recover", "--reason", "keys exchanged")
}

func clockBack(g *ground) {
	g.write(g.offsetFile(), "0s")
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.write(g.offsetFile(), "-20s")
	g.doubtful("the clock went back", c)
	g.leadsOut(c, "recover", "--reason", "the time server was wrong")
}

// foreignFlowtable has somebody else offload flows past every rule.
func foreignFlowtable(g *ground) {
	const table = "add table inet other; add flowtable inet other fast { hook ingress priority 0; devices = { lan0 }; }"
	if out, err := g.gateway.Command(g.within(5*time.Second), "nft", table).CombinedOutput(); err != nil {
		g.t.Skipf("this kernel makes no flowtable (nf_flow_table is missing): %v: %s", err, out)
	}
	g.mustRun(g.gateway, "nft", "delete", "table", "inet", "other")
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.mustRun(g.gateway, "nft", table)
	g.doubtful("flowtable", c)
	g.mustRun(g.gateway, "nft", "delete", "table", "inet", "other")
	g.leadsOut(c, "recover", "--reason", "the flowtable is gone")
}

// changedRuleset has others flush and delete all rules, which must not reach
// the gateway's, and then changes its rules through its own connection, as
// only a fault of the gateway itself could: that is seen, recorded and mended.
func changedRuleset(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	g.inside()
	closed := func(when string) {
		if g.try(flowTry{"", g.outsider, "icmp", netip.AddrPortFrom(ehr4, 0)}, patience) == nil {
			g.breaks("passed: the outsider reaches the hospital %s", when)
		}
		g.holds(g.works(), "changed: sato cannot work %s", when)
	}
	g.mustRun(g.gateway, "nft", "flush", "ruleset")
	for _, command := range []string{"delete table inet kidoban", "flush chain inet kidoban forward", "add rule inet kidoban forward accept"} {
		if err := g.gateway.Command(g.within(5*time.Second), "nft", command).Run(); err == nil {
			g.breaks("passed: somebody else did `nft %s`", command)
		}
	}
	closed("after a flush")
	g.asOwner(deletion(g.t, unix.NFT_MSG_DELRULE, "kidoban", "forward"))
	g.expect("changed", g.eventually(), func() error {
		drifts := g.entries(journal.Drift)
		if len(drifts) == 0 || !strings.Contains(drifts[0].Text, "forward") {
			return fmt.Errorf("the journal has no drift of the chain forward: %+v", drifts)
		}
		_, metrics, err := g.get("/metrics")
		if err == nil && !strings.Contains(metrics, "\nkidoban_ruleset_drift_total 1\n") {
			err = errors.New("the metrics count no drift")
		}
		return err
	})
	closed("after its rules were mended")
}

// takenTable has the gateway's table deleted through its own connection, and
// somebody else own a table of that name, while the process is stopped so that
// it cannot write its own anew in between.
func takenTable(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	other := g.gateway.Command(g.within(time.Minute), "nft", "-i") // it owns what it makes for as long as it runs
	commands, err := other.StdinPipe()
	if err == nil {
		err = other.Start()
	}
	g.check(err)
	g.signal(syscall.SIGSTOP)
	g.asOwner(deletion(g.t, unix.NFT_MSG_DELTABLE, "kidoban"))
	if _, err := io.WriteString(commands, "add table inet kidoban { flags owner; }\n"); err != nil {
		g.t.Fatal(err)
	}
	lab.WaitFor(g.t, eventually, "the other program has its table", func() bool {
		return g.gateway.Command(g.within(5*time.Second), "nft", "list", "table", "inet", "kidoban").Run() == nil
	})
	g.signal(syscall.SIGCONT)
	g.doubtful("the ruleset is not as planned", c)
	commands.Close()
	g.check(other.Wait())
	g.leadsOut(c, "recover", "--reason", "the other program is gone")
}

// asOwner sends a transaction through the socket of the gateway's process
// that owns the table, the first of its kind.
func (g *ground) asOwner(transaction []byte) {
	g.t.Helper()
	process := g.process.Process.Pid
	pidfd, err := unix.PidfdOpen(process, 0)
	g.check(err)
	defer unix.Close(pidfd)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", process))
	g.check(err)
	var numbers []int
	for _, o := range open {
		number, err := strconv.Atoi(o.Name())
		g.check(err)
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		defer unix.Close(fd)
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		protocol, protocolErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil || protocolErr != nil || domain != unix.AF_NETLINK || protocol != unix.NETLINK_NETFILTER {
			continue
		}
		g.check(unix.Sendto(fd, transaction, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
		return
	}
	g.t.Fatal("the gateway's process has no netfilter socket")
}

// deletion is a transaction that deletes a table, or all rules of a chain,
// by their names (linux/netfilter/nfnetlink.h, nf_tables.h).
func deletion(t testing.TB, kind netlink.HeaderType, names ...string) []byte {
	t.Helper()
	var all []netlink.Attribute
	for i, name := range names { // NFTA_TABLE_NAME or NFTA_RULE_TABLE, NFTA_RULE_CHAIN
		all = append(all, netlink.Attribute{Type: uint16(i + 1), Data: []byte(name + "\x00")})
	}
	attributes, err := netlink.MarshalAttributes(all)
	if err != nil {
		t.Fatal(err)
	}
	var batch []byte
	for _, m := range []struct {
		kind netlink.HeaderType
		data []byte
	}{
		{unix.NFNL_MSG_BATCH_BEGIN, []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}},
		{unix.NFNL_SUBSYS_NFTABLES<<8 | kind, append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attributes...)},
		{unix.NFNL_MSG_BATCH_END, []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}},
	} {
		text, err := (&netlink.Message{Header: netlink.Header{Type: m.kind, Flags: netlink.Request, Length: uint32(16 + len(m.data))}, Data: m.data}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, text...)
	}
	return batch
}

func lostTUN(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.mustRun(g.gateway, "ip", "link", "delete", g.device)
	g.doubtful("tunnel", c)
	g.leadsOut(c, "recover", "--reason", "the interface was deleted")
}

func renamedTUN(g *ground) {
	g.write(g.policyFile(), g.good())
	g.startReady()
	c := g.inside()
	g.mustRun(g.gateway, "ip", "link", "set", g.device, "down")
	g.mustRun(g.gateway, "ip", "link", "set", g.device, "name", "other0")
	g.mustRun(g.gateway, "ip", "link", "set", "other0", "up")
	g.doubtful("tunnel", c)
	g.leadsOut(c, "recover", "--reason", "the interface was renamed")
}
