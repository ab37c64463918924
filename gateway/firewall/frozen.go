package firewall

import (
	"maps"
	"net/netip"

	"kidoban/gateway/policy"
)

// flowEnds has the ends of flows, by set and key.
type flowEnds map[string]map[string]end

// freeze works out the flows that are closed and that conntrack keeps, by the plan's frozen
// grants; and those that the rules open again in time. Only a flow that was open or frozen until
// now can be either, so a start keeps none. A flow in coming gets another owner. Both clocks bound
// a frozen flow.
func (f *ruleset) freeze(plan *policy.Plan, rules *Rules, coming map[netip.Addr]policy.Key, now instant) (frozen, resumed flowEnds) {
	frozen, resumed = flowEnds{}, flowEnds{}
	if f.held == nil || plan == nil || plan.Policy == nil || plan.Doubt != "" {
		return frozen, resumed
	}
	for _, s := range f.held.rules.sets {
		if s.holdsFlows() {
			frozen[s.name], resumed[s.name] = map[string]end{}, map[string]end{}
		}
	}
	expanded := map[*policy.Target][]string{}
	for _, g := range plan.Frozen {
		f.freezeGrant(frozen, rules, g, coming, expanded, now)
	}
	// A plan that is still in force shortly after the end of a grant.
	for _, g := range plan.Grants {
		if g.Window.Grace > 0 && !g.Until.After(now.wall) {
			f.freezeGrant(frozen, rules, policy.Frozen{Grant: g, Until: g.Until.Add(g.Window.Grace)}, coming, expanded, now)
		}
	}
	for set, flows := range f.flows.frozen {
		for key, e := range flows {
			if open := rules.set(set); open != nil && e.lasts(now) && open.elements[key].Sub(now.wall) >= shortest {
				resumed[set][key] = e
			}
		}
	}
	return frozen, resumed
}

// freezeGrant adds the flows of a frozen grant that were open or frozen until now.
func (f *ruleset) freezeGrant(to flowEnds, rules *Rules, g policy.Frozen, coming map[netip.Addr]policy.Key, expanded map[*policy.Target][]string, now instant) {
	left := g.Until.Sub(now.wall)
	if left <= 0 {
		return
	}
	for _, t := range g.Grant.Window.Targets {
		set := name("flows", familyOf(t.Prefix.Addr()))
		destinations, known := expanded[t]
		if !known {
			destinations, _ = expand(t) // what cannot be opened never was
			expanded[t] = destinations
		}
		for _, a := range g.Grant.Engineer.Addresses {
			if _, comes := coming[a]; comes || familyOf(a) != familyOf(t.Prefix.Addr()) {
				continue
			}
			for _, key := range destinations {
				key = string(a.AsSlice()) + key
				if next := rules.set(set); next != nil && next.elements[key].After(now.wall) {
					continue // another grant opens it
				}
				until := end{g.Until, now.boot + left, false}
				before, was := f.flows.frozen[set][key]
				_, opened := f.held.ends[set][key]
				switch {
				case opened:
				case was && before.lasts(now):
					until.boot = min(until.boot, before.boot)
				default:
					continue
				}
				if have := to[set][key]; until.boot > have.boot {
					to[set][key] = until
				}
			}
		}
	}
}

// lasts reports whether an end is still to come, by both clocks.
func (e end) lasts(now instant) bool { return e.boot > now.boot && e.wall.After(now.wall) }

// thawed reports whether conntrack keeps a flow that is frozen no more.
func (c *connections) thawed(frozen flowEnds) bool {
	for set, flows := range c.frozen {
		for key := range flows {
			if _, ok := frozen[set][key]; !ok {
				return true
			}
		}
	}
	return false
}

// and gives the flows of both.
func (a flowEnds) and(b flowEnds) flowEnds {
	both := flowEnds{}
	for _, ends := range []flowEnds{a, b} {
		for set, flows := range ends {
			if both[set] == nil {
				both[set] = map[string]end{}
			}
			maps.Copy(both[set], flows)
		}
	}
	return both
}
