package firewall

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kidoban/gateway/view"
)

// TestFault80RewritingIsNewsForAWhile: who rewrites is looked up only when more
// was refused, and not all the time; operators hear of it for ten minutes.
func TestFault80RewritingIsNewsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refusing
		var chains []string
		var failure error
		looked := 0
		step := func(what string, packets uint64, wantLooked int, want string) {
			t.Helper()
			r.counted(packets, func() view.Message {
				return rewritten(func() ([]string, error) { looked++; return chains, failure })
			})
			got := ""
			for _, h := range r.hints() {
				got += h.Message.String()
			}
			if looked != wantLooked || (got == "") != (want == "") || !strings.HasSuffix(got, want) {
				t.Errorf("%s: looked %d times, want %d; hint %q, want one that ends with %q", what, looked, wantLooked, got, want)
			}
		}
		chains = []string{"chain pre of table ip nat"}
		step("nothing was refused", 0, 0, "")
		step("the first", 1, 1, "may be in chain pre of table ip nat")
		time.Sleep(time.Second)
		chains = append(chains, "chain b of table ip b")
		step("more, a second later", 5, 1, "may be in chain pre of table ip nat")
		time.Sleep(refusingAgain)
		step("what came meanwhile", 5, 2, "may be in chain pre of table ip nat, chain b of table ip b")
		time.Sleep(refusingRecent - time.Second)
		step("no more for nearly ten minutes", 5, 2, "chain b of table ip b")
		time.Sleep(time.Second)
		step("no more for ten minutes", 5, 2, "")
		step("the table was made anew", 0, 2, "")
		chains = []string{"a", "b", "c", "d", "e"}
		step("the first in it", 1, 3, "may be in a, b, c, d and 1 more")
		time.Sleep(refusingAgain)
		failure = errors.New("busy")
		step("the chains cannot be read", 2, 4, "`iptables-save -t nat`")
	})
}

// TestFault75GoingAstrayIsNewsWhenItLasts: a few packets by a wrong interface are
// no news, nor are those before new routes are looked up; more, in the same minute, are.
func TestFault75GoingAstrayIsNewsWhenItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refusing{lasting: true}
		step := func(what string, packets uint64, want bool) {
			t.Helper()
			r.counted(packets, func() view.Message { return view.Say("sidetracked", nil) })
			if got := len(r.hints()) > 0; got != want {
				t.Errorf("%s: a hint: %t, want %t", what, got, want)
			}
		}
		step("the first", 3, false)
		time.Sleep(refusingAgain / 2)
		step("more, at once", 9, false)
		time.Sleep(refusingAgain)
		step("what came then, and is old", 9, false)
		time.Sleep(refusingLasts)
		step("more, long after", 10, false)
		r.forget()
		time.Sleep(refusingAgain)
		step("the first by other routes", 11, false)
		time.Sleep(refusingAgain)
		step("more, soon after", 14, true)
		r.forget()
		step("other routes", 14, false)
		time.Sleep(refusingAgain)
		step("the first by these", 15, false)
		time.Sleep(refusingAgain)
		step("more, soon after", 16, true)
		time.Sleep(refusingRecent - time.Second)
		step("no more for nearly ten minutes", 16, true)
		time.Sleep(time.Second)
		step("no more for ten minutes", 16, false)
	})
}
